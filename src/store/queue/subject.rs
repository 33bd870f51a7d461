//! Reading what operators ask for: all that is known of a subject, all that waits, and for how long
//! something of each client's has.

use std::collections::{BTreeMap, VecDeque};

use super::{
    AppState, Batch, Engine, Reads, StoreError, Stored, Transaction, decode,
    find::{find_batch, find_part},
    keys::{self, NameSpace},
};
use crate::{
    domain::{
        merge::Record,
        time::Timestamp,
        update::{AppId, ClientId, Lane, Sequence, Subject, SubjectKind},
    },
    store::{
        names::names,
        records::{Delivery, EXPRESS, InFlight, PageEntry, Remembered},
    },
};

/// Deliveries that are told of, the newest.
const DELIVERIES_MAX: usize = 100;
const CHUNK: usize = 256;

/// All that is known of a subject, save its dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectRecords {
    /// What waits.
    pub pending: Option<Record>,
    /// What is in flight.
    pub in_flight: Option<RecordInFlight>,
    /// What was delivered, newest first.
    pub deliveries: Vec<DeliveredRecord>,
    /// Whether it is remembered what upstream holds of it.
    pub is_remembered: bool,
}

/// A record that is in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordInFlight {
    /// Its batch; `None` where it goes by express.
    pub batch: Option<Box<Batch>>,
    /// The record.
    pub record: Record,
}

/// That a record was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveredRecord {
    /// When.
    pub delivered_at: Timestamp,
    /// From its first sequence to its last.
    pub sequences: (Sequence, Sequence),
    /// In which batch, where that is remembered.
    pub batch: Option<Box<Batch>>,
    /// Whether it went by express.
    pub by_express: bool,
}

/// Some pending records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PendingPage {
    /// The records, in the order of their subjects.
    pub records: Vec<(Subject, Record)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl<E: Engine> Reads<E> {
    /// All that is known of a subject, save its dead letters. Reads follow the way that records go:
    /// what moves on meanwhile is met again, and counts where it was met last.
    pub async fn subject(
        &self,
        app: AppId,
        subject: &Subject,
    ) -> Result<SubjectRecords, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let pending = transaction.get(&keys::pending(app, subject)).await?;
        let pending = pending.map(|bytes| decode::<Record>(bytes.as_ref())).transpose()?.flatten();
        let row = transaction.get(&keys::in_flight(app, subject)).await?;
        let row = row.map(|bytes| decode::<InFlight>(bytes.as_ref())).transpose()?.flatten();
        let row = row.filter(|row| !row.forgotten);
        let in_flight = match row {
            None => None,
            Some(row) => {
                let batch = match row.is_express() {
                    true => None,
                    false => find_part(&mut transaction, app, &row).await?,
                };
                Some(RecordInFlight { batch, record: row.record })
            }
        };
        let deliveries = deliveries(&mut transaction, app, subject).await?;
        let was_delivered =
            |last: Sequence| deliveries.iter().any(|delivery| delivery.sequences.1 == last);
        let in_flight = in_flight.filter(|it| !was_delivered(it.record.last_sequence));
        let was_claimed = |waiting: &Record| {
            let claimed = in_flight.as_ref().map(|it| it.record.first_sequence);
            claimed == Some(waiting.first_sequence) || was_delivered(waiting.last_sequence)
        };
        let pending = pending.filter(|waiting| !was_claimed(waiting));
        let is_remembered = is_remembered(&mut transaction, app, subject).await?;
        Ok(SubjectRecords { pending, in_flight, deliveries, is_remembered })
    }

    /// Up to `limit` pending records of an app, from a place on.
    pub async fn pending(
        &self,
        app: AppId,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<PendingPage, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let entries = transaction.scan(keys::all_pending(app, from), limit).await?;
        let mut page = PendingPage::default();
        for (key, bytes) in &entries {
            // A damaged one is set aside when it is claimed.
            let record: Option<Record> = decode(bytes.as_ref())?;
            page.records.extend(keys::subject_of(key).zip(record));
        }
        page.next = entries.last().map(|(last, _)| keys::after(last.clone()));
        Ok(page)
    }

    /// When the first update of the record of each client's own that waits longest was accepted.
    pub async fn oldest_by_client(
        &self,
        app: AppId,
    ) -> Result<BTreeMap<ClientId, Timestamp>, StoreError> {
        let mut oldest = BTreeMap::new();
        for kind in SubjectKind::ALL {
            for lane in Lane::ALL {
                let mut transaction = self.engine.begin().await?;
                let mut range = keys::pages(app, (kind, lane), None);
                while let Some((key, bytes)) = transaction.scan(range, 1).await?.pop() {
                    let Some(client) = keys::client_of_page(&key) else { break };
                    let first = first_in(&mut transaction, (app, lane), bytes.as_ref()).await?;
                    if let Some(at) = first {
                        let known = oldest.entry(client).or_insert(at);
                        *known = at.min(*known);
                        range = keys::pages_behind(app, (kind, lane), client);
                    } else {
                        // All that stood there has gone its way.
                        let pages = keys::pages(app, (kind, lane), Some(keys::after(key)));
                        range = pages;
                    }
                }
            }
        }
        Ok(oldest)
    }

    /// The names of all clients that ever had one.
    pub async fn client_names(&self) -> Result<BTreeMap<ClientId, String>, StoreError> {
        let names = names(&self.engine, NameSpace::Client).await?;
        Ok(names.into_iter().filter_map(|it| Some((ClientId(it.number?), it.text))).collect())
    }
}

