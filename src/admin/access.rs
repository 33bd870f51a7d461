//! Which operator calls, and what it may do.

mod guarded;

use std::{future, net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Extensions, StatusCode, header};
use tokio::sync::watch;
use tonic::Status;

use self::guarded::Guarded;
use crate::{
    audit::{self, Door},
    door::{
        caller::ANYONE,
        peer::PeerIdentity,
        refusal::{CHALLENGE, Refusal},
        token::{Hash, Presented, Schemes, presented},
    },
};

/// What an operator may do. The order is that of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See the state, jobs and lists.
    Reader,
    /// See everything, and change it.
    Operator,
}

/// An operator and its credentials.
#[derive(Clone, Debug)]
pub struct AdminGrant {
    /// Its name in the audit log.
    pub name: String,
    /// The hashes of its tokens.
    pub tokens: Vec<Hash>,
    /// What it may do.
    pub role: Role,
}

/// Who calls. Stands in the extensions of each request to the admin service.
#[derive(Clone, Debug)]
pub struct Who {
    name: Arc<str>,
    peer: Option<SocketAddr>,
    role: Role,
}

/// All operators. Clones are of the same; a reload replaces what they know.
#[derive(Clone, Debug)]
pub struct Admins(Arc<watch::Sender<Vec<(Hash, Known)>>>);

#[derive(Clone, Debug)]
struct Known {
    name: Arc<str>,
    role: Role,
}

/// Why an operator may not do what it asks for.
enum Denied<'a> {
    /// It has no valid credential.
    Unknown,
    /// It has another role than that takes.
    Reader { name: &'a str, method: &'a str },
}

impl From<Denied<'_>> for Status {
    fn from(denied: Denied<'_>) -> Self {
        match denied {
            Denied::Unknown => Refusal::Unauthenticated.into(),
            Denied::Reader { method, .. } => {
                let words = format!("{method} is for admins with the role \"operator\"");
                Self::permission_denied(words)
            }
        }
    }
}

/// What a reader may call. All else, and what comes to be, is for operators: also what shows the
/// values of records, which are of users.
const READERS: [&str; 10] = [
    "/userpilot_gateway.v1.AdminService/GetStatus",
    "/userpilot_gateway.v1.AdminService/WatchStatus",
    "/userpilot_gateway.v1.AdminService/ListJobs",
    "/userpilot_gateway.v1.AdminService/GetJob",
    "/userpilot_gateway.v1.AdminService/ListDeadLetters",
    "/userpilot_gateway.v1.AdminService/ListClients",
    "/userpilot_gateway.v1.AdminService/GetHistory",
    "/userpilot_gateway.v1.AdminService/GetConfig",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Admins {
    /// Those of `grants`; whoever calls, where there are none.
    pub fn new(grants: Vec<AdminGrant>) -> Self {
        Self(Arc::new(watch::Sender::new(table(grants))))
    }

    /// Lets in those of `grants`, and nobody else, from now on: answers that are under way end
    /// where they are for others.
    pub fn replace(&self, grants: Vec<AdminGrant>) {
        self.0.send_replace(table(grants));
    }

    fn admit(&self, request: &Request) -> Result<Who, Status> {
        self.admit_to(request.uri().path(), credential(request), peer(request))
    }

    /// Who has shown `credential`, if it may call `path`, a method's. Whoever may not is on record.
    pub fn admit_to(
        &self,
        path: &str,
        credential: Option<Hash>,
        peer: Option<SocketAddr>,
    ) -> Result<Who, Status> {
        match judge(&self.0.borrow(), credential, path) {
            Ok(Known { name, role }) => Ok(Who { name, peer, role }),
            Err(denied) => {
                match denied {
                    Denied::Unknown => audit::authentication_failed(Door::Admin, peer),
                    Denied::Reader { name, method } => audit::admin_refused(name, method),
                }
                Err(denied.into())
            }
        }
    }

    /// The name and role of who has shown `credential`; whoever calls where none is asked for.
    pub fn identify(&self, credential: Option<Hash>) -> Option<(Arc<str>, Role)> {
        let known = self.0.borrow();
        if known.is_empty() {
            return Some((ANYONE.into(), Role::Operator));
        }
        let found = credential.and_then(|hash| hash.find(&known));
        found.map(|Known { name, role }| (name.clone(), *role))
    }

    /// Whether a credential is asked for.
    pub fn ask_for_credentials(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// Comes about once who has shown `credential` may not call `path` any more, or not as one of
    /// `role`: it would go on to see what only that role may.
    pub async fn revoked(self, credential: Option<Hash>, path: String, role: Role) -> Status {
        let mut known = self.0.subscribe();
        loop {
            match judge(&known.borrow_and_update(), credential, &path) {
                Ok(now) if now.role >= role => {}
                Ok(_) => return Status::unavailable("this admin has another role now: ask again"),
                Err(denied) => return denied.into(),
            }
            if known.changed().await.is_err() {
                return future::pending().await;
            }
        }
    }

    /// Whether a request comes from any of the operators. Where there are none, it does not.
    fn know(&self, request: &Request) -> bool {
        credential(request).is_some_and(|hash| hash.find(&self.0.borrow()).is_some())
    }
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get().map(|peer: &PeerIdentity| peer.address)
}

/// What a request shows, if it is of use.
fn credential(request: &Request) -> Option<Hash> {
    match presented(request.headers(), Schemes::Bearer) {
        Presented::Token(token) => Some(Hash::of(token)),
        Presented::Nothing | Presented::Malformed => None,
    }
}

/// Who has shown `credential`, if it may call `path`.
fn judge<'a>(
    known: &'a [(Hash, Known)],
    credential: Option<Hash>,
    path: &'a str,
) -> Result<Known, Denied<'a>> {
    if known.is_empty() {
        return Ok(Known { name: ANYONE.into(), role: Role::Operator });
    }
    let found = credential.and_then(|hash| hash.find(known));
    let known = found.ok_or(Denied::Unknown)?;
    if known.role < needed(path) {
        let method = path.rsplit('/').next().unwrap_or_default();
        return Err(Denied::Reader { name: &known.name, method });
    }
    Ok(known.clone())
}

