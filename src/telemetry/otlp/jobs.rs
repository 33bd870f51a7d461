//! Spans of jobs, with links to the requests whose updates they delivered.

use opentelemetry::{
    KeyValue,
    trace::{SpanBuilder, SpanKind, Status},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    domain::{
        batch::{Batch, BatchId, Settlement},
        time::Timestamp,
        update::AppId,
    },
    store::{Store, queue::Found},
    trace::{Carried, Ended, EndedWork, Traces, system_time},
};

/// Makes spans of what ended.
pub struct Linker {
    /// Where they go.
    pub traces: Traces,
    /// What ended.
    pub work: EndedWork,
    /// Where to look for what became of an update.
    pub store: Store,
    /// The names of apps.
    pub apps: Vec<(AppId, String)>,
    /// Who exports.
    pub provider: SdkTracerProvider,
}

/// What became of an update.
enum Fate {
    /// It waits, or is on its way.
    Open,
    /// It came to its end in this batch.
    In(BatchId),
    /// It was delivered by express.
    Express(Timestamp),
    /// It came to its end otherwise, or nobody knows.
    Over,
}

impl Linker {
    /// Works until `stop`, then has what is left exported.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let (app, ended) = tokio::select! {
                biased;
                Some(ended) = self.work.recv() => ended,
                () = stop.cancelled() => break,
            };
            match ended {
                Ended::Job(batch, settlement) => {
                    let carried = self.traces.carried(app);
                    self.job(&batch, settlement, carried).await;
                }
                Ended::Express(subjects) => {
                    for subject in subjects {
                        self.express(app, self.traces.carried_of(app, &subject)).await;
                    }
                }
            }
        }
        let Self { provider, .. } = self;
        // It blocks. A collector that is away was complained about by the exporter.
        tokio::task::spawn_blocking(move || provider.shutdown().ok()).await.ok();
    }

    async fn job(&self, batch: &Batch, settlement: Settlement, carried: Vec<Carried>) {
        let ends = matches!(settlement, Settlement::Delivered | Settlement::Dead(_));
        let mut links = Vec::new();
        // The others wait on: nothing of them has come to its end.
        for update in carried.into_iter().filter(|_| ends) {
            match self.fate(&update).await {
                Fate::In(id) if id == batch.id => {
                    self.traces.forget(&update);
                    links.push(update.context);
                }
                Fate::Over => self.traces.forget(&update),
                Fate::In(_) | Fate::Express(_) | Fate::Open => {}
            }
        }
        let status = match settlement {
            Settlement::Delivered => Status::Ok,
            Settlement::Requeued | Settlement::Split(_) => Status::error("not taken"),
            Settlement::Dead(reason) => Status::error(reason.to_string()),
        };
        let begun = batch.submitted_at.unwrap_or(batch.claimed_at);
        let builder = SpanBuilder::from_name("bulk_identify")
            .with_kind(SpanKind::Client)
            .with_start_time(system_time(begun))
            .with_attributes(self.attributes(batch));
        self.traces.over(builder, links, system_time(clock::now().wall), status);
    }

    fn attributes(&self, batch: &Batch) -> Vec<KeyValue> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            KeyValue::new("userpilot_gateway.app", self.name(batch.id.app)),
            KeyValue::new("userpilot_gateway.kind", batch.kind.to_string()),
            KeyValue::new("userpilot_gateway.batch_id", batch.id.to_string()),
            KeyValue::new("userpilot_gateway.rows", count(batch.rows)),
            KeyValue::new("userpilot_gateway.updates", count(batch.updates)),
            KeyValue::new("userpilot_gateway.bytes", count(batch.bytes)),
            KeyValue::new("userpilot_gateway.submissions", i64::from(batch.submissions)),
            KeyValue::new("userpilot.job_id", text(&batch.job_id)),
            KeyValue::new("userpilot.request_id", text(&batch.request_id)),
        ]
    }

    /// A span for each of a subject's updates that went by express: of its request to upstream no more
    /// is known here than when it was answered.
    async fn express(&self, app: AppId, carried: Vec<Carried>) {
        for update in carried {
            match self.fate(&update).await {
                Fate::Express(at) => {
                    self.traces.forget(&update);
                    let attributes = vec![KeyValue::new("userpilot_gateway.app", self.name(app))];
                    let at = system_time(at);
                    let builder = SpanBuilder::from_name("identify")
                        .with_kind(SpanKind::Client)
                        .with_start_time(at)
                        .with_attributes(attributes);
                    self.traces.over(builder, vec![update.context], at, Status::Ok);
                }
                Fate::Over => self.traces.forget(&update),
                Fate::In(_) | Fate::Open => {}
            }
        }
    }

    async fn fate(&self, update: &Carried) -> Fate {
        let subject = update.subject.clone();
        let Ok(found) = self.store.find(update.app, subject, update.sequence).await else {
            return Fate::Open;
        };
        match found {
            Found::Pending { .. } | Found::InFlight(_) | Found::InExpress => Fate::Open,
            Found::Delivered { by_express: true, delivered_at, .. } => Fate::Express(delivered_at),
            Found::Delivered { batch: Some(batch), .. } => Fate::In(batch.id),
            Found::Dead(letter) => Fate::In(letter.death.batch),
            Found::Delivered { batch: None, .. }
            | Found::DeliveredLongAgo
            | Found::Forgotten
            | Found::Damaged
            | Found::Unknown => Fate::Over,
        }
    }

    fn name(&self, app: AppId) -> String {
        let found = self.apps.iter().find(|(id, _)| *id == app);
        found.map(|(_, name)| name.clone()).unwrap_or_default()
    }
}
