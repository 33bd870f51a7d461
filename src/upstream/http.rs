//! Upstream over HTTP.

use std::{io, time::Duration};

use reqwest::{Client, RequestBuilder, Response, header, multipart, redirect};
use secrecy::SecretString;
use url::Url;

use super::{
    Upstream,
    answer::{self, Answer},
    key::{ApiKey, UnfitKey},
};
use crate::{
    clock,
    domain::{
        batch::Batch,
        update::SubjectKind,
        verdict::{Failure, FailureKind, Identified, Jobs, Poll, Submission},
    },
};

/// How a batch is uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upload {
    /// As an NDJSON file that is named after the batch, so that its job can be found again.
    #[default]
    File,
    /// As a JSON body.
    Json,
}

impl Upload {
    /// The most that an upload takes besides its rows, in bytes.
    pub fn envelope_bytes(self) -> u64 {
        match self {
            Self::File => 0,
            Self::Json => {
                let starts = SubjectKind::ALL.map(|kind| json_start(kind).len());
                (starts.into_iter().max().unwrap_or(0) + JSON_END.len()) as u64
            }
        }
    }
}

/// As the real-time endpoints ask for it.
pub(super) const API_VERSION: &str = "2020-09-22";
pub(super) const VERSION_HEADER: &str = "x-api-version";

/// What goes by express holds its subject back from batches until it is answered.
const IDENTIFY_TIMEOUT_MAX: Duration = Duration::from_secs(10);

const JSON_END: &[u8] = b"]}";

fn json_start(kind: SubjectKind) -> &'static [u8] {
    match kind {
        SubjectKind::User => br#"{"users":["#,
        SubjectKind::Company => br#"{"companies":["#,
    }
}

/// The segment of the path that tells whose profiles a request is about.
fn segment(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::User => "users",
        SubjectKind::Company => "companies",
    }
}

/// How to reach an app's Userpilot.
#[derive(Clone, Debug)]
pub struct HttpUpstreamOptions {
    /// Where it is.
    pub base_url: Url,
    /// The API key, until it is replaced. Sent to `base_url` and nowhere else.
    pub api_key: SecretString,
    /// How to upload.
    pub upload: Upload,
    /// The most time for one request, upload and answer included.
    pub request_timeout: Duration,
    /// The most time to connect.
    pub connect_timeout: Duration,
    /// The most bytes of an answer that are read.
    pub answer_bytes_max: usize,
}

/// An app's Userpilot. Clones share its connections and its key.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    pub(super) client: Client,
    pub(super) options: HttpUpstreamOptions,
    pub(super) key: ApiKey,
}

