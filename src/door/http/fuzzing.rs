//! Whatever callers of Userpilot's API send: it is answered with success or with a refusal in shape,
//! what is said to have been taken is what the queue took, and nothing stays held.

mod sent;

use std::{
    collections::BTreeMap,
    env,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) use self::sent::seeds;
use self::sent::{BULK_BYTES_MAX, Sent, TOKEN};
use super::{Api, BadRows, HttpDoor, HttpLimits, Pace, PassThroughs, Room, router};
use crate::{
    clock,
    domain::{admission::QueueLimits, budget::Occupancy, space::Space, update::AppId},
    door::{
        auth::{Access, Callers, Grant},
        caller::{ANYONE, Client},
        fuzzing::LIMITS,
        peer::PeerIdentity,
        properties::Properties,
        token::Hash,
        wire::Wire,
    },
    intake::{Intake, IntakeLimits},
    store::{self, AppTerms, GroupLimits, Store, Writer, engine::MemoryEngine, queue::Queue},
    trace::Traces,
};

/// Small, so that a fuzzer finds both sides of each.
const ROWS_MAX: usize = 12;
const HELD_BYTES_MAX: usize = 4_096;
const FULL_RECORDS_MAX: u64 = 2;
/// No answer is longer, save the API's description.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Nothing that is tried waits for anybody.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request: a byte of switches ([`sent`] has them), then its head, as in HTTP/1.1 but with lines
/// that end in `\n` and without the version, then an empty line and its body.
pub(crate) fn request(input: &[u8]) -> bool {
    let Some(sent) = Sent::read(input) else { return false };
    thread_local! {
        static RUNTIME: Runtime =
            runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(answered(&sent)))
}

