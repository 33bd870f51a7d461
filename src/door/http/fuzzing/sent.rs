//! A request as a fuzzer writes it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{
    BoxError,
    body::{Body, Bytes},
};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use serde_json::Value as Json;

/// The token of the configured client, where there is one.
pub(super) const TOKEN: &str = "upg_fuzz";
/// Of a bulk request, and of a small one.
pub(super) const BULK_BYTES_MAX: usize = 1_024;

// The switches.
/// A file with a bad row is refused.
const STRICT: u8 = 1;
/// The body is packed before it is sent.
const PACKED: u8 = 2;
/// The body is the file of a form.
const FORM: u8 = 4;
/// There is a configured client, and nobody else may call.
const GUARDED: u8 = 8;
/// The queue takes two records.
const FULL: u8 = 16;
/// The body comes in chunks of some bytes.
const CUT: u8 = 32;
/// The body breaks off at its end.
const BROKEN: u8 = 64;

const CHUNK_BYTES: usize = 5;
const BOUNDARY: &str = "fuzzing-7Q2m";

pub(super) struct Sent {
    switches: u8,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    /// `None` where the server of HTTP would not make a request of it.
    pub(super) fn read(input: &[u8]) -> Option<Self> {
        let (&switches, rest) = input.split_first()?;
        let end = rest.windows(2).position(|two| two == b"\n\n")?;
        let (head, body) = (std::str::from_utf8(&rest[..end]).ok()?, rest[end + 2..].to_vec());
        let mut lines = head.lines();
        let (method, uri) = lines.next()?.split_once(' ')?;
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        let uri: Uri = uri.parse().ok().filter(|uri: &Uri| uri.path().starts_with('/'))?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        Some(Self { switches, method, uri, headers, body })
    }

    /// As it reaches the door. Counts how much of its body was asked for.
    pub(super) fn request(&self, pulled: &Arc<AtomicUsize>) -> Option<Request<Body>> {
        let mut headers = self.headers.clone();
        let mut body = self.body.clone();
        if self.is(FORM) {
            if self.body.windows(BOUNDARY.len()).any(|part| part == BOUNDARY.as_bytes()) {
                return None;
            }
            body = form(&body);
            let form = format!("multipart/form-data; boundary={BOUNDARY}");
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&form).ok()?);
        }
        if self.is(PACKED) {
            body = gzip(&body);
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let pulled = pulled.clone();
        let chunks: Vec<_> = body.chunks(self.chunk_bytes()).map(Bytes::copy_from_slice).collect();
        let chunks = chunks.into_iter().map(Ok::<_, BoxError>);
        let broken = self.is(BROKEN).then(|| Err("it breaks off".into()));
        let chunks = chunks.chain(broken).inspect(move |chunk| {
            pulled.fetch_add(chunk.as_ref().map_or(0, Bytes::len), Relaxed);
        });
        let mut request = Request::new(Body::from_stream(stream::iter(chunks)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Some(request)
    }

    fn is(&self, switch: u8) -> bool {
        self.switches & switch != 0
    }

    pub(super) fn is_strict(&self) -> bool {
        self.is(STRICT)
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.is(GUARDED)
    }

    pub(super) fn is_full(&self) -> bool {
        self.is(FULL)
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Whether it is for a page that is not Userpilot's.
    pub(super) fn is_page(&self) -> bool {
        ["/healthz", "/readyz", "/metrics"].contains(&self.path())
    }

    pub(super) fn is_bulk(&self) -> bool {
        self.path().ends_with("/bulk_identify")
    }

    /// Whether the body comes as it is written here.
    pub(super) fn is_plain(&self) -> bool {
        let is_form = |kind: &HeaderValue| kind.as_bytes().starts_with(b"multipart");
        let own_form = self.headers.get(header::CONTENT_TYPE).is_some_and(is_form);
        !self.is(FORM | PACKED) && !own_form && !self.headers.contains_key(header::CONTENT_ENCODING)
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        if self.is(CUT) { CHUNK_BYTES } else { 4_096 }
    }

    /// How many rows there are, as another reader counts.
    pub(super) fn rows(&self) -> Option<u64> {
        if self.is(FORM) && (self.is(PACKED) || !self.is_packed()) {
            let lines = self.body.split(|byte| *byte == b'\n');
            return Some(lines.filter(|line| !line.trim_ascii().is_empty()).count() as u64);
        }
        let plural = if self.path().contains("companies") { "companies" } else { "users" };
        let json: Json = serde_json::from_slice(&self.body).ok().filter(|_| self.is_plain())?;
        Some(json.get(plural)?.as_array()?.len() as u64)
    }

    /// Whether it says so itself.
    fn is_packed(&self) -> bool {
        self.headers.contains_key(header::CONTENT_ENCODING)
    }
}

fn form(file: &[u8]) -> Vec<u8> {
    let disposition = "content-disposition: form-data; name=\"file\"; filename=\"users.ndjson\"";
    let head = format!("--{BOUNDARY}\r\n{disposition}\r\n\r\n");
    [head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

/// Packed without being made smaller: blocks that are stored (RFC 1951, 3.2.4) in a member (RFC 1952).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let stored = &bytes[..usize::from(length)];
    packed.push(1);
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(&(!length).to_le_bytes());
    packed.extend_from_slice(stored);
    packed.extend_from_slice(&crc32(stored).to_le_bytes());
    packed.extend_from_slice(&u32::from(length).to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// Requests of each kind that are taken.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let user = r#"{"user_id":"ada","company":{"id":"acme","plan":"pro"},"metadata":{"age":36}}"#;
    let row = r#"{"user_id":"ada","metadata":{"plan":"pro"},"company_id":"acme"}"#;
    let company = r#"{"company_id":"acme","metadata":{"seats":3}}"#;
    let (users, companies) =
        (format!(r#"{{"users":[{row},{row}]}}"#), format!(r#"{{"companies":[{company}]}}"#));
    let file = format!("{row}\n\n{{\"user_id\":\n{row}\r\n");
    let own_form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"file\"\r\ncontent-type: text/plain\r\n\r\n\
         {company}\r\n--b--"
    );
    let seed = |switches: u8, head: &str, body: &str| {
        [&[switches][..], head.as_bytes(), b"\n\n", body.as_bytes()].concat()
    };
    let guarded = format!("authorization: Token {TOKEN}");
    vec![
        seed(0, "POST /v1/identify\ncontent-type: application/json", user),
        seed(GUARDED, &format!("POST /apps/a/v1/companies/identify\n{guarded}"), company),
        seed(CUT, "POST /v1/users/bulk_identify", &users),
        seed(PACKED, "POST /v1/companies/bulk_identify", &companies),
        seed(FORM | CUT, "POST /v1/users/bulk_identify", &file),
        seed(FORM | STRICT | PACKED, "POST /apps/a/v1/users/bulk_identify", &format!("{row}\n")),
        seed(
            FULL,
            "POST /v1/companies/bulk_identify\ncontent-type: multipart/form-data; boundary=b",
            &own_form,
        ),
        seed(GUARDED, &format!("GET /v1/background_jobs\n{guarded}"), ""),
        seed(0, "GET /openapi.json", ""),
        seed(0, "HEAD /readyz", ""),
    ]
}
