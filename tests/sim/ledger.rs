//! The real queue as the delivery's ledger, and the ways to sabotage it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex as StdMutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use tokio::sync::Mutex;
use userpilot_gateway::{
    delivery::Ledger,
    domain::{
        admission::QueueRefusal,
        batch::{Batch, Claimable, Settlement},
        memory::Memory,
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, SubjectKind, Update, Value},
    },
    store::{
        StoreError,
        engine::MemoryEngine,
        queue::{Accepted, Claim, Queue, Reads, Settling},
    },
};

use crate::{
    remembering::{as_if_delivered, remember},
    sabotage::Sabotage,
};

/// One process's hands on the store.
pub(crate) struct SimLedger {
    pub(crate) queue: Mutex<Queue<MemoryEngine>>,
    pub(crate) reads: Reads<MemoryEngine>,
    pub(crate) app: AppId,
    /// The wall clock, in microseconds.
    pub(crate) wall: AtomicI64,
    pub(crate) sabotage: Option<Sabotage>,
    /// Who sends between the commits of one command.
    pub(crate) between: StdMutex<Between>,
}

/// What the queue made of a group, or nothing if it died meanwhile.
pub(crate) type Outcomes = Result<Vec<Result<Accepted, QueueRefusal>>, StoreError>;

/// Groups of updates that come between the commits of one command.
#[derive(Debug, Default)]
pub(crate) struct Between {
    /// Those that are ready to be sent.
    pub(crate) ready: VecDeque<Vec<Update>>,
    /// What became of those that were, in order.
    pub(crate) done: Vec<Outcomes>,
}

impl SimLedger {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Relaxed))
    }

    /// A commit has been made, and another is to follow: others come in between.
    async fn let_others_in(&self, queue: &mut Queue<MemoryEngine>) -> Result<(), StoreError> {
        let between = || self.between.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = between().ready.pop_front() else { return Ok(()) };
        let outcomes = queue.accept(group, self.now()).await;
        let died = outcomes.is_err();
        between().done.push(outcomes);
        // A process that died in the middle does nothing more.
        if died { queue.accept(Vec::new(), self.now()).await.map(drop) } else { Ok(()) }
    }

    /// The rows of a batch, as updates that would come now.
    async fn as_updates(&self, batch: &Batch) -> Result<Vec<Update>, StoreError> {
        let upload = self.reads.upload(batch).await?;
        let rows = upload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows = rows.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        let text = |value: &serde_json::Value| match value.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Text(value.as_str().unwrap_or_default().to_owned()),
        };
        let update = |row: serde_json::Value| {
            let id = |key: &str| row[key].as_str().map(str::to_owned);
            let (subject, company_id) = match batch.kind {
                SubjectKind::User => {
                    (Subject::user(id("user_id").unwrap_or_default()), id("company_id"))
                }
                SubjectKind::Company => {
                    (Subject::company(id("company_id").unwrap_or_default()), None)
                }
            };
            let properties = row["metadata"].as_object().into_iter().flatten();
            Update {
                app: self.app,
                client: ClientId(0),
                subject,
                company_id,
                properties: properties.map(|(name, value)| (name.clone(), text(value))).collect(),
                occurred_at: None,
                lane: Lane::Interactive,
            }
        };
        Ok(rows.map(update).collect())
    }
}

impl Ledger for SimLedger {
    type Error = StoreError;

    async fn claim(&self, claimable: Claimable) -> Result<Option<Box<Batch>>, StoreError> {
        let mut queue = self.queue.lock().await;
        let users_wait = queue.depth(self.app).by_kind().users > 0;
        let users_first = self.sabotage == Some(Sabotage::UsersFirst) && users_wait;
        let claimable = match users_first {
            true => Claimable { companies: None, ..claimable },
            false => claimable,
        };
        let mut continued = None;
        loop {
            match queue.claim(self.app, claimable, continued, self.now()).await? {
                Claim::Continues(batch) => {
                    continued = Some(batch);
                    self.let_others_in(&mut queue).await?;
                }
                Claim::Complete(batch) => return Ok(batch),
            }
        }
    }

    async fn advance(&self, batch: Box<Batch>, memory: Memory) -> Result<(), StoreError> {
        if self.sabotage == Some(Sabotage::ForgetAdvance) {
            return Ok(());
        }
        let forget = self.sabotage == Some(Sabotage::ForgetOccupancy);
        let memory = if forget { Memory::default() } else { memory };
        self.queue.lock().await.advance(&batch, memory).await
    }

    async fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> Result<Settling, StoreError> {
        let requeued = settlement == Settlement::Requeued;
        let on_top = self.sabotage == Some(Sabotage::RequeueOnTop) && requeued;
        let drops = self.sabotage == Some(Sabotage::DropRequeued) && requeued;
        let rows = if on_top { self.as_updates(&batch).await? } else { Vec::new() };
        let buries = matches!(settlement, Settlement::Dead(_));
        let hides = self.sabotage == Some(Sabotage::HideTheDead) && buries;
        let settlement = if on_top || drops || hides { Settlement::Delivered } else { settlement };
        let mut queue = self.queue.lock().await;
        let moves = !matches!(settlement, Settlement::Delivered | Settlement::Split(_));
        let learns = self.sabotage == Some(Sabotage::LearnsFromDoubt) && moves;
        let learned = match learns {
            true => Some(as_if_delivered(&queue, &batch, self.now()).await?),
            false => None,
        };
        let mut settling = queue.settle(&batch, settlement, memory, self.now()).await?;
        if let Some(held) = learned {
            remember(&queue, held).await?;
        }
        if self.sabotage == Some(Sabotage::ForgetParts) && batch.is_part() {
            settling.next = None;
        }
        if on_top {
            drop(queue.accept(rows, self.now()).await?);
        }
        if !settling.complete {
            self.let_others_in(&mut queue).await?;
        }
        Ok(settling)
    }

    async fn upload(&self, batch: &Batch) -> Result<Vec<u8>, StoreError> {
        let mut upload = self.reads.upload(batch).await?;
        if self.sabotage == Some(Sabotage::MixesKinds) && batch.kind == SubjectKind::User {
            upload.extend(b"{\"company_id\":\"k0\"}\n");
        }
        Ok(upload)
    }
}
