//! What is counted of requests: how many there are, how long they take and what comes of them, by
//! door and method. A stream is one request, and is counted when it ends.

mod names;
#[cfg(test)]
mod tests;

use http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, histogram::Histogram},
};

use super::watch::{UnderWay, Watch, Watched};
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
        Watched { service, watch: OfDoor { requests: self.clone(), door } }
    }
}

/// A service whose requests are counted.
pub type Measured<S> = Watched<S, OfDoor>;

/// Counts the requests of a door.
#[derive(Clone, Debug)]
pub struct OfDoor {
    requests: Requests,
    door: Door,
}

impl Watch for OfDoor {
    type UnderWay = OneRequest;

    fn begin(&self, path: &str) -> OneRequest {
        let (door, method) = (self.door.name(), names::method(self.door, path));
        let of = OfRequest { door, method, code: Answer::NONE };
        OneRequest { requests: self.requests.clone(), of, began: clock::instant() }
    }
}

/// A request that is under way, and what is known of it.
#[derive(Debug)]
pub struct OneRequest {
    requests: Requests,
    of: OfRequest,
    began: Instant,
}

impl OneRequest {
    fn tell(&mut self, answer: Option<Answer>) {
        self.of.code = answer.unwrap_or(self.of.code);
    }
}

impl UnderWay for OneRequest {
    fn on_head<B>(&mut self, head: &Response<B>) {
        self.tell(Answer::of(head));
    }

    fn on_trailers(&mut self, trailers: &HeaderMap) {
        self.tell(Answer::in_grpc(trailers));
    }
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        let took = clock::instant().since(self.began);
        self.requests.0.get_or_create(&self.of).observe(took.as_secs_f64());
    }
}
