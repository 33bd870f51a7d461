//! Requests that go to Userpilot as they came, but for the key.

use bytes::Bytes;
use reqwest::{
    Method,
    header::{self, HeaderValue},
};

use super::{
    answer::Answer,
    http::{API_VERSION, HttpUpstream, VERSION_HEADER, outage, read},
};
use crate::domain::verdict::Failure;

/// What goes on to upstream. No header of the caller's does, but for the body's type and the version.
#[derive(Clone, Debug)]
pub struct Passing {
    /// The method.
    pub method: Method,
    /// The segments of the path.
    pub segments: Vec<String>,
    /// What stands behind the question mark.
    pub query: Option<String>,
    /// The body's type.
    pub content_type: Option<HeaderValue>,
    /// The version of the API that the caller speaks. Without one it is the documented one.
    pub api_version: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
}

/// What comes back.
#[derive(Clone, Debug)]
pub struct PassedBack {
    /// Status, request id and body, shortened to `answer_bytes_max`, without the key.
    pub answer: Answer,
    /// The body's type.
    pub content_type: Option<HeaderValue>,
}

impl HttpUpstream {
    /// Passes a request through, once.
    pub async fn pass(&self, passing: Passing) -> Result<PassedBack, Failure> {
        let Passing { method, segments, query, content_type, api_version, body } = passing;
        let api_version = api_version.unwrap_or(HeaderValue::from_static(API_VERSION));
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let mut url = self.url(&segments);
        url.set_query(query.as_deref());
        let mut request = self
            .client
            .request(method, url)
            .header(header::AUTHORIZATION, self.key.authorization())
            .header(header::ACCEPT, "application/json, text/plain, */*")
            .header(VERSION_HEADER, api_version)
            .body(body);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let response = request.send().await.map_err(|error| outage(&error))?;
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let mut answer = read(response, self.options.answer_bytes_max).await?;
        // Only what could quote it is made anew, so that other bytes stay as they are.
        if let Some(redacted) = self.key.redact_passed(&answer.body) {
            answer.body = redacted;
        }
        answer.request_id = answer.request_id.map(|id| self.key.redact_text(id));
        Ok(PassedBack { answer, content_type })
    }
}
