//! Logging in, and calls of the admin service.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    response::{AppendHeaders, IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use prost_reflect::DynamicMessage;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::{
    Shared,
    answer::{self, refusal},
    bridge::{self, Answers, Asker},
    cookie,
    sessions::{Session, Sessions},
};
use crate::{
    admin::access::Role,
    audit::{self, Door},
    clock,
    domain::time::Instant,
    door::{peer::PeerIdentity, token::Hash},
};

/// With it a page says that it asks by itself, and that nobody uses the session.
const BACKGROUND: &str = "x-background";
const CSRF: &str = "x-csrf-token";
/// A token, and what stands around it.
const LOGIN_BYTES_MAX: usize = 4_096;
/// A thousand ids, and more.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const NOT_LOGGED_IN: &str = "log in first";

/// An operator that is logged in, or that need not be.
pub(super) struct LoggedIn {
    /// The hash of the session's name.
    pub(super) id: Hash,
    pub(super) session: Session,
    pub(super) asker: Asker,
    name: Arc<str>,
    pub(super) role: Role,
}

impl LoggedIn {
    /// Who sends the request. Does not come about where its session is over, or its credential is
    /// not taken any more.
    pub(super) fn of(shared: &Shared, request: &Request) -> Option<Self> {
        match request.headers().contains_key(BACKGROUND) {
            true => Self::that_listens(shared, request),
            false => Self::found(shared, request, Sessions::ask),
        }
    }

    /// The same, where that it listens does not count as a use of the session.
    pub(super) fn that_listens(shared: &Shared, request: &Request) -> Option<Self> {
        Self::found(shared, request, Sessions::look)
    }

    fn found(
        shared: &Shared,
        request: &Request,
        find: fn(&Sessions, &str, Instant) -> Option<Session>,
    ) -> Option<Self> {
        let name = cookie::find(request.headers(), &cookie::name(request))?;
        let session = find(&shared.sessions, name, clock::now().instant)?;
        let id = Hash::of(name);
        let Some((name, role)) = shared.admins.identify(session.credential) else {
            shared.sessions.end(id);
            return None;
        };
        let asker = Asker { credential: session.credential, peer: peer(request) };
        Some(Self { id, session, asker, name, role })
    }

    fn answer(&self, shared: &Shared) -> Response {
        let role = match self.role {
            Role::Reader => "reader",
            Role::Operator => "operator",
        };
        Json(json!({
            "name": &*self.name,
            "role": role,
            "csrf": self.session.csrf,
            "login_required": shared.admins.ask_for_credentials(),
        }))
        .into_response()
    }
}

/// Who is logged in. Where no credential is asked for, whoever comes is.
pub(super) async fn session(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match LoggedIn::of(&shared, &request) {
        Some(logged_in) => logged_in.answer(&shared),
        None if shared.admins.ask_for_credentials() => {
            refusal(StatusCode::UNAUTHORIZED, NOT_LOGGED_IN)
        }
        None => begin(&shared, None, &request),
    }
}

#[derive(Deserialize)]
struct Login {
    token: SecretString,
}

/// Lets in who has an operator's token.
pub(super) async fn login(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    // A form of another page's can send none of this.
    if content_type.and_then(|it| it.to_str().ok()).is_none_or(|it| !is_json(it)) {
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json");
    }
    let peer = peer(&request);
    if peer.is_some_and(|peer| !shared.logins.may_try(peer.ip())) {
        let why = "too many tries to log in from this address: wait a minute";
        return refusal(StatusCode::TOO_MANY_REQUESTS, why);
    }
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Body::empty());
    let Some(body) = read(body, LOGIN_BYTES_MAX).await else {
        return refusal(StatusCode::BAD_REQUEST, "the request is too long, or was cut off");
    };
    // What is wrong with it is not said: it holds the token.
    let Ok(Login { token }) = serde_json::from_slice(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "expected {\"token\": \"...\"}");
    };
    let asked_for = shared.admins.ask_for_credentials();
    let credential = asked_for.then(|| Hash::of(token.expose_secret().trim()));
    let Some((name, _)) = shared.admins.identify(credential) else {
        audit::authentication_failed(Door::Admin, peer);
        return refusal(StatusCode::UNAUTHORIZED, "no operator has this token");
    };
    audit::console_entered(&name, peer);
    begin(&shared, credential, &request)
}

/// Begins a session, in the place of the one that there may be.
fn begin(shared: &Shared, credential: Option<Hash>, request: &Request) -> Response {
    let name_of_cookie = cookie::name(request);
    if let Some(old) = cookie::find(request.headers(), &name_of_cookie) {
        shared.sessions.end(Hash::of(old));
    }
    let Some((name, role)) = shared.admins.identify(credential) else {
        return refusal(StatusCode::UNAUTHORIZED, NOT_LOGGED_IN);
    };
    let (secret, session) = shared.sessions.begin(credential, clock::now().instant);
    let asker = Asker { credential, peer: peer(request) };
    let logged_in = LoggedIn { id: Hash::of(&secret), session, asker, name, role };
    let cookie = cookie::set(&name_of_cookie, &secret, shared.is_secure);
    (AppendHeaders([(header::SET_COOKIE, cookie)]), logged_in.answer(shared)).into_response()
}

