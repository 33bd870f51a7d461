//! What requests are called in metrics: calls of the contract, and routes. Whatever else is asked for
//! has one name, so that nobody can make more of them.

use crate::audit::Door;

/// What has no name of its own.
pub(super) const OTHER: &str = "other";

/// The calls of the contract, those that come most first, and of the services beside it.
const CALLS: [&str; 29] = [
    "/userpilot_gateway.v1.IngestService/UpdateUser",
    "/userpilot_gateway.v1.IngestService/UpdateUsers",
    "/userpilot_gateway.v1.IngestService/StreamUserUpdates",
    "/userpilot_gateway.v1.IngestService/GetUpdate",
    "/userpilot_gateway.v1.IngestService/UpdateCompany",
    "/userpilot_gateway.v1.IngestService/UpdateCompanies",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/userpilot_gateway.v1.AdminService/GetStatus",
    "/userpilot_gateway.v1.AdminService/WatchStatus",
    "/userpilot_gateway.v1.AdminService/ListJobs",
    "/userpilot_gateway.v1.AdminService/GetJob",
    "/userpilot_gateway.v1.AdminService/Pause",
    "/userpilot_gateway.v1.AdminService/Resume",
    "/userpilot_gateway.v1.AdminService/FlushNow",
    "/userpilot_gateway.v1.AdminService/ListDeadLetters",
    "/userpilot_gateway.v1.AdminService/GetDeadLetter",
    "/userpilot_gateway.v1.AdminService/ReplayDeadLetters",
    "/userpilot_gateway.v1.AdminService/DiscardDeadLetters",
    "/userpilot_gateway.v1.AdminService/ExportDeadLetters",
    "/userpilot_gateway.v1.AdminService/ForgetSubject",
    "/userpilot_gateway.v1.AdminService/ListClients",
    "/userpilot_gateway.v1.AdminService/FindSubject",
    "/userpilot_gateway.v1.AdminService/GetHistory",
    "/userpilot_gateway.v1.AdminService/GetConfig",
    "/userpilot_gateway.v1.AdminService/ExportPending",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The routes of the HTTP door, save the two below.
const ROUTES: [&str; 9] = [
    "/v1/identify",
    "/v1/users/bulk_identify",
    "/v1/background_jobs",
    "/v1/companies/identify",
    "/v1/companies/bulk_identify",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
];

const ONE_JOB: &str = "/v1/background_jobs/{job_id}";
/// What is passed through to Userpilot, where it is allowed.
const PASSED_THROUGH: &str = "/v1/{*rest}";

/// All pages and calls of the console.
const CONSOLE: &str = "/console";

/// What a request for `path` is called.
pub(super) fn method(door: Door, path: &str) -> &'static str {
    let known = match door {
        Door::Grpc => call(path),
        Door::Http => route(path),
        Door::Admin => call(path).or_else(|| page(path)),
    };
    known.unwrap_or(OTHER)
}

fn call(path: &str) -> Option<&'static str> {
    let known = CALLS.iter().find(|known| **known == path)?;
    known.rsplit('/').next()
}

fn page(path: &str) -> Option<&'static str> {
    let below = path.strip_prefix(CONSOLE);
    let is_console = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_console || path == "/").then_some(CONSOLE)
}

/// As the router has it. What is asked of an app by its name is the same as what is asked of the only
/// one.
fn route(path: &str) -> Option<&'static str> {
    let of_app = |rest: &'_ str| rest.find("/v1/").filter(|at| !rest[..*at].contains('/'));
    let path = match path.strip_prefix("/apps/") {
        Some(rest) => &rest[of_app(rest)?..],
        None => path,
    };
    if let Some(known) = ROUTES.into_iter().find(|known| *known == path) {
        return Some(known);
    }
    let rest = path.strip_prefix("/v1/")?;
    let job = rest.strip_prefix("background_jobs/");
    let is_job = job.is_some_and(|id| !id.is_empty() && !id.contains('/'));
    Some(if is_job { ONE_JOB } else { PASSED_THROUGH })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::proto;

    #[test]
    fn every_call_of_the_contract_has_its_name_and_no_other_call_has() {
        let mut calls = BTreeSet::new();
        for service in proto::pool().services() {
            for call in service.methods() {
                let path = format!("/{}/{}", service.full_name(), call.name());
                assert_eq!(method(Door::Admin, &path), call.name(), "{path}");
                assert_eq!(method(Door::Grpc, &path), call.name(), "{path}");
                calls.insert(path);
            }
        }
        let of_contract = |call: &&&str| call.starts_with("/userpilot_gateway.");
        assert_eq!(CALLS.iter().filter(of_contract).count(), calls.len());
    }

    #[test]
    fn every_route_has_its_name() {
        let source = include_str!("../http/mod.rs");
        let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let routes: Vec<&str> = routes.collect();
        assert_eq!(routes.len(), ROUTES.len() + 2, "{routes:?}");
        for route in routes {
            assert_eq!(method(Door::Http, route), route);
            if route.starts_with("/v1/") {
                assert_eq!(method(Door::Http, &format!("/apps/production{route}")), route);
            }
        }
    }

    #[test]
    fn whatever_else_is_asked_for_has_one_name() {
        let check = |door, path: &str, expected: &str| {
            assert_eq!(method(door, path), expected, "{path}");
        };
        for path in ["", "/", "/v1", "/healthz/", "/apps/a/healthz", "/apps/v1/identify", "/apps/"]
        {
            check(Door::Http, path, OTHER);
        }
        check(Door::Http, "/v1/users/ada", PASSED_THROUGH);
        check(Door::Http, "/v1/background_jobs/", PASSED_THROUGH);
        check(Door::Http, "/v1/background_jobs/7", ONE_JOB);
        check(Door::Http, "/v1/background_jobs/7/rows", PASSED_THROUGH);
        check(Door::Http, "/apps/a/b/v1/identify", OTHER);
        check(Door::Grpc, "/userpilot_gateway.v1.IngestService/Other", OTHER);
        check(Door::Grpc, "/healthz", OTHER);
        for path in ["/", "/console", "/console/", "/console/api/events"] {
            check(Door::Admin, path, CONSOLE);
        }
        check(Door::Admin, "/consoles", OTHER);
    }
}
