//! Which operator calls, and what it may do.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::Extensions;
use tonic::Status;

use crate::{
    audit::{self, Door},
    door::{
        caller::ANYONE,
        peer::PeerIdentity,
        refusal::Refusal,
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

/// Who calls. Stands in the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Who {
    name: Arc<str>,
    peer: Option<SocketAddr>,
}

/// All operators. Clones are of the same; a reload replaces what they know.
#[derive(Clone, Debug)]
pub struct Admins(Arc<ArcSwap<Vec<(Hash, Known)>>>);

#[derive(Clone, Debug)]
struct Known {
    name: Arc<str>,
    role: Role,
}

/// What a reader may call. All else, and what comes to be, is for operators: also what shows the
/// values of dead letters, which are of users.
const READERS: [&str; 7] = [
    "/userpilot_gateway.v1.AdminService/GetStatus",
    "/userpilot_gateway.v1.AdminService/WatchStatus",
    "/userpilot_gateway.v1.AdminService/ListJobs",
    "/userpilot_gateway.v1.AdminService/GetJob",
    "/userpilot_gateway.v1.AdminService/ListDeadLetters",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Admins {
    /// Those of `grants`; whoever calls, where there are none.
    pub fn new(grants: Vec<AdminGrant>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(table(grants))))
    }

    /// Lets in those of `grants`, and nobody else, from now on.
    pub fn replace(&self, grants: Vec<AdminGrant>) {
        self.0.store(Arc::new(table(grants)));
    }

    fn admit(&self, request: &Request) -> Result<Who, Status> {
        let peer = request.extensions().get().map(|peer: &PeerIdentity| peer.address);
        let known = self.0.load();
        if known.is_empty() {
            return Ok(Who { name: ANYONE.into(), peer });
        }
        let found = match presented(request.headers(), Schemes::Bearer) {
            Presented::Token(token) => Hash::of(token).find(&known),
            Presented::Nothing | Presented::Malformed => None,
        };
        let Some(Known { name, role }) = found else {
            audit::authentication_failed(Door::Admin, peer);
            return Err(Refusal::Unauthenticated.into());
        };
        let path = request.uri().path();
        if *role < needed(path) {
            let method = path.rsplit('/').next().unwrap_or_default();
            audit::admin_refused(name, method);
            let words = format!("{method} is for admins with the role \"operator\"");
            return Err(Status::permission_denied(words));
        }
        Ok(Who { name: name.clone(), peer })
    }
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

/// Lets a request through if its operator may do what it asks for.
pub async fn guard(State(admins): State<Admins>, mut request: Request, next: Next) -> Response {
    match admins.admit(&request) {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(status) => status.into_http::<tonic::body::Body>().into_response(),
    }
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
        for method in ["Pause", "Resume", "FlushNow", "ReplayDeadLetters", "DiscardDeadLetters"] {
            let path = format!("/userpilot_gateway.v1.AdminService/{method}");
            assert_eq!(needed(&path), Role::Operator, "{path}");
        }
    }
}
