//! Forgetting: all that is kept of a subject is erased.
//!
//! What waits, what died and what is remembered of deliveries goes in one commit. A record in
//! flight cannot be called back: its values are erased with the rest, and it goes without a
//! trace when its batch is settled, however that ends. What is left are mentions in entries of
//! others (pages of the queue, what was set aside, upstream's words): they are swept out, some
//! at a time. A tombstone of 16 digested bytes remains, so that receipts are answered rightly.

use super::{
    After, AppState, Batch, Engine, Queue, Scope, StoreError, Stored, Transaction,
    clients::Entries, dead, decode, jobs::erase_words, keys,
};
use crate::{
    domain::{
        batch::BatchState,
        merge::Record,
        time::Timestamp,
        update::{AppId, Sequence, Subject},
    },
    store::{
        mention::{Mention, mention},
        records::{
            Dead, InFlight, PageEntry, Tombstone,
            jobs::{Job, JobRow},
        },
    },
};

/// How many entries one commit of a sweep looks at.
const CHUNK: usize = 500;

/// What was erased of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Updates up to this sequence are forgotten.
    pub up_to: Sequence,
    /// Pending records.
    pub pending: u64,
    /// Records whose values were erased, and that are gone when their batch is settled.
    pub in_flight: u64,
    /// Dead letters, closed ones too.
    pub dead_letters: u64,
    /// Deliveries that were remembered.
    pub deliveries: u64,
    /// Damaged entries that had been set aside.
    pub quarantined: u64,
}

/// What a sweep has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Mentions that were erased.
    pub erased: u64,
    /// Where it goes on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl<E: Engine> Queue<E> {
    /// Erases what is kept of a subject under keys of its own, in one durable commit. Mentions
    /// elsewhere are for [`Self::sweep`].
    pub async fn forget(
        &mut self,
        app: AppId,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Forgotten, StoreError> {
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        let mut state = self.state(app);
        let key = keys::pending(app, subject);
        let subject_key = &key[keys::SUBJECT_AT..];
        let up_to = self.head.last_sequence;
        let mut forgotten = Forgotten { up_to, ..Forgotten::default() };

        if let Some(bytes) = transaction.get(&key).await? {
            let stored_bytes = key.len() + bytes.as_ref().len();
            match decode::<Record>(bytes.as_ref())? {
                Some(record) => state.count_out((subject.kind, record.lane, stored_bytes)),
                None => state.count_out_damaged(subject.kind, stored_bytes),
            }
            transaction.delete(&key);
            forgotten.pending += 1;
        }
        forgotten.in_flight += forget_in_flight(&mut transaction, app, subject).await?;
        for id in dead::ids_of(&mut transaction, app, subject_key).await? {
            let letter_key = keys::dead(app, id.died_at, id.last_sequence);
            if let Some(bytes) = transaction.get(&letter_key).await? {
                let letter: Option<Dead> = decode(bytes.as_ref())?;
                let open = letter.is_none_or(|letter| letter.closed.is_none());
                state.dead_letters = state.dead_letters.saturating_sub(u64::from(open));
                transaction.delete(&letter_key);
                forgotten.dead_letters += 1;
            }
            transaction.delete(&keys::dead_of(app, subject_key, id.died_at, id.last_sequence));
        }
        for (key, _) in transaction.scan(keys::deliveries(app, subject, 0), usize::MAX).await? {
            transaction.delete(&key);
            forgotten.deliveries += 1;
        }
        for of in [&key, &keys::in_flight(app, subject)] {
            for (key, _) in transaction.scan(keys::quarantines(of, 0), usize::MAX).await? {
                transaction.delete(&key);
                forgotten.quarantined += 1;
            }
        }
        transaction.delete(&keys::held_of(app, subject_key));
        let grave = keys::forgotten(app, self.head.store, subject_key);
        transaction.put(&grave, Tombstone { up_to, forgotten_at: now }.encode());
        let (head, state) = (Some(self.head), Some(state));
        self.conclude(transaction, app, After { head, state, ..After::default() }).await?;
        self.jobs.places.erase(app, subject, up_to);
        Ok(forgotten)
    }

    /// Sweeps mentions of a subject up to the sequence `up_to` out of the next entries that may
    /// hold some.
    pub async fn sweep(
        &mut self,
        app: AppId,
        subject: &Subject,
        up_to: Sequence,
        from: Option<Vec<u8>>,
    ) -> Result<Swept, StoreError> {
        let from = from.unwrap_or_default();
        let places = [
            keys::batches(app, u64::MAX),
            keys::jobs::all_of_app(app),
            keys::jobs::all_pages_of_app(app),
            keys::all_dead(app, None),
            keys::all_pages(app),
            keys::all_quarantines(),
        ];
        let mut sweep = Sweep {
            transaction: self.begin(Scope::App(app), &[]).await?,
            of: Mention { app, subject, up_to },
            state: self.state(app),
            erased: 0,
            pages_damaged: false,
            gone: Entries::new(),
        };
        let mut next = None;
        for place in places {
            let (start, end) = place.into_inner();
            if from > end {
                continue;
            }
            let entries = sweep.transaction.scan(start.max(from.clone())..=end, CHUNK).await?;
            let Some((last, _)) = entries.last() else { continue };
            next = Some(keys::after(last.clone()));
            for (key, bytes) in &entries {
                sweep.entry(key, bytes.as_ref())?;
            }
            break;
        }
        let Sweep { transaction, state, erased, pages_damaged, gone, .. } = sweep;
        // The last commit is a small one, and is made in any case: an engine may keep its last
        // small commit as it was, and that of the forgetting holds the subject's keys.
        if erased > 0 || next.is_none() {
            let (head, state) = (Some(self.head), Some(state));
            self.conclude(transaction, app, After { head, state, gone, ..After::default() })
                .await?;
        } else {
            self.leave(transaction).await?;
        }
        if pages_damaged {
            self.rebuild_pages(app).await?;
        }
        Ok(Swept { erased, next })
    }
}

