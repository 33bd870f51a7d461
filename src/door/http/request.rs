//! What every request goes through: it is let in, gets an id, ends in time, and is answered in
//! shape; and what it says of itself: its app and its body.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::{Api, error::ApiError, error::in_shape};
use crate::{
    audit::Door,
    domain::update::{AppId, Lane},
    door::{
        caller::Caller,
        gate,
        refusal::{Refusal, Violation},
        token::Schemes,
        wire::json::Sender,
    },
};

const REQUEST_ID: &str = "x-request-id";

/// Gives the answer an id and the shape.
pub(super) async fn envelop(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let mut response = in_shape(next.run(request).await);
    let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 15]>());
    tracing::debug!(%method, path, status = response.status().as_u16(), request_id = id, "answers");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Gives a small request an end. Bulk requests may go on for as long as they get on.
pub(super) async fn in_time(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let late = |_| {
        let message = "the request was not read and answered within http.request_timeout_ms";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
    };
    tokio::time::timeout(limit, next.run(request)).await.map_err(late)
}

/// Lets a request in: the one place where it gets its caller.
pub(super) async fn admit(
    State(api): State<Arc<OnceLock<Arc<Api>>>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let api = api.get().ok_or_else(|| ApiError::unavailable("the gateway is starting"))?;
    if api.stop.is_cancelled() {
        return Err(ApiError::unavailable("the gateway is stopping"));
    }
    let door = (Door::Http, Schemes::BearerOrToken);
    let caller = api.callers.admit(request.headers(), request.extensions(), door).await?;
    let extensions = request.extensions_mut();
    extensions.insert(caller);
    extensions.insert(api.clone());
    Ok(next.run(request).await)
}

/// Who asks what of which app.
pub(super) struct Target {
    pub(super) api: Arc<Api>,
    pub(super) caller: Caller,
    pub(super) app: AppId,
    /// What addresses of the same app begin with.
    pub(super) prefix: String,
}

impl Target {
    /// Refuses what is asked of an app that is held.
    pub(super) fn served(&self) -> Result<(), Refusal> {
        gate::on_record(self.caller.client(), self.api.wire.serves(self.app))
    }

    /// Whoever sends a row.
    pub(super) fn sender(&self, lane: Lane) -> Sender<'_> {
        Sender { client: self.caller.client(), app: self.app, lane }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let unknown =
            || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the caller is not known");
        let caller = Caller::of(&parts.extensions).map_err(|_| unknown())?;
        let api: Arc<Api> = parts.extensions.get().cloned().ok_or_else(unknown)?;
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::malformed("the path is not UTF-8"))?;
        let named = params.iter().find(|(name, _)| *name == "app").map(|(_, app)| app);
        let apps = &caller.client().apps;
        let (app, prefix) = match named {
            Some(name) => (apps.get(name), format!("/apps/{name}")),
            None if apps.len() == 1 => (apps.values().next(), String::new()),
            None => {
                let message = "which app is meant? Put /apps/<its name> before /v1 in the URL";
                return Err(ApiError::malformed(message));
            }
        };
        let client = caller.client();
        let app = match (app, client.is_configured) {
            (Some(app), _) => *app,
            // Whether there is such an app is not its business.
            (None, true) => gate::on_record(client, Err(no_such_app()))?,
            (None, false) => {
                return Err(ApiError::new(StatusCode::NOT_FOUND, "there is no such app"));
            }
        };
        Ok(Self { app, api, prefix, caller })
    }
}

/// The client may not use the app.
pub(super) fn no_such_app() -> Refusal {
    let description = "is not an app that this client may use".into();
    Refusal::PermissionDenied(vec![Violation { field: "app".to_owned(), description }])
}

/// The media type of a body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses a body that says that it is something else than JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers).as_deref() {
        None | Some("application/json") => Ok(()),
        Some(_) => {
            let message = "the Content-Type must be application/json";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// All of a body.
pub(super) async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let collected = Limited::new(body, bytes_max).collect().await;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        if is_too_long(&*error) {
            return ApiError::too_large(format!("the body has more than {bytes_max} bytes"));
        }
        ApiError::malformed("the body cannot be read")
    };
    Ok(collected.map_err(failed)?.to_bytes())
}

/// Whether a body was cut off at its limit, whoever passed the error on.
pub(super) fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    has_cause::<LengthLimitError>(error)
}

/// Whether such an error is at the bottom of it.
pub(super) fn has_cause<E: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Reads JSON. A refusal says where it breaks off, and nothing of what it says.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::malformed(format!("the body is not JSON (line {line}, column {column})"))
    })
}

/// The body of a small request.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    bytes_max: usize,
) -> Result<T, ApiError> {
    expect_json(request.headers())?;
    parse(&whole(request.into_body(), bytes_max).await?)
}
