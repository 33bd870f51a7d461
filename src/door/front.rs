//! The front of the gRPC listener: the service that is called most is reached directly.

use std::convert::Infallible;

use axum::Router;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use tonic::{body::Body, server::NamedService};
use tower::ServiceExt as _;

use super::caller::Caller;

/// Calls of `S` go straight to it, all others through a router, which would cost every call a
/// boxed body, a boxed future and a copy of the route.
#[derive(Clone)]
pub struct Front<S> {
    service: S,
    router: Router,
    caller: Caller,
}

impl<S: NamedService> Front<S> {
    /// `service`, which `caller` calls, before `router`. `service` is ready always, as generated services are.
    pub fn new(service: S, router: Router, caller: Caller) -> Self {
        Self { service, router, caller }
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
        + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if Self::is_called(request.uri().path()) {
            request.extensions_mut().insert(self.caller.clone());
            return Either::Left(self.service.clone().call(request));
        }
        let answer = self.router.clone().oneshot(request);
        Either::Right(Box::pin(async { Ok(answer.await?.map(Body::new)) }))
    }
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
