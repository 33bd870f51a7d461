//! Five pretend services, each with a connection and a stream of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use prost_types::{Struct, value::Kind};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::client::{self, AccessArgs, Connection},
    clock,
    proto::{
        StreamUserUpdatesRequest, UserUpdate, ingest_service_client::IngestServiceClient,
        stream_user_updates_response::Result as Answer,
    },
};

/// The users that the services know.
const USERS: u64 = 3_000;
/// Updates that a service has under way.
const AHEAD_MAX: usize = 64;

/// A service: its name, its updates a second, and what it sends.
type Service = (&'static str, u32, fn(&mut SmallRng, u64) -> Vec<(&'static str, Kind)>);

const SERVICES: [Service; 5] = [
    ("web-app", 200, |random, n| {
        vec![("page_views", number(n)), ("last_page", pick(random, &["home", "docs", "reports"]))]
    }),
    ("billing", 60, |random, _| {
        vec![
            ("plan", pick(random, &["free", "team", "pro"])),
            ("mrr", number(random.random_range(0..900))),
        ]
    }),
    ("support", 40, |random, n| {
        vec![("tickets_created", number(n)), ("vip", Kind::BoolValue(random.random_bool(0.1)))]
    }),
    ("mailer", 100, |random, n| {
        let opened = if random.random_bool(0.2) { Kind::NullValue(0) } else { number(n) };
        vec![("last_mail_opened", opened)]
    }),
    ("crm-sync", 100, |random, _| {
        vec![
            ("owner", pick(random, &["ada", "grace", "edsger"])),
            ("score", Kind::NumberValue(f64::from(random.random_range(0..1_000_u32)) / 10.0)),
        ]
    }),
];

#[expect(clippy::cast_precision_loss, reason = "counts of a demo are small")]
fn number(n: u64) -> Kind {
    Kind::NumberValue(n as f64)
}

fn pick(random: &mut SmallRng, words: &[&str]) -> Kind {
    Kind::StringValue(words[random.random_range(0..words.len())].to_owned())
}

/// An update that was sent and accepted.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) update: UserUpdate,
}

/// How much a service has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) name: &'static str,
    pub(super) sent: u64,
    pub(super) accepted: u64,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    accepted: AtomicU64,
}

/// The services, at work.
pub(super) struct Services {
    tasks: Mutex<JoinSet<anyhow::Result<Vec<Sent>>>>,
    counters: Arc<[Counters; SERVICES.len()]>,
    stop: CancellationToken,
}

impl Services {
    /// Connects them to the gateway at `address`, and begins to send.
    pub(super) async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let counters: Arc<[Counters; SERVICES.len()]> = Arc::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for index in 0..SERVICES.len() {
            let channel =
                client::connect(&format!("http://{address}"), &AccessArgs::default()).await?;
            let client = IngestServiceClient::new(channel);
            tasks.spawn(serve(index, client, counters.clone(), stop.clone()));
        }
        Ok(Self { tasks: Mutex::new(tasks), counters, stop })
    }

    /// Stops sending. What was sent is still answered.
    pub(super) fn stop_sending(&self) {
        self.stop.cancel();
    }

    /// How much each has done.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let counts = SERVICES.iter().zip(&*self.counters).map(|((name, ..), counters)| Counts {
            name,
            sent: counters.sent.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
        });
        counts.collect()
    }

    /// Whether all that was sent has been answered.
    pub(super) fn are_answered(&self) -> bool {
        self.counts().iter().all(|counts| counts.sent == counts.accepted)
    }

    /// All that was accepted, of all services, in the order of the world.
    pub(super) async fn finish(self) -> anyhow::Result<Vec<Sent>> {
        let tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for sent in tasks.join_all().await {
            all.extend(sent?);
        }
        all.sort_by_key(|sent| sent.sequence);
        Ok(all)
    }
}

async fn serve(
    index: usize,
    mut client: IngestServiceClient<Connection>,
    counters: Arc<[Counters; SERVICES.len()]>,
    stop: CancellationToken,
) -> anyhow::Result<Vec<Sent>> {
    let (_, updates_per_second, make) = SERVICES[index];
    let counters = &counters[index];
    let (outgoing, requests) = mpsc::channel(AHEAD_MAX);
    let mut answers = client.stream_user_updates(ReceiverStream::new(requests)).await?.into_inner();
    let mut random = SmallRng::seed_from_u64(index as u64);
    let sending = async move {
        let mut updates = Vec::new();
        let pause = Duration::from_secs(1) / updates_per_second;
        let mut next = clock::now().instant;
        while !stop.is_cancelled() {
            next = next.plus(pause);
            let properties = make(&mut random, updates.len() as u64);
            let update = user_update(popular(&mut random), properties);
            updates.push(update.clone());
            let tag = updates.len() as u64 - 1;
            let request = StreamUserUpdatesRequest { tag, update: Some(update), company: None };
            if outgoing.send(request).await.is_err() {
                break;
            }
            counters.sent.fetch_add(1, Relaxed);
            clock::sleep_until(Some(next)).await;
        }
        updates
    };
    let hearing = async {
        let mut accepted = Vec::new();
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            match answer.result {
                Some(Answer::Accepted(update)) => accepted.push((answer.tag, update.sequence)),
                Some(Answer::Error(error)) => anyhow::bail!("refused: {}", error.message),
                None => anyhow::bail!("an answer without a result"),
            }
            counters.accepted.fetch_add(1, Relaxed);
        }
        anyhow::Ok(accepted)
    };
    let (updates, accepted) = tokio::join!(sending, hearing);
    let sent = accepted?.into_iter().map(|(tag, sequence)| {
        let update = usize::try_from(tag).ok().and_then(|tag| updates.get(tag)).cloned();
        Ok(Sent { sequence, update: update.context("an answer to nothing that was sent")? })
    });
    sent.collect()
}

/// A user; some are much more active than others.
fn popular(random: &mut impl Rng) -> u64 {
    let evenly: f64 = random.random();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 0 to USERS"
    )]
    return (evenly.powi(4) * USERS as f64) as u64;
}

fn user_update(user: u64, properties: Vec<(&'static str, Kind)>) -> UserUpdate {
    let fields = properties
        .into_iter()
        .map(|(name, kind)| (name.to_owned(), prost_types::Value { kind: Some(kind) }));
    UserUpdate {
        user_id: format!("user-{user}"),
        company_id: Some(format!("company-{}", user % 40)),
        metadata: Some(Struct { fields: fields.collect() }),
        ..UserUpdate::default()
    }
}