/// Ends a session.
pub(super) async fn logout(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let logged_in = match admit(&shared, &request) {
        Ok(logged_in) => logged_in,
        Err(refusal) => return *refusal,
    };
    shared.sessions.end(logged_in.id);
    audit::console_left(&logged_in.name, logged_in.asker.peer);
    let cookie = cookie::set(&cookie::name(&request), "", shared.is_secure) + "; Max-Age=0";
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Calls a method.
pub(super) async fn rpc(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let logged_in = match admit(&shared, &request) {
        Ok(logged_in) => logged_in,
        Err(refusal) => return *refusal,
    };
    let Some(body) = read(request.into_body(), REQUEST_BYTES_MAX).await else {
        let why = "the request is too long, or was cut off";
        return answer::of_status(&tonic::Status::invalid_argument(why));
    };
    let question = match shared.bridge.question(&method, &body) {
        Ok(question) => question,
        Err(status) => return answer::of_status(&status),
    };
    let (path, is_stream) = (question.path(), question.is_answered_by_stream());
    let answers = match shared.bridge.ask(question, logged_in.asker).await {
        Ok(answers) => answers,
        Err(status) => return answer::of_status(&status),
    };
    if is_stream {
        return lines(&shared, logged_in, path, answers, bridge::json);
    }
    match answers.one().await {
        Ok(message) => {
            ([(header::CONTENT_TYPE, "application/json")], bridge::json(&message)).into_response()
        }
        Err(status) => answer::of_status(&status),
    }
}

#[derive(Deserialize)]
pub(super) struct Export {
    #[serde(default)]
    app: String,
    reason: Option<String>,
    #[serde(default)]
    include_closed: bool,
}

/// Everything of a kind, as a file to keep.
pub(super) async fn export(
    State(shared): State<Arc<Shared>>,
    Path(what): Path<String>,
    Query(query): Query<Export>,
    request: Request,
) -> Response {
    let Some(logged_in) = LoggedIn::of(&shared, &request) else {
        return refusal(StatusCode::UNAUTHORIZED, NOT_LOGGED_IN);
    };
    let Export { app, reason, include_closed } = query;
    let (method, asked, line): (_, _, Line) = match &*what {
        "dead-letters" => {
            let reason = reason.filter(|reason| !reason.is_empty());
            let filter = reason.map(|reason| json!({ "reason": reason }));
            let asked = json!({ "app": app, "filter": filter, "include_closed": include_closed });
            ("ExportDeadLetters", asked, dead_letter)
        }
        "pending" => ("ExportPending", json!({ "app": app }), bridge::json),
        _ => return refusal(StatusCode::NOT_FOUND, "there is no such export"),
    };
    let question = shared.bridge.question(method, asked.to_string().as_bytes());
    let (path, answers) = match question {
        Ok(question) => (question.path(), shared.bridge.ask(question, logged_in.asker).await),
        Err(status) => return answer::of_status(&status),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(status) => return answer::of_status(&status),
    };
    // An app has got here if it is called so: its name is of harmless letters.
    let of = if app.is_empty() { app } else { format!("-{app}") };
    let disposition = format!("attachment; filename=\"{what}{of}.ndjson\"");
    let mut answer = lines(&shared, logged_in, path, answers, line);
    if let Ok(disposition) = disposition.try_into() {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    answer
}

pub(super) async fn nothing() -> Response {
    refusal(StatusCode::NOT_FOUND, "there is nothing here")
}

/// How a message looks in a line.
type Line = fn(&DynamicMessage) -> Vec<u8>;

/// The letter alone.
fn dead_letter(message: &DynamicMessage) -> Vec<u8> {
    let letter = message.get_field_by_name("dead_letter");
    let letter = letter.as_ref().and_then(|letter| letter.as_message());
    letter.map(bridge::json).unwrap_or_default()
}

/// Answers as JSON, each in a line. One that says what went wrong is the last.
fn lines(
    shared: &Arc<Shared>,
    logged_in: LoggedIn,
    path: String,
    answers: Answers,
    line: Line,
) -> Response {
    let (credential, role) = (logged_in.asker.credential, logged_in.role);
    let revoked = Box::pin(shared.admins.clone().revoked(credential, path, role));
    let ended = logged_in.session.ended.cancelled_owned();
    let state = Some((answers, revoked, Box::pin(ended)));
    let lines = stream::unfold(state, move |state| async move {
        let (mut answers, mut revoked, mut ended) = state?;
        let next = tokio::select! {
            biased;
            status = &mut revoked => Some(Err(status)),
            () = &mut ended => Some(Err(tonic::Status::unauthenticated(NOT_LOGGED_IN))),
            next = answers.next() => next,
        };
        let (mut json, state) = match next? {
            Ok(message) => (line(&message), Some((answers, revoked, ended))),
            Err(status) => {
                (json!({ "error": answer::as_json(&status) }).to_string().into_bytes(), None)
            }
        };
        json.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(json)), state))
    });
    let body = Body::from_stream(lines.boxed());
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Who sends a request that may change something, and has the session's token to show for it.
fn admit(shared: &Shared, request: &Request) -> Result<LoggedIn, Box<Response>> {
    let logged_in = LoggedIn::of(shared, request)
        .ok_or_else(|| Box::new(refusal(StatusCode::UNAUTHORIZED, NOT_LOGGED_IN)))?;
    let shown = request.headers().get(CSRF).map(|token| token.as_bytes()).unwrap_or_default();
    if !bool::from(shown.ct_eq(logged_in.session.csrf.as_bytes())) {
        let why = "the header x-csrf-token is not that of the session";
        return Err(Box::new(refusal(StatusCode::FORBIDDEN, why)));
    }
    Ok(logged_in)
}

/// A body that is as long as it may be; else nothing.
async fn read(body: Body, bytes_max: usize) -> Option<Bytes> {
    Limited::new(body, bytes_max).collect().await.ok().map(|body| body.to_bytes())
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn peer(request: &Request) -> Option<std::net::SocketAddr> {
    request.extensions().get().map(|peer: &PeerIdentity| peer.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_says_that_it_is() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain; a=application/json", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }
}