fn table(grants: Vec<AdminGrant>) -> Vec<(Hash, Known)> {
    let mut table = Vec::new();
    for AdminGrant { name, tokens, role } in grants {
        let name: Arc<str> = name.into();
        table.extend(tokens.into_iter().map(|hash| (hash, Known { name: name.clone(), role })));
    }
    table
}

fn needed(path: &str) -> Role {
    if READERS.contains(&path) { Role::Reader } else { Role::Operator }
}

/// Lets a request through if its operator may do what it asks for, and its answer for as long as
/// that holds.
pub async fn guard(State(admins): State<Admins>, mut request: Request, next: Next) -> Response {
    if let Err(status) = refuse_pages(&request) {
        return status.into_http::<tonic::body::Body>().into_response();
    }
    match admins.admit(&request) {
        Ok(who) => {
            let role = who.role;
            request.extensions_mut().insert(who);
            let (credential, path) = (credential(&request), request.uri().path().to_owned());
            let answer = next.run(request).await;
            answer.map(|body| Body::new(Guarded::new(body, admins.revoked(credential, path, role))))
        }
        Err(status) => status.into_http::<tonic::body::Body>().into_response(),
    }
}

/// A browser says that it is one. Nothing that a page of anybody's sends is a call of an operator's
/// client: where no credential is asked for, it could be any page that an operator looks at.
fn refuse_pages(request: &Request) -> Result<(), Status> {
    let of_browsers = ["origin", "sec-fetch-site"];
    match of_browsers.iter().any(|header| request.headers().contains_key(*header)) {
        true => Err(Status::permission_denied("web pages may not call this service")),
        false => Ok(()),
    }
}

/// Lets a request for the page of metrics through if an operator sends it, of whatever role.
pub async fn guard_metrics(State(admins): State<Admins>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/metrics" || admins.know(&request) {
        return next.run(request).await;
    }
    audit::authentication_failed(Door::Http, peer(&request));
    let headers = [(header::WWW_AUTHENTICATE, CHALLENGE)];
    (StatusCode::UNAUTHORIZED, headers, "no valid credential\n").into_response()
}

/// Whether an operator asks, who may see what is of users.
pub(super) fn is_operator(extensions: &Extensions) -> bool {
    extensions.get().is_some_and(|who: &Who| who.role >= Role::Operator)
}

/// Puts on record who does `action` to an app; an empty name stands for all of them.
pub(super) fn record(extensions: &Extensions, action: &str, app: &str) -> Result<(), Status> {
    // A door that let a request in without is a fault of ours: nobody may change anything.
    let who: &Who = extensions.get().ok_or_else(|| Status::internal("who calls is not known"))?;
    audit::admin_action(&who.name, who.peer, action, app);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_may_call_is_there_and_changes_nothing() {
        let descriptors = String::from_utf8_lossy(crate::proto::DESCRIPTORS);
        for path in READERS.iter().filter(|path| path.starts_with("/userpilot")) {
            let method = path.rsplit('/').next().unwrap();
            assert!(descriptors.contains(method), "{path}");
        }
        let changing = ["Pause", "Resume", "FlushNow", "ReplayDeadLetters", "DiscardDeadLetters"];
        let telling = ["GetDeadLetter", "ExportDeadLetters", "FindSubject", "ExportPending"];
        for method in changing.into_iter().chain(telling).chain(["ForgetSubject", "Whatever"]) {
            let path = format!("/userpilot_gateway.v1.AdminService/{method}");
            assert_eq!(needed(&path), Role::Operator, "{path}");
        }
    }
}
