//! The console: web pages for operators, on the admin listener, and what they ask of the gateway.
//!
//! A page asks as any operator's client does: every call goes by the admin service, in the process,
//! with the name of who has logged in. What is here is the way there: sessions, and what keeps other
//! web pages out.

mod answer;
mod assets;
mod bridge;
mod cookie;
mod events;
mod gate;
mod handlers;
mod logins;
mod sessions;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{any, get, post},
};
use tokio_util::sync::CancellationToken;

pub use self::sessions::SessionLimits;
use self::{bridge::Bridge, logins::Logins, sessions::Sessions};
use crate::admin::{access::Admins, grpc::Admin};

/// What a console is made of.
#[derive(Clone)]
pub struct Console {
    /// The admin service.
    pub admin: Admin,
    /// Who may log in.
    pub admins: Admins,
    /// How long sessions live, and how many there are.
    pub sessions: SessionLimits,
    /// Whether the listener speaks TLS, so that cookies are for it alone.
    pub is_secure: bool,
    /// When this is cancelled, streams end.
    pub stop: CancellationToken,
}

/// What all handlers share.
struct Shared {
    bridge: Bridge,
    admin: Admin,
    admins: Admins,
    sessions: Sessions,
    logins: Logins,
    is_secure: bool,
    stop: CancellationToken,
}

/// What the console serves.
pub fn router(console: Console) -> Router {
    let Console { admin, admins, sessions, is_secure, stop } = console;
    let shared = Arc::new(Shared {
        bridge: Bridge::new(admin.clone(), admins.clone()),
        admin,
        admins,
        sessions: Sessions::new(sessions),
        logins: Logins::default(),
        is_secure,
        stop,
    });
    let api = Router::new()
        .route("/session", get(handlers::session))
        .route("/login", post(handlers::login))
        .route("/logout", post(handlers::logout))
        .route("/rpc/{method}", post(handlers::rpc))
        .route("/export/{what}", get(handlers::export))
        .route("/events", get(events::events))
        .route("/{*rest}", any(handlers::nothing))
        .layer(middleware::from_fn(gate::same_origin));
    let pages = Router::new()
        .route("/", get(assets::home))
        .route("/console", get(assets::home))
        .route("/console/", get(assets::asset))
        .route("/console/{*path}", get(assets::asset));
    Router::new()
        .nest("/console/api", api)
        .merge(pages)
        .layer(middleware::from_fn_with_state(shared.clone(), gate::guard))
        .with_state(shared)
}