/// Erases the values of the subject's record in flight. One that is damaged can go at once: no
/// upload holds it.
async fn forget_in_flight(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
) -> Result<u64, StoreError> {
    let key = keys::in_flight(app, subject);
    let Some(bytes) = transaction.get(&key).await? else { return Ok(0) };
    match decode::<InFlight>(bytes.as_ref())? {
        Some(mut row) => {
            row.forget();
            transaction.put(&key, row.encode());
        }
        None => transaction.delete(&key),
    }
    Ok(1)
}

struct Sweep<'a, T> {
    transaction: T,
    of: Mention<'a>,
    state: AppState,
    erased: u64,
    pages_damaged: bool,
    /// Entries of pages that went.
    gone: Entries,
}

impl<T: Transaction> Sweep<'_, T> {
    fn entry(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        if !mention(&self.of, key, bytes).is_old() {
            return Ok(());
        }
        self.erased += 1;
        match key.first() {
            Some(b'b') => self.batch(key, bytes),
            Some(b'j') => self.job(key, bytes),
            Some(b'k') => self.job_page(key, bytes),
            Some(b'l') => self.dead(key, bytes),
            Some(b'q') => self.page(key, bytes),
            Some(_) | None => {
                self.transaction.delete(key);
                Ok(())
            }
        }
    }

    /// One whose delivery is under way is its driver's; its words go with the next sweep.
    fn batch(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let batch: Option<Batch> = decode(bytes)?;
        if let Some(batch) = batch.filter(|batch| matches!(batch.state, BatchState::Settled(_))) {
            let batch = Batch { last_error: String::new(), ..batch };
            self.transaction.put(key, batch.encode());
        }
        Ok(())
    }

    /// A virtual job without the words that may quote the subject.
    fn job(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let Some(mut job) = decode::<Job>(bytes)? else {
            self.transaction.delete(key);
            return Ok(());
        };
        erase_words(&mut job, &self.of.subject.id);
        self.transaction.put(key, job.encode());
        Ok(())
    }

    /// A virtual job's rows, those of the subject without it: they are over.
    fn job_page(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let Some(mut rows) = decode::<Vec<JobRow>>(bytes)? else {
            self.transaction.delete(key);
            return Ok(());
        };
        let subject_key = self.of.subject_key();
        for row in &mut rows {
            if row.subject_key == subject_key && row.sequence <= self.of.up_to {
                row.subject_key.clear();
            }
        }
        self.transaction.put(key, rows.encode());
        Ok(())
    }

    /// A letter that the index by subject does not lead to, or that cannot be read.
    fn dead(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let letter: Option<Dead> = decode(bytes)?;
        let open = letter.is_none_or(|letter| letter.closed.is_none());
        self.state.dead_letters = self.state.dead_letters.saturating_sub(u64::from(open));
        self.transaction.delete(key);
        Ok(())
    }

    /// The page without the subject's entries. One that is damaged is made anew with the others.
    fn page(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let Some(mut entries) = decode::<Vec<PageEntry>>(bytes)? else {
            self.transaction.put(&keys::pages_damaged(self.of.app), Vec::new());
            self.pages_damaged = true;
            return Ok(());
        };
        let of = &self.of;
        let subject_key = of.subject_key();
        let count = entries.len();
        entries.retain(|it| it.subject_key != subject_key || it.first_sequence > of.up_to);
        if let Some(client) = keys::client_of_page(key) {
            *self.gone.entry(client).or_default() += (count - entries.len()) as u64;
        }
        match entries.is_empty() {
            true => self.transaction.delete(key),
            false => self.transaction.put(key, entries.encode()),
        }
        Ok(())
    }
}
