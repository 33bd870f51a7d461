//! The yardstick: what tonic does at the most. It decodes the same message and answers with it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::Write,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use userpilot_gateway::proto::UpdateUserRequest;

pub const PATH: &str = "/bench.Echo/Echo";

/// Serves until the process is killed. Prints its port.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(Echo).serve_with_incoming(incoming).await?;
    Ok(())
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let codec = ProstCodec::<UpdateUserRequest, UpdateUserRequest>::default();
            Ok(Grpc::new(codec).unary(Same, request).await)
        })
    }
}

struct Same;

impl UnaryService<UpdateUserRequest> for Same {
    type Response = UpdateUserRequest;
    type Future = Ready<Result<Response<UpdateUserRequest>, Status>>;

    fn call(&mut self, request: Request<UpdateUserRequest>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}
