//! Pages: the queue's order.
//!
//! A page lists subjects of one kind in the order of their records' first sequences, so that a
//! claim of one kind does not read over those of the other. One commit writes
//! one page for many new records, which costs a fraction of an entry for each (39 % of the
//! throughput, as measured). An entry is only a pointer: it counts while the subject's
//! pending record is in that lane and spans that sequence, and is passed over otherwise, so a
//! record that leaves out of turn needs no search. So a record may have more places than one, of
//! which the first whose turn comes takes it. Pages can be made anew from the records.
//!
//! A page keeps its key while entries leave it: no two ever come to have the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    After, AppState, Engine, EngineError, Head, Queue, StoreError, Stored, Transaction,
    clients::Entries, decode_or_set_aside, keys, shared::Numbers,
};
use crate::{
    domain::{
        merge::Record,
        update::{AppId, ClientId, Lane, Sequence, SubjectKind},
    },
    store::records::PageEntry,
};

/// Small enough that sled keeps the page in its log (a leaf of 16 stays under its 128 KiB).
const PAGE_ENTRIES_MAX: usize = 64;
const PAGE_BYTES_MAX: usize = 4_096;
/// Pages that are looked through for a lane's first record, but for one of each client: 16,000
/// entries.
const FIRST_PAGES_MAX: usize = 256;
/// How many entries one commit of a rebuild touches at the most.
const CHUNK: usize = 1_000;

/// Where a record stands in the queue.
type Place = (AppId, (SubjectKind, Lane), ClientId, Sequence);

/// Makes pages of records that come to stand in the queue.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    entries: BTreeMap<Place, Vec<u8>>,
}

impl PageBuilder {
    /// Adds a record, and the end of its key from the subject on. It has a place among those of
    /// its own client, and one for each of its guests: where the last update came, since where
    /// their own did is not known any more.
    pub(super) fn add(&mut self, app: AppId, record: &Record, subject_key: &[u8]) {
        self.add_guest(app, record, (record.client, record.first_sequence), subject_key);
        for guest in record.guests.iter().filter(|guest| **guest != record.client) {
            self.add_guest(app, record, (*guest, record.last_sequence), subject_key);
        }
    }

    /// Adds a record's place among those of another client: where that one's update came.
    pub(super) fn add_guest(
        &mut self,
        app: AppId,
        record: &Record,
        (client, sequence): (ClientId, Sequence),
        subject_key: &[u8],
    ) {
        let place = (app, (keys::kind_of(subject_key), record.lane), client, sequence);
        self.entries.insert(place, subject_key.to_vec());
    }

    /// Puts the pages. Returns what came with them, for [`Queue::keep_placed`]. No page that is
    /// there begins with a sequence past the last that was known.
    pub(super) async fn write(
        self,
        transaction: &mut impl Transaction,
        numbers: &mut Numbers,
    ) -> Result<Placed, StoreError> {
        let mut placed = Placed::default();
        let mut page: Option<Page> = None;
        for ((app, lane, client, first_sequence), subject_key) in self.entries {
            let queue = (app, lane, client);
            if let Some(full) = page.take_if(|page| page.queue != queue || page.is_full()) {
                full.write(transaction, numbers, &mut placed).await?;
            }
            let page = page.get_or_insert_with(|| Page { queue, entries: vec![], bytes: 0 });
            page.bytes += subject_key.len();
            page.entries.push(PageEntry { first_sequence, subject_key });
        }
        if let Some(page) = page {
            page.write(transaction, numbers, &mut placed).await?;
        }
        Ok(placed)
    }
}

/// What came with pages that were put.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Placed {
    /// How many entries of each client.
    pub(super) entries: BTreeMap<AppId, Entries>,
    /// Apps of which a page was damaged that one of these took the place of: others may have lost
    /// theirs.
    pub(super) damaged: BTreeSet<AppId>,
}

struct Page {
    queue: (AppId, (SubjectKind, Lane), ClientId),
    entries: Vec<PageEntry>,
    bytes: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.entries.len() >= PAGE_ENTRIES_MAX || self.bytes >= PAGE_BYTES_MAX
    }

    /// Puts it; where one is there that began with the same entry, they become one. Where that is
    /// damaged it is set aside, and the app is marked: its pages are to be made anew.
    async fn write(
        self,
        transaction: &mut impl Transaction,
        numbers: &mut Numbers,
        placed: &mut Placed,
    ) -> Result<(), StoreError> {
        let Self { queue: (app, lane, client), mut entries, .. } = self;
        let Some(first) = entries.first().map(|entry| entry.first_sequence) else { return Ok(()) };
        let key = keys::page(app, lane, client, first);
        let came = placed.entries.entry(app).or_default().entry(client).or_default();
        if first <= numbers.known(app)
            && let Some(bytes) = transaction.get(&key).await?
        {
            let there: Option<Vec<PageEntry>> =
                decode_or_set_aside(transaction, numbers.head(app), &key, bytes.as_ref())?;
            if there.is_none() {
                transaction.put(&keys::pages_damaged(app), Vec::new());
                placed.damaged.insert(app);
            }
            let there = there.unwrap_or_default();
            entries.retain(|entry| !there.contains(entry));
            *came += entries.len() as u64;
            entries.extend(there);
            entries.sort_unstable_by_key(|entry| entry.first_sequence);
        } else {
            *came += entries.len() as u64;
        }
        transaction.put(&key, entries.encode());
        Ok(())
    }
}

