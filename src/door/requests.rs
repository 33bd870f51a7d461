//! What is counted of requests: how many there are, how long they take and what comes of them, by
//! door and method. A stream is one request, and is counted when it ends.

mod names;
#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{
    body::{Body, Frame, SizeHint},
    service::Service,
};
use pin_project_lite::pin_project;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, histogram::Histogram},
};

use crate::{audit::Door, clock, domain::time::Instant, proto::code_name};

/// From what is answered out of memory to what waits for a slow disk, or for Userpilot; streams go
/// on for longer.
const SECONDS: [f64; 16] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];

/// How long requests took, in seconds, by what they were.
pub type RequestSeconds = Family<OfRequest, Histogram>;

/// What is counted of requests. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Requests(RequestSeconds);

/// What requests are told apart by: few values, whatever callers send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfRequest {
    door: &'static str,
    method: &'static str,
    code: Answer,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    /// A gRPC code, by its name.
    Code(&'static str),
    /// A status of HTTP that has a name.
    Status(u16),
    /// Another status of HTTP, as Userpilot may have answered it.
    OtherStatus,
}

impl Answer {
    /// Whoever asked was gone before the answer.
    const NONE: Self = Self::Code("CANCELLED");

    /// The gRPC code that an answer's headers or trailers have.
    fn in_grpc(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?;
        Some(Self::Code(code_name(tonic::Code::from_bytes(code.as_bytes()))))
    }

    /// What an answer's head tells: nothing yet where gRPC has it at the end.
    fn of<B>(answer: &Response<B>) -> Option<Self> {
        let is_grpc = |kind: &http::HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
        match answer.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
            true => Self::in_grpc(answer.headers()),
            false => Some(Self::of_http(answer.status())),
        }
    }

    fn of_http(status: StatusCode) -> Self {
        match status.canonical_reason() {
            Some(_) => Self::Status(status.as_u16()),
            None => Self::OtherStatus,
        }
    }
}

impl EncodeLabelValue for Answer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        match self {
            Self::Code(name) => name.encode(encoder),
            Self::Status(status) => status.encode(encoder),
            Self::OtherStatus => names::OTHER.encode(encoder),
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(SECONDS)))
    }
}

impl Requests {
    /// How long they took.
    pub fn seconds(&self) -> &RequestSeconds {
        &self.0
    }

    /// A service whose requests are counted as those of a door.
    pub fn measure<S>(&self, door: Door, service: S) -> Measured<S> {
        Measured { service, requests: self.clone(), door }
    }

    fn begin(&self, door: Door, path: &str) -> UnderWay {
        UnderWay {
            requests: self.clone(),
            of: OfRequest {
                door: door.name(),
                method: names::method(door, path),
                code: Answer::NONE,
            },
            began: clock::instant(),
        }
    }
}

/// A request from when it is read until its answer has been handed over to the end, or nobody wants
/// it any more.
#[derive(Debug)]
struct UnderWay {
    requests: Requests,
    of: OfRequest,
    began: Instant,
}

impl UnderWay {
    fn tell(&mut self, answer: Option<Answer>) {
        self.of.code = answer.unwrap_or(self.of.code);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let took = clock::instant().since(self.began);
        self.requests.0.get_or_create(&self.of).observe(took.as_secs_f64());
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    service: S,
    requests: Requests,
    door: Door,
}

impl<S, I, O> Service<Request<I>> for Measured<S>
where
    S: Service<Request<I>, Response = Response<O>>,
{
    type Response = Response<MeasuredBody<O>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<I>) -> Self::Future {
        let under_way = Some(self.requests.begin(self.door, request.uri().path()));
        Answering { answer: self.service.call(request), under_way }
    }
}

pin_project! {
    /// An answer that is to come.
    #[derive(Debug)]
    pub struct Answering<F> {
        #[pin]
        answer: F,
        under_way: Option<UnderWay>,
    }
}

impl<F, O, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<MeasuredBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        let mut under_way = this.under_way.take();
        Poll::Ready(answer.map(|answer| {
            if let Some(under_way) = &mut under_way {
                under_way.tell(Answer::of(&answer));
            }
            answer.map(|body| MeasuredBody { body, under_way })
        }))
    }
}

pin_project! {
    /// The body of an answer that is under way.
    #[derive(Debug)]
    pub struct MeasuredBody<O> {
        #[pin]
        body: O,
        under_way: Option<UnderWay>,
    }
}

impl<O: Body> Body for MeasuredBody<O> {
    type Data = O::Data;
    type Error = O::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<O::Data>, O::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let (Some(trailers), Some(under_way)) = (frame.trailers_ref(), this.under_way)
        {
            under_way.tell(Answer::in_grpc(trailers));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
