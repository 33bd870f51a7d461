//! The front of the gRPC listener: the service that is called most is reached directly.

use std::convert::Infallible;

use axum::Router;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use opentelemetry::{KeyValue, trace};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::ServiceExt as _;

use super::{auth::Callers, caller::Caller, refusal::Refusal, token::Schemes};
use crate::{
    audit::Door,
    trace::{RequestSpan, Traces},
};

/// Calls of `S` go straight to it, all others through a router, which would cost every call a
/// boxed body, a boxed future and a copy of the route.
#[derive(Clone)]
pub struct Front<S> {
    service: S,
    router: Router,
    callers: Callers,
    traces: Traces,
}

impl<S: NamedService> Front<S> {
    /// `service` before `router`, for `callers`. `service` is ready always, as generated services
    /// are.
    pub fn new(service: S, router: Router, callers: Callers, traces: Traces) -> Self {
        Self { service, router, callers, traces }
    }

    /// Whether the path is `/<name of the service>/<method>`.
    fn is_called(path: &str) -> bool {
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(S::NAME));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Incoming>> for Front<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let is_called = Self::is_called(request.uri().path());
        // Whoever balances load asks for health, and has no credential.
        if is_open(request.uri().path()) {
            let answer = self.router.clone().oneshot(request);
            return Either::Right(Box::pin(async { Ok(answer.await?.map(Body::new)) }));
        }
        let door = (Door::Grpc, Schemes::Bearer);
        match self.callers.admit_at_once(request.headers(), request.extensions(), door) {
            Some(Ok(caller)) if is_called => {
                request.extensions_mut().insert(caller);
                let span = begin(&self.traces, &request);
                let serving = self.service.clone().call(request);
                match span {
                    None => Either::Left(serving),
                    Some(span) => Either::Right(Box::pin(span.around(serving, told))),
                }
            }
            Some(Err(refusal)) => {
                let answer = Status::from(refusal).into_http();
                Either::Right(Box::pin(async { Ok(answer) }))
            }
            admitted @ (Some(Ok(_)) | None) => {
                Either::Right(Box::pin(self.clone().call_slowly(request, admitted, is_called)))
            }
        }
    }
}

impl<S> Front<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    /// The rarer ways: to another service, or by way of the issuer of a token.
    async fn call_slowly(
        mut self,
        mut request: Request<Incoming>,
        admitted: Option<Result<Caller, Refusal>>,
        is_called: bool,
    ) -> Answer {
        let door = (Door::Grpc, Schemes::Bearer);
        let admitted = match admitted {
            Some(admitted) => admitted,
            None => self.callers.admit(request.headers(), request.extensions(), door).await,
        };
        match admitted {
            Err(refusal) => Ok(Status::from(refusal).into_http()),
            Ok(caller) if is_called => {
                request.extensions_mut().insert(caller);
                let span = begin(&self.traces, &request);
                let serving = self.service.call(request);
                match span {
                    None => serving.await,
                    Some(span) => span.around(serving, told).await,
                }
            }
            Ok(_) => Ok(self.router.oneshot(request).await?.map(Body::new)),
        }
    }
}

/// The span of a call. Its names are those of OpenTelemetry's conventions.
/// <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>
fn begin(traces: &Traces, request: &Request<Incoming>) -> Option<RequestSpan> {
    let path = request.uri().path().trim_start_matches('/');
    let attributes = || {
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
        ]
    };
    traces.begin(|| path.to_owned().into(), request.headers(), attributes)
}

/// What came of a call, as far as its headers tell.
fn told(answer: &Answer) -> (Vec<KeyValue>, trace::Status) {
    let refused = answer.as_ref().ok().and_then(|it| Status::from_header_map(it.headers()));
    let code = refused.map_or(Code::Ok, |status| status.code());
    let status = match code {
        Code::Ok => trace::Status::Unset,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unavailable => {
            trace::Status::error(code.description())
        }
        Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => trace::Status::Unset,
    };
    (vec![KeyValue::new("rpc.grpc.status_code", i64::from(code as i32))], status)
}

fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl NamedService for Named {
        const NAME: &'static str = "a.v1.Service";
    }

    #[test]
    fn the_service_is_called_by_its_whole_name() {
        let check = |path: &str, expected: bool| {
            assert_eq!(Front::<Named>::is_called(path), expected, "{path}");
        };
        check("/a.v1.Service/Method", true);
        check("/a.v1.Service/", true);
        check("/a.v1.Service", false);
        check("/a.v1.ServiceOther/Method", false);
        check("a.v1.Service/Method", false);
        check("/", false);
    }
}