/// Why there is no way to upstream.
#[derive(Debug, thiserror::Error)]
pub enum HttpUpstreamError {
    /// The API key cannot be sent.
    #[error(transparent)]
    Key(#[from] UnfitKey),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

impl HttpUpstream {
    /// A way to `options.base_url`. No redirect is followed and no proxy used: the key goes
    /// to that host alone.
    pub fn new(options: HttpUpstreamOptions) -> Result<Self, HttpUpstreamError> {
        let key = ApiKey::new(options.api_key.clone())?;
        let client = Client::builder()
            .user_agent(concat!("userpilot-gateway/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(options.request_timeout)
            .connect_timeout(options.connect_timeout)
            .build()
            .map_err(HttpUpstreamError::Client)?;
        Ok(Self { client, options, key })
    }

    /// The key that its requests bear.
    pub fn key(&self) -> ApiKey {
        self.key.clone()
    }

    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.options.base_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // Job ids hold colons and could hold slashes: each is one segment.
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let request = request
            .header(header::AUTHORIZATION, self.key.authorization())
            .header(header::ACCEPT, "application/json, text/plain, */*");
        let response = request.send().await.map_err(|error| outage(&error))?;
        let mut answer = read(response, self.options.answer_bytes_max).await?;
        // Whoever answers may quote the request, and what they say is stored and shown. Of the body, it
        // is done once it has been read.
        answer.key = Some(self.key.clone());
        answer.request_id = answer.request_id.map(|id| self.key.redact_text(id));
        answer.location = answer.location.map(|location| self.key.redact_text(location));
        Ok(answer)
    }
}

impl Upstream for HttpUpstream {
    async fn submit(&self, batch: &Batch, upload: Vec<u8>) -> Submission {
        let request = self.client.post(self.url(&["v1", segment(batch.kind), "bulk_identify"]));
        let request = match self.options.upload {
            Upload::File => {
                let part = multipart::Part::bytes(upload)
                    .file_name(batch.id.filename())
                    .mime_str("application/x-ndjson")
                    .map_err(|error| outage(&error))?;
                request.multipart(multipart::Form::new().part("file", part))
            }
            Upload::Json => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(json_body(batch.kind, upload)),
        };
        answer::submission(&self.send(request).await?, clock::now().wall)
    }

    async fn job(&self, job_id: &str) -> Poll {
        let id = self.key.in_full(job_id);
        let request = self.client.get(self.url(&["v1", "background_jobs", &id]));
        answer::job(&self.send(request).await?, job_id, clock::now().wall)
    }

    async fn jobs(&self) -> Jobs {
        let request = self.client.get(self.url(&["v1", "background_jobs"]));
        answer::jobs(&self.send(request).await?, clock::now().wall)
    }

    async fn identify(&self, kind: SubjectKind, body: Vec<u8>) -> Identified {
        let url = match kind {
            SubjectKind::User => self.url(&["v1", "identify"]),
            SubjectKind::Company => self.url(&["v1", segment(kind), "identify"]),
        };
        let request = self
            .client
            .post(url)
            .timeout(self.options.request_timeout.min(IDENTIFY_TIMEOUT_MAX))
            .header(header::CONTENT_TYPE, "application/json")
            .header(VERSION_HEADER, API_VERSION)
            .body(body);
        answer::identified(&self.send(request).await?, clock::now().wall)
    }
}

/// The rows of an NDJSON upload as `{"users":[…]}` or `{"companies":[…]}`.
fn json_body(kind: SubjectKind, mut upload: Vec<u8>) -> Vec<u8> {
    if upload.last() == Some(&b'\n') {
        upload.pop();
    }
    for byte in &mut upload {
        // Rows hold no line ends of their own: JSON escapes them.
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    [json_start(kind), &upload, JSON_END].concat()
}

/// What it means that there is no answer.
pub(super) fn outage(error: &reqwest::Error) -> Failure {
    let kind = if error.is_connect() || error.is_builder() {
        FailureKind::NotSent
    } else {
        FailureKind::Unknown
    };
    let what = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connecting timed out",
        (true, false) if is_of_tls(error) => "cannot connect by TLS",
        (true, false) => "cannot connect",
        (false, true) => "timed out",
        (false, false) => "the connection broke",
    };
    let cause = format!("{what}: {}", root_cause(error));
    Failure { kind, detail: cause.clone(), cause, request_id: None }
}

/// The innermost cause, which says most. URLs are left out: they are configuration.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Whether the other side was reached and no TLS was agreed on: a certificate that is not to be
/// trusted, or no TLS at all.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // What is inside an I/O error is not its source.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inside {
        Some(inside) => is_of_tls(inside),
        None => error.source().is_some_and(is_of_tls),
    }
}

pub(super) async fn read(mut response: Response, bytes_max: usize) -> Result<Answer, Failure> {
    let text = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(|value| value.chars().take(128).collect::<String>())
    };
    let mut answer = Answer {
        status: response.status().as_u16(),
        request_id: text("x-request-id"),
        retry_after: text("retry-after"),
        location: text("location"),
        body: Vec::new(),
        key: None,
    };
    loop {
        match response.chunk().await {
            // What is longer than that is not read; as far as it was, it will not be JSON.
            Ok(Some(chunk)) if answer.body.len() + chunk.len() > bytes_max => return Ok(answer),
            Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
            Ok(None) => return Ok(answer),
            // What a failure means, its status says; a success that breaks off says nothing.
            Err(_) if answer.status >= 300 => return Ok(answer),
            Err(error) => {
                let cause = format!("{}: {}", answer.status, root_cause(&error));
                let (detail, request_id) = (cause.clone(), answer.request_id);
                return Err(Failure { kind: FailureKind::Unknown, cause, detail, request_id });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(base_url: &str) -> HttpUpstream {
        rustls::crypto::ring::default_provider().install_default().ok();
        HttpUpstream::new(HttpUpstreamOptions {
            base_url: base_url.parse().unwrap(),
            api_key: "secret".into(),
            upload: Upload::File,
            request_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            answer_bytes_max: 1_000,
        })
        .unwrap()
    }

    #[test]
    fn a_job_id_is_one_segment_of_the_path() {
        for base in ["https://analytex.userpilot.io", "https://analytex.userpilot.io/"] {
            let url = upstream(base).url(&["v1", "background_jobs", "bulk:jobs:a/b"]);
            assert_eq!(url.path(), "/v1/background_jobs/bulk:jobs:a%2Fb");
        }
    }

    #[test]
    fn the_key_is_in_no_debug_print() {
        assert!(!format!("{:?}", upstream("https://example.com")).contains("secret"));
    }

    #[test]
    fn rows_become_a_json_body() {
        for (kind, expected) in [
            (SubjectKind::User, r#"{"users":[{"a":1},{"b":2}]}"#),
            (SubjectKind::Company, r#"{"companies":[{"a":1},{"b":2}]}"#),
        ] {
            let upload = b"{\"a\":1}\n{\"b\":2}\n".to_vec();
            let rows = upload.len() - 1;
            let body = json_body(kind, upload);
            assert_eq!(String::from_utf8_lossy(&body), expected);
            assert!((body.len() - rows) as u64 <= Upload::Json.envelope_bytes());
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_was_certainly_not_reached() {
        let failure = upstream("http://127.0.0.1:1").jobs().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotSent);
        assert!(failure.detail.starts_with("cannot connect: "), "{}", failure.detail);
    }
}
