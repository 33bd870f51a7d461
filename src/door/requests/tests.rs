//! What is told of a request when, and what of one that nobody waits for.

use std::{
    convert::Infallible,
    future::{pending, ready},
    vec,
};

use futures_util::stream;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::{
    body::{Bytes, Frame},
    service::{Service as _, service_fn},
};
use prometheus_client::{encoding::text, registry::Registry};

use super::*;

type Asked = Request<Empty<Bytes>>;
type Frames = stream::Iter<vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// What is on the page of requests that were counted.
fn counted(requests: &Requests) -> Vec<String> {
    let mut registry = Registry::default();
    registry.register("took", "", requests.seconds().clone());
    let mut page = String::new();
    text::encode(&mut page, &registry).unwrap();
    let count = |line: &str| Some(line.strip_prefix("took_count")?.to_owned());
    let mut counts: Vec<String> = page.lines().filter_map(count).collect();
    counts.sort_unstable();
    counts
}

fn get(path: &str) -> Asked {
    Request::get(path).body(Empty::new()).unwrap()
}

/// An answer by gRPC: a message, and trailers with a code.
fn streamed(code: &'static str) -> Response<StreamBody<Frames>> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
    let frames = vec![Ok(Frame::data(Bytes::from_static(b"a"))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(stream::iter(frames));
    Response::builder().header(CONTENT_TYPE, "application/grpc").body(body).unwrap()
}

const UPDATE: &str = "/userpilot_gateway.v1.IngestService/UpdateUser";

#[tokio::test]
async fn a_call_is_counted_when_its_answer_has_ended_and_by_the_code_at_its_end() {
    let requests = Requests::default();
    let service = service_fn(|_: Asked| ready(Ok::<_, Infallible>(streamed("8"))));
    let service = requests.measure(Door::Grpc, service);
    let mut answer = service.call(get(UPDATE)).await.unwrap();
    assert!(answer.body_mut().frame().await.unwrap().unwrap().is_data());
    assert_eq!(counted(&requests), [""; 0]);
    drop(answer.into_body().collect().await.unwrap());
    let told = r#"{door="grpc",method="UpdateUser",code="RESOURCE_EXHAUSTED"} 1"#;
    assert_eq!(counted(&requests), [told]);
}

#[tokio::test]
async fn a_call_that_is_refused_at_once_is_counted_by_the_code_in_its_head() {
    let requests = Requests::default();
    let refuse = |_: Asked| {
        let refusal: Response<Empty<Bytes>> = tonic::Status::unauthenticated("no").into_http();
        ready(Ok::<_, Infallible>(refusal))
    };
    let service = requests.measure(Door::Grpc, service_fn(refuse));
    drop(service.call(get("/whatever")).await.unwrap());
    assert_eq!(counted(&requests), [r#"{door="grpc",method="other",code="UNAUTHENTICATED"} 1"#]);
}

#[tokio::test]
async fn an_answer_over_http_is_counted_by_its_status() {
    let requests = Requests::default();
    for (status, path) in
        [(202_u16, "/v1/identify"), (202, "/apps/a/v1/identify"), (599, "/v1/track")]
    {
        let answer = move |_: Asked| {
            let answer = Response::builder().status(status).body(Full::new(Bytes::new())).unwrap();
            ready(Ok::<_, Infallible>(answer))
        };
        let service = requests.measure(Door::Http, service_fn(answer));
        drop(service.call(get(path)).await.unwrap().into_body().collect().await.unwrap());
    }
    let told = [
        r#"{door="http",method="/v1/identify",code="202"} 2"#,
        r#"{door="http",method="/v1/{*rest}",code="other"} 1"#,
    ];
    assert_eq!(counted(&requests), told);
}

#[tokio::test]
async fn whoever_goes_before_the_answer_is_counted_too() {
    let requests = Requests::default();
    let never = |_: Asked| pending::<Result<Response<Empty<Bytes>>, Infallible>>();
    let service = requests.measure(Door::Http, service_fn(never));
    drop(service.call(get("/v1/identify")));
    // It has had the message, and not how the call ended.
    let service = service_fn(|_: Asked| ready(Ok::<_, Infallible>(streamed("0"))));
    let service = requests.measure(Door::Grpc, service);
    let mut answer = service.call(get(UPDATE)).await.unwrap();
    drop(answer.body_mut().frame().await);
    drop(answer);
    let told = [
        r#"{door="grpc",method="UpdateUser",code="CANCELLED"} 1"#,
        r#"{door="http",method="/v1/identify",code="CANCELLED"} 1"#,
    ];
    assert_eq!(counted(&requests), told);
}