async fn answered(sent: &Sent) -> bool {
    let stand = Stand::new(sent).await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let Some(request) = sent.request(&pulled) else { return stand.end(false).await };
    let answer = stand.answer(request).await;
    let status = answer.status;
    assert!(status.is_success() || status.is_client_error(), "{answer:?}");
    assert!(answer.body.len() <= ANSWER_BYTES_MAX || sent.path() == "/openapi.json", "{answer:?}");
    let accepted = stand.accepted();
    if status.is_client_error() && !sent.is_page() {
        is_in_shape(sent, &answer, accepted);
    }
    if sent.is_bulk() && status == StatusCode::ACCEPTED {
        stand.has_the_job(sent, &answer, accepted).await;
    } else {
        assert_eq!(stand.jobs().await, 0, "a job of nobody's");
        let may_take = if status.is_success() { 2 } else { 0 };
        assert!(sent.is_bulk() || accepted <= may_take, "{accepted} rows: {answer:?}");
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE && sent.is_plain() {
        let read = pulled.load(Relaxed);
        assert!(read <= BULK_BYTES_MAX + 2 * sent.chunk_bytes(), "{read} bytes were read");
    }
    let held = [&stand.api.buffers, &stand.api.spools].map(Room::free);
    assert_eq!(held, [HELD_BYTES_MAX; 2], "what was held is not free again");
    stand.end(status.is_success()).await
}

/// A refusal has Userpilot's shape, and tells of rows that were taken before it.
fn is_in_shape(sent: &Sent, answer: &Answer, accepted: u64) {
    if sent.method() == Method::HEAD {
        return;
    }
    let json: Json = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
    assert!(answer.is_json && answer.has_id, "{answer:?}");
    let errors = json["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 1, "{json}");
    let message = errors[0]["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty() && errors[0]["error_code"].is_string(), "{json}");
    assert!(errors[0]["details"].as_array().is_none_or(|all| all.len() <= 16), "{json}");
    let told = format!("; {accepted} rows of the request were taken before that");
    assert_eq!(message.contains(" rows of the request were taken"), accepted > 0, "{json}");
    assert!(accepted == 0 || message.contains(&told), "{accepted}: {json}");
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    is_json: bool,
    has_id: bool,
    body: Vec<u8>,
}

/// The door over a queue in memory.
struct Stand {
    router: Router,
    api: Arc<Api>,
    app: AppId,
    is_guarded: bool,
    writer: Writer,
}

impl Stand {
    async fn new(sent: &Sent) -> Self {
        let (store, writer, app) = store(sent.is_full()).await;
        let callers = callers(&store, app, sent.is_guarded()).await;
        let (_, space) = watch::channel(Space::default());
        let intake = IntakeLimits { waiting_updates_max: 64, waiting_bytes_max: 64 << 10 };
        let intake = Intake::new(store.clone(), Traces::default(), space, intake);
        let wire = Wire {
            limits: LIMITS,
            properties: Properties::default(),
            express: [app].into(),
            held: BTreeMap::new(),
        };
        let bad_rows = if sent.is_strict() { BadRows::RejectFile } else { BadRows::SkipRows };
        let limits = HttpLimits {
            body_bytes_max: BULK_BYTES_MAX,
            bulk_bytes_max: BULK_BYTES_MAX,
            bulk_rows_max: ROWS_MAX,
            pace: Pace { bytes_min: 1, within: TIMEOUT },
            bad_rows,
            spool: env::temp_dir(),
            jobs_max: 1,
            listed_jobs_max: 9,
        };
        let room = || Room::new(HELD_BYTES_MAX, BULK_BYTES_MAX);
        let (buffers, spools) = (room(), room());
        let (pass_through, stop) = (PassThroughs::new(), CancellationToken::new());
        let api = Api { wire, intake, store, callers, limits, pass_through, buffers, spools, stop };
        let api = Arc::new(api);
        let door = HttpDoor {
            not_ready: watch::channel(None).1,
            metrics: Arc::new(String::new),
            request_timeout: TIMEOUT,
            traces: Traces::default(),
            api: Arc::new(OnceLock::from(api.clone())),
        };
        Self { router: router(door), api, app, is_guarded: sent.is_guarded(), writer }
    }

    async fn answer(&self, mut request: Request<Body>) -> Answer {
        let address = "192.0.2.1:1".parse().expect("an address");
        request.extensions_mut().insert(PeerIdentity::plain(address));
        let answered = self.router.clone().oneshot(request);
        let answered: Response<Body> = in_time(answered).await.expect("it cannot fail");
        let (parts, body) = answered.into_parts();
        let body = in_time(body.collect()).await.expect("a body").to_bytes().into();
        let is = |name: &str| parts.headers.get(name);
        Answer {
            status: parts.status,
            is_json: is("content-type").is_some_and(|it| it == "application/json"),
            has_id: is("x-request-id").is_some(),
            body,
        }
    }

    /// How many updates the queue has taken.
    fn accepted(&self) -> u64 {
        self.api.store.app(self.app).expect("the app").accepted.load(Relaxed)
    }

    async fn get(&self, path: &str) -> Json {
        let mut request = Request::get(path);
        if self.is_guarded {
            request = request.header("authorization", format!("Token {TOKEN}"));
        }
        let answer = self.answer(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    async fn jobs(&self) -> usize {
        self.get("/v1/background_jobs").await.as_array().expect("a list").len()
    }

    /// What the job says is what the queue took of what was sent.
    async fn has_the_job(&self, sent: &Sent, answer: &Answer, accepted: u64) {
        let job: Json = serde_json::from_slice(&answer.body).expect("a job is JSON");
        assert_eq!(self.jobs().await, 1);
        let id = job["job_id"].as_str().expect("an id");
        let found = self.get(&format!("/v1/background_jobs/{id}")).await;
        let count = |key: &str| found[key].as_u64().expect("a count");
        assert_eq!(job["total_rows"], found["total_rows"], "{job} {found}");
        assert_eq!(count("total_rows"), accepted + count("failed_rows"), "{found}");
        assert!((1..=ROWS_MAX as u64).contains(&count("total_rows")), "{found}");
        if let Some(rows) = sent.rows() {
            assert_eq!(count("total_rows"), rows, "{found}");
        }
        let errors = found["errors"].as_array().expect("a list");
        assert_eq!(errors.len() as u64, count("failed_rows"), "{found}");
        let depth = self.api.store.app(self.app).expect("the app").queue.borrow().depth;
        assert!(depth.records <= accepted && (depth.records > 0) == (accepted > 0), "{depth:?}");
        assert!(!sent.is_strict() || count("failed_rows") == 0, "{found}");
    }

    /// Ends the queue, so that no thread is left.
    async fn end(self, taken: bool) -> bool {
        self.api.store.close().await;
        in_time(self.writer).await.expect("an end").expect("the writer goes on to the end");
        taken
    }
}

/// Nothing hangs.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(TIMEOUT, future).await.expect("it hangs")
}

async fn store(is_full: bool) -> (Store, Writer, AppId) {
    let limits = QueueLimits {
        records_max: if is_full { FULL_RECORDS_MAX } else { 1_000 },
        bytes_max: 1 << 20,
        record_bytes_max: LIMITS.record_bytes_max,
        record_properties_max: LIMITS.properties_max,
    };
    let queue = Queue::open(MemoryEngine::default(), limits, 7).await.expect("a queue");
    let full_job = Occupancy::begin(1, 60, clock::now());
    let terms = [AppTerms { name: "a".to_owned(), full_job, suppression: None }];
    let groups = GroupLimits { group_updates_max: 16, waiting_updates_max: 64 };
    let (store, writer, apps) = store::start(queue, &terms, groups).await.expect("a store");
    (store, writer, apps[0].0)
}

async fn callers(store: &Store, app: AppId, is_guarded: bool) -> Callers {
    let name = if is_guarded { "crm" } else { ANYONE };
    let terms = vec![(name.to_owned(), Default::default())];
    let ids = store.clients(terms).await.expect("an open store").expect("numbers");
    let client = Client::anyone(ids[0], BTreeMap::from([("a".to_owned(), app)]));
    let mut access = Access::default();
    if is_guarded {
        let client = Client { name: name.to_owned(), is_configured: true, ..client };
        let tokens = vec![Hash::of(TOKEN)];
        access.grants.push(Grant { client, tokens, ..Grant::default() });
    } else {
        access.anyone = Some(client);
    }
    Callers::new(access)
}