/// When the first record of a page that is still where it points to was accepted.
async fn first_in(
    transaction: &mut impl Transaction,
    (app, lane): (AppId, Lane),
    page: &[u8],
) -> Result<Option<Timestamp>, StoreError> {
    for entry in Vec::<PageEntry>::decode(page).unwrap_or_default() {
        let bytes = transaction.get(&keys::pending_of(app, &entry.subject_key)).await?;
        let record = bytes.and_then(|bytes| Record::decode(bytes.as_ref()).ok());
        let record =
            record.filter(|it| it.lane == lane && it.first_sequence == entry.first_sequence);
        if let Some(record) = record {
            return Ok(Some(record.first_accepted_at));
        }
    }
    Ok(None)
}

/// The deliveries of a subject, newest first.
async fn deliveries(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
) -> Result<Vec<DeliveredRecord>, StoreError> {
    let mut newest = VecDeque::new();
    let (mut from, end) = keys::deliveries(app, subject, 0).into_inner();
    loop {
        let entries = transaction.scan(from..=end.clone(), CHUNK).await?;
        let Some((last, _)) = entries.last() else { break };
        from = keys::after(last.clone());
        for (key, bytes) in &entries {
            let last = key.last_chunk().map(|last| Sequence::from_be_bytes(*last));
            let delivery: Option<Delivery> = decode(bytes.as_ref())?;
            newest.extend(last.zip(delivery));
        }
        let surplus = newest.len().saturating_sub(DELIVERIES_MAX);
        newest.drain(..surplus);
    }
    let mut deliveries = Vec::with_capacity(newest.len());
    for (last, delivery) in newest.into_iter().rev() {
        let by_express = delivery.batch == EXPRESS;
        deliveries.push(DeliveredRecord {
            delivered_at: delivery.delivered_at,
            sequences: (delivery.first_sequence, last),
            batch: match by_express {
                true => None,
                false => find_batch(transaction, app, delivery.batch).await?,
            },
            by_express,
        });
    }
    Ok(deliveries)
}

/// Whether the app remembers what upstream holds of the subject.
async fn is_remembered(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
) -> Result<bool, StoreError> {
    let state = transaction.get(&keys::app(app)).await?;
    let state = state.and_then(|bytes| AppState::decode(bytes.as_ref()).ok());
    if !state.is_some_and(|state| state.remembers) {
        return Ok(false);
    }
    let pending = keys::pending(app, subject);
    let held = transaction.get(&keys::held_of(app, &pending[keys::SUBJECT_AT..])).await?;
    let held = held.and_then(|bytes| Remembered::decode(bytes.as_ref()).ok());
    Ok(held.is_some_and(|held| !held.delivered.is_empty()))
}
