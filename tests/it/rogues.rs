//! Servers that break HTTP or TLS: each is an outage that is told as what it is, by which nothing
//! is lost, and after which delivery goes on.

use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use userpilot_gateway::proto::AppStatus;

use crate::rig::{Change, Manner, Rogue, Site, Stage, until};

const ANSWER_BYTES_MAX: u32 = 64 << 10;
/// What fits into the buffers of a connection between the two, with room to spare.
const BUFFERED_BYTES_MAX: u64 = 24 << 20;

/// A stage whose gateway delivers by way of a rogue.
struct Ambush {
    stage: Stage,
    rogue: Rogue,
    changes: Vec<Change>,
}

impl Ambush {
    async fn lay(scheme: &str, settings: impl FnOnce(Site) -> Site) -> Self {
        let settings = |site: Site| {
            settings(
                site.with("app.request_timeout_ms", 400)
                    .with("app.connect_timeout_ms", 300)
                    .with("app.answer_bytes_max", ANSWER_BYTES_MAX),
            )
        };
        let (stage, rogue) = Stage::ambushed(scheme, Manner::silent(), settings).await;
        Self { stage, rogue, changes: Vec::new() }
    }

    /// One more update of one of three users.
    async fn send(&mut self) {
        let nth = self.changes.len();
        let change =
            Change::new(format!("user-{}", nth % 3), json!({"nth": nth, (nth.to_string()): nth}));
        self.stage.sent(std::slice::from_ref(&change)).await;
        self.changes.push(change);
    }

    /// The rogue turns to this, which is told in these words; then it is `well` again.
    async fn spring(&mut self, manner: Manner, words: &str, well: &Manner) -> AppStatus {
        self.rogue.turn(manner);
        let before = self.stage.gateway.app().await.totals.unwrap().failed_attempts;
        self.send().await;
        let app = until(words, async || {
            let app = self.stage.gateway.app().await;
            let failed = app.totals.unwrap().failed_attempts - before;
            // Between two tries its summary tells of nothing else.
            let told = app.last_error.contains(words) && app.summary.contains(words);
            (failed > 1 && told).then_some(app)
        })
        .await;
        assert!(app.failing_since.is_some(), "{app:?}");
        assert!(app.dead_letters == 0 && !app.last_error.contains("simulated-key"), "{app:?}");
        // The log may come a moment after the answer.
        until("a word in the log", async || {
            let log = self.stage.gateway.log();
            log.iter().any(|line| line.contains(words)).then_some(())
        })
        .await;
        // What comes meanwhile is taken.
        self.send().await;
        assert_eq!(self.stage.gateway.page("/readyz").await.0, 200);
        self.rogue.turn(well.clone());
        self.stage.delivers(&self.changes).await;
        let healed = self.stage.gateway.app().await;
        assert_eq!((&*healed.last_error, healed.failing_since), ("", None));
        app
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn repeats(first: impl Into<String>, again: impl Into<String>, pause_ms: u64) -> Manner {
    let pause = Duration::from_millis(pause_ms);
    Manner::Repeats { first: first.into(), again: again.into(), pause }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_waited_for_no_longer_than_allowed() {
    let mut ambush = Ambush::lay("http", |site| site).await;
    let chunked = format!("{OK}transfer-encoding: chunked\r\n\r\n");
    for (manner, words) in [
        (Manner::silent(), "timed out"),
        (repeats(OK, "x-more: to come\r\n", 20), "timed out"),
        (repeats(&chunked, "1\r\n \r\n", 20), "timed out"),
        (repeats(chunked.replace("200 OK", "503 Busy"), "1\r\nx\r\n", 20), "503"),
    ] {
        ambush.spring(manner, words, &Manner::Honest).await;
    }
}

#[tokio::test]
async fn of_an_answer_that_is_huge_no_more_is_read_than_allowed() {
    let mut ambush = Ambush::lay("http", |site| site.with("app.request_timeout_ms", 60_000)).await;
    let chunk = "y".repeat(1 << 16);
    for manner in [
        repeats(
            format!("{OK}transfer-encoding: chunked\r\n\r\n"),
            format!("10000\r\n{chunk}\r\n"),
            0,
        ),
        repeats(format!("{OK}content-length: {}\r\n\r\n", u64::MAX / 2), chunk, 0),
    ] {
        ambush.spring(manner, "the answer cannot be read", &Manner::Honest).await;
    }
    let said = ambush.rogue.said_max();
    assert!(said >= u64::from(ANSWER_BYTES_MAX) && said < BUFFERED_BYTES_MAX, "{said} bytes");
}

#[tokio::test]
async fn what_is_not_userpilots_answer_is_told_as_what_it_is() {
    let mut ambush = Ambush::lay("http", |site| site).await;
    let page = "<!doctype html><title>Sign in</title>";
    let page =
        format!("{OK}content-type: text/html\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    for (words, told) in [
        ("220 mail.example ESMTP\r\n", "the connection broke: invalid HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "the connection broke: invalid"),
        (&*page, "the answer is a page, and not JSON"),
    ] {
        ambush.spring(Manner::Says(words.to_owned()), told, &Manner::Honest).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_goes_nowhere_else() {
    let mut ambush = Ambush::lay("http", |site| site).await;
    let elsewhere = Rogue::before(ambush.stage.simulator.address(), Manner::Honest).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let to = format!("location: http://{}/v1/users/bulk_identify", elsewhere.address());
        let answer =
            format!("HTTP/1.1 {status}\r\n{to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let told = format!("{}: a redirect, which is not followed", &status[..3]);
        let app = ambush.spring(Manner::Says(answer), &told, &Manner::Honest).await;
        assert!(app.last_error.ends_with(", to http://127.0.0.1"), "{app:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

/// One who vouches for servers, and a server's certificate.
fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server of this name, for whom `issuer` vouches, or nobody.
fn server(name: &str, issuer: Option<&CertifiedIssuer<'static, KeyPair>>) -> Manner {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    Manner::Tls(Arc::new(config.unwrap()))
}

#[tokio::test]
async fn where_tls_fails_that_is_an_outage_and_is_told() {
    let issuer = issuer();
    let trust = |site: Site| site.with_file("SSL_CERT_FILE", "issuer.pem", &issuer.pem());
    let mut ambush = Ambush::lay("https", trust).await;
    let well = server("127.0.0.1", Some(&issuer));
    for (manner, words) in [
        (server("127.0.0.1", None), "cannot connect by TLS: invalid peer certificate"),
        (server("other.example", Some(&issuer)), "cannot connect by TLS: invalid peer certificate"),
        (Manner::Honest, "cannot connect by TLS: "),
        (Manner::silent(), "connecting timed out"),
    ] {
        ambush.spring(manner, words, &well).await;
    }
}