/// The record that has waited longest in a lane, whosever it is; `None`, or a later one, also where
/// more stale entries than anybody expects stand before it.
pub(super) async fn first_of(
    transaction: &mut impl Transaction,
    app: AppId,
    (kind, lane): (SubjectKind, Lane),
) -> Result<Option<Record>, EngineError> {
    let mut oldest: Option<Record> = None;
    let mut pages_left = FIRST_PAGES_MAX;
    let mut range = keys::pages(app, (kind, lane), None);
    while let Some((key, bytes)) = transaction.scan(range, 1).await?.pop() {
        let Some(client) = keys::client_of_page(&key) else { break };
        let before = |first| oldest.as_ref().is_none_or(|oldest| first < oldest.first_sequence);
        let goes_on = pages_left > 0 && keys::first_of_page(&key).is_some_and(before);
        pages_left = pages_left.saturating_sub(1);
        // What has a place here and is older yet stands before it in its own client's pages.
        let entries = Vec::<PageEntry>::decode(bytes.as_ref()).unwrap_or_default();
        let older = entries.into_iter().take_while(|entry| before(entry.first_sequence));
        for entry in older.collect::<Vec<_>>() {
            let bytes = transaction.get(&keys::pending_of(app, &entry.subject_key)).await?;
            let record = bytes.and_then(|bytes| Record::decode(bytes.as_ref()).ok());
            if let Some(record) = record.filter(|record| entry.leads_to(record, lane)) {
                oldest = Some(record);
                break;
            }
        }
        range = match goes_on {
            true => keys::pages(app, (kind, lane), Some(keys::after(key))),
            false => keys::pages_behind(app, (kind, lane), client),
        };
    }
    Ok(oldest)
}

impl<E: Engine> Queue<E> {
    /// Makes a transaction on an app durable that has put pages, and the pages anew if one was
    /// damaged.
    pub(super) async fn conclude_placed(
        &mut self,
        transaction: E::Transaction,
        app: AppId,
        (head, state): (Head, AppState),
        placed: Placed,
    ) -> Result<(), StoreError> {
        let Placed { mut entries, damaged } = placed;
        let come = entries.remove(&app).unwrap_or_default();
        let (head, state) = (Some(head), Some(state));
        self.conclude(transaction, app, After { head, state, come, ..After::default() }).await?;
        self.remake_pages(damaged).await
    }

    /// Makes the pages anew of apps of which one was damaged.
    pub(super) async fn remake_pages(&mut self, apps: BTreeSet<AppId>) -> Result<(), StoreError> {
        for app in apps {
            // Seldom: it is not to make every commit's future larger.
            Box::pin(self.rebuild_pages(app)).await?;
        }
        Ok(())
    }

    /// Makes an app's pages anew from its pending records, after one was damaged, and counts
    /// the records anew. The app is marked until this is done, and `recover` begins again
    /// where it was not. Takes as much memory as all pages together.
    pub(super) async fn rebuild_pages(&mut self, app: AppId) -> Result<(), StoreError> {
        if self.fleet.is_some() {
            return self.rebuild_at_once(app).await;
        }
        let (mut pages, depth) = self.read_pending(app).await?;
        self.delete_pages(app).await?;
        while !pages.entries.is_empty() {
            let rest = pages.entries.keys().nth(CHUNK).copied();
            let rest = rest.map(|first| pages.entries.split_off(&first)).unwrap_or_default();
            let mut transaction = self.engine.begin().await?;
            let some = std::mem::replace(&mut pages, PageBuilder { entries: rest });
            // They are counted once all are there, and no other is.
            let mut numbers = Numbers::One { known: 0, head: self.head };
            drop(some.write(&mut transaction, &mut numbers).await?);
            transaction.commit().await?;
        }
        let state = AppState {
            depth: depth.depth,
            bulk_records: depth.bulk_records,
            express_records: depth.express_records,
            company_records: depth.company_records,
            ..self.state(app)
        };
        let mut transaction = self.engine.begin().await?;
        transaction.put(&keys::app(app), state.encode());
        transaction.delete(&keys::pages_damaged(app));
        transaction.commit().await?;
        self.apps.insert(app, state);
        self.recount_clients().await
    }

    /// Reads all pending records of an app: their pages, and a state that counts them.
    /// Damaged ones, which no page would lead to any more, are set aside.
    async fn read_pending(&mut self, app: AppId) -> Result<(PageBuilder, AppState), StoreError> {
        let mut pages = PageBuilder::default();
        let mut counted = AppState::default();
        let mut from = None;
        loop {
            let mut transaction = self.engine.begin().await?;
            let mut head = self.head;
            let entries = transaction.scan(keys::all_pending(app, from), CHUNK).await?;
            let Some((last, _)) = entries.last() else { return Ok((pages, counted)) };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &entries {
                let bytes = bytes.as_ref();
                let record: Option<Record> =
                    decode_or_set_aside(&mut transaction, &mut head, key, bytes)?;
                if let Some(record) = record {
                    let subject_key = &key[keys::SUBJECT_AT..];
                    let kind = keys::kind_of(subject_key);
                    counted.count_in((kind, record.lane, key.len() + bytes.len()));
                    pages.add(app, &record, subject_key);
                }
            }
            if head != self.head {
                transaction.put(keys::HEAD, head.encode());
                transaction.commit().await?;
                self.head = head;
            }
        }
    }

    /// Deletes all pages of an app: one that stayed could come to have the key of a new one.
    async fn delete_pages(&self, app: AppId) -> Result<(), StoreError> {
        loop {
            let mut transaction = self.engine.begin().await?;
            let pages = transaction.scan(keys::all_pages(app), CHUNK).await?;
            if pages.is_empty() {
                return Ok(());
            }
            for (key, _) in pages {
                transaction.delete(&key);
            }
            transaction.commit().await?;
        }
    }
}
