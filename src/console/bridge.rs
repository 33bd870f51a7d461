//! From JSON to the admin service, and back.
//!
//! A call goes by the service itself, as one that came in by gRPC: the same table says who may do
//! what, and the same lines are in the audit log. Only messages are put into another form, by their
//! descriptors (`prost-reflect`), so that there is nothing to be kept in step.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::body::Bytes;
use bytes::{Buf as _, BufMut as _, BytesMut};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;

use crate::{
    admin::{access::Admins, grpc::Admin},
    door::token::Hash,
    proto::{self, admin_service_server::AdminServiceServer},
};

const SERVICE: &str = "userpilot_gateway.v1.AdminService";
/// Before each message of gRPC: whether it is compressed, and its length.
const FRAME_HEADER_BYTES: usize = 5;

/// The way to the admin service.
#[derive(Clone)]
pub(super) struct Bridge {
    service: AdminServiceServer<Admin>,
    admins: Admins,
    methods: BTreeMap<String, MethodDescriptor>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// What it has shown.
    pub(super) credential: Option<Hash>,
    /// Where it is.
    pub(super) peer: Option<SocketAddr>,
}

/// A method, and the message that it is called with.
pub(super) struct Question {
    method: MethodDescriptor,
    request: DynamicMessage,
}

impl Question {
    /// Whether there may be several answers.
    pub(super) fn is_answered_by_stream(&self) -> bool {
        self.method.is_server_streaming()
    }

    /// The method's path.
    pub(super) fn path(&self) -> String {
        format!("/{SERVICE}/{}", self.method.name())
    }
}

impl Bridge {
    pub(super) fn new(admin: Admin, admins: Admins) -> Self {
        let service = proto::pool().get_service_by_name(SERVICE).expect("it is among them");
        let methods = service.methods().map(|method| (method.name().to_owned(), method)).collect();
        Self { service: AdminServiceServer::new(admin), admins, methods }
    }

    /// A call of a method with a message in JSON; an empty text is an empty message.
    pub(super) fn question(&self, method: &str, json: &[u8]) -> Result<Question, Status> {
        let found = self.methods.get(method);
        let method = found
            .ok_or_else(|| Status::unimplemented(format!("no method is called {method:?}")))?;
        let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
        let mut json = serde_json::Deserializer::from_slice(json);
        let request = DynamicMessage::deserialize(method.input(), &mut json);
        let request = request.and_then(|request| json.end().map(|()| request));
        let invalid = |error: serde_json::Error| Status::invalid_argument(error.to_string());
        Ok(Question { method: method.clone(), request: request.map_err(invalid)? })
    }

    /// Asks. What comes back are the answers, one after the other.
    pub(super) async fn ask(&self, question: Question, asker: Asker) -> Result<Answers, Status> {
        let path = question.path();
        let who = self.admins.admit_to(&path, asker.credential, asker.peer)?;
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .extension(who)
            .body(Full::new(frame(&question.request)))
            .map_err(|error| Status::internal(error.to_string()))?;
        let Ok(answer) = self.service.clone().oneshot(request).await;
        let (head, body) = answer.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let output = question.method.output();
        Ok(Answers { body, read: BytesMut::new(), output })
    }
}

/// The answers to a call.
pub(super) struct Answers {
    body: Body,
    /// What has come of the next.
    read: BytesMut,
    output: MessageDescriptor,
}

impl Answers {
    /// The next answer; `None` where all is said. Whoever stops waiting for it has lost nothing.
    pub(super) async fn next(&mut self) -> Option<Result<DynamicMessage, Status>> {
        loop {
            if let Some(message) = unframe(&mut self.read) {
                let message = DynamicMessage::decode(self.output.clone(), message);
                return Some(message.map_err(|error| Status::internal(error.to_string())));
            }
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(status) => return Some(Err(status)),
            };
            match frame.into_data() {
                Ok(data) => self.read.put(data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map)?;
                    return (status.code() != Code::Ok).then_some(Err(status));
                }
            }
        }
    }

    /// The only answer.
    pub(super) async fn one(mut self) -> Result<DynamicMessage, Status> {
        let answer = self.next().await;
        let answer = answer.unwrap_or_else(|| Err(Status::internal("there is no answer")))?;
        // A status that is an error may come behind it.
        match self.next().await {
            Some(Err(status)) => Err(status),
            Some(Ok(_)) | None => Ok(answer),
        }
    }
}

/// As JSON.
pub(super) fn json(message: &DynamicMessage) -> Vec<u8> {
    proto::json(message).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Vec::new()
    })
}

fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Takes the first message out of what has been read, once it is there in whole.
fn unframe(read: &mut BytesMut) -> Option<Bytes> {
    let header: &[u8; FRAME_HEADER_BYTES] = read.first_chunk()?;
    let [_, length @ ..] = *header;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if read.len() < FRAME_HEADER_BYTES + length {
        return None;
    }
    read.advance(FRAME_HEADER_BYTES);
    Some(read.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_their_frames_one_by_one() {
        let request = proto::GetJobRequest { app: "a".into(), id: "7".into() };
        let bytes = request.encode_to_vec();
        let message = proto::dynamic("GetJobRequest", &request).unwrap();
        let two = [frame(&message), frame(&message)].concat();
        for end in 0..=two.len() {
            let mut read = BytesMut::from(&two[..end]);
            let expected = end / frame(&message).len();
            let found = std::iter::from_fn(|| unframe(&mut read));
            let found: Vec<Bytes> = found.collect();
            assert_eq!(found.len(), expected);
            assert!(found.iter().all(|it| *it == bytes));
        }
    }
}
