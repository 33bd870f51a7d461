//! Lanes, as a claim goes through them: their clients in turns, each from page to page.

use std::collections::{BTreeMap, VecDeque};

use super::{
    AppState, EngineError, StoreError, Stored, Transaction,
    claim::{Chunk, Fate},
    clients::Clients,
    decode_or_set_aside, keys,
};
use crate::{
    domain::{
        batch::BatchLimits,
        turns::Turns,
        update::{AppId, ClientId, Lane, SubjectKind},
    },
    store::records::PageEntry,
};

/// What goes before the bulk lane. Its clients have their turns in common: what one of them calls
/// express goes before its own other records, and before nobody else's.
pub(super) const URGENT: &[Lane] = &[Lane::Express, Lane::Interactive];

/// Where a claim is in some lanes of a kind.
pub(super) struct LaneCursor {
    kind: SubjectKind,
    /// Of each client, all of the first before any of the next.
    lanes: &'static [Lane],
    turns: Turns,
    /// The lanes that clients have come to.
    at: BTreeMap<ClientId, usize>,
    pages: BTreeMap<ClientId, OpenPage>,
    /// Entries of each client that were looked at in vain.
    in_vain: BTreeMap<ClientId, usize>,
}

/// The page of a client that is gone through.
struct OpenPage {
    key: Vec<u8>,
    /// How many entries it had.
    count: usize,
    /// Those that stay in it.
    staying: Vec<PageEntry>,
    /// Those that nobody has looked at.
    rest: VecDeque<PageEntry>,
}

impl LaneCursor {
    /// The beginning of the lanes. Whose turn it is, is known from the last time.
    pub(super) async fn open(
        transaction: &mut impl Transaction,
        app: AppId,
        (kind, lanes): (SubjectKind, &'static [Lane]),
        (clients, state): (&Clients, &AppState),
    ) -> Result<Self, EngineError> {
        let mut waiting = BTreeMap::new();
        for lane in lanes {
            let mut range = keys::pages(app, (kind, *lane), None);
            while let Some((key, _)) = transaction.scan(range, 1).await?.pop() {
                let Some(client) = keys::client_of_page(&key) else { break };
                waiting.insert(client, clients.weight(client));
                range = keys::pages_behind(app, (kind, *lane), client);
            }
        }
        Ok(Self {
            kind,
            lanes,
            turns: Turns::new(waiting, state.turns.of(kind)[place_of_turn(lanes)]),
            at: BTreeMap::new(),
            pages: BTreeMap::new(),
            in_vain: BTreeMap::new(),
        })
    }

    /// The lane that a client has come to.
    fn lane(&self, client: ClientId) -> Lane {
        self.lanes[self.at.get(&client).copied().unwrap_or(0)]
    }

    /// A client has no more in its lane. Whether there is another.
    fn next_lane(&mut self, client: ClientId) -> bool {
        let at = self.at.entry(client).or_default();
        let there_is = *at + 1 < self.lanes.len();
        *at += usize::from(there_is);
        there_is
    }

    /// Whose turn it is had an entry looked at in vain: others go on, and it goes no further than
    /// `looks_max` of them. Whether it may.
    fn pass(&mut self, client: ClientId, looks_max: usize) -> bool {
        let in_vain = self.in_vain.entry(client).or_default();
        *in_vain += 1;
        let goes_on = *in_vain < looks_max;
        match goes_on {
            true => self.turns.pass(),
            false => self.turns.leave(),
        }
        goes_on
    }
}

/// Where the turn of lanes that are gone through together is kept.
fn place_of_turn(lanes: &[Lane]) -> usize {
    lanes.last().map_or(0, |lane| *lane as usize)
}

impl<T: Transaction> Chunk<T> {
    /// Takes records of some lanes, of their clients in turns, until the batch is at `limits`.
    pub(super) async fn take_lanes(
        &mut self,
        cursor: &mut LaneCursor,
        limits: BatchLimits,
    ) -> Result<(), StoreError> {
        while !self.is_over() {
            let Some(client) = cursor.turns.whose() else { break };
            let Some(entry) = self.next_entry(cursor, client).await? else {
                cursor.turns.leave();
                continue;
            };
            let fate = self.take(cursor.lane(client), &entry, limits).await?;
            let is_in_vain = matches!(fate, Fate::Gone | Fate::Stays);
            let page = cursor.pages.get_mut(&client);
            match (fate, page) {
                (Fate::Taken, _) => cursor.turns.take(),
                (Fate::Gone, _) | (_, None) => {}
                (Fate::Stays, Some(page)) => page.staying.push(entry),
                (Fate::Full, Some(page)) => {
                    page.rest.push_front(entry);
                    break;
                }
            }
            if let Some(looks_max) = self.looks_of_client_max.filter(|_| is_in_vain) {
                self.cut_short |= !cursor.pass(client, looks_max);
            }
        }
        self.cut_short |= self.looks == 0;
        Ok(())
    }

    /// The next entry of a client that the batch may take; `None` where there is none.
    async fn next_entry(
        &mut self,
        cursor: &mut LaneCursor,
        client: ClientId,
    ) -> Result<Option<PageEntry>, StoreError> {
        let (app, watermark) = (self.batch.id.app, self.batch.watermark);
        let mut from = None;
        loop {
            if let Some(page) = cursor.pages.get_mut(&client) {
                match page.rest.pop_front() {
                    Some(entry) if entry.first_sequence <= watermark => return Ok(Some(entry)),
                    // It came after the claim began, and so did all behind it in its page. The next
                    // may begin with what is older: of a page that was joined, or that others have
                    // left, the first entry may have come long after its key was given.
                    Some(entry) => {
                        page.staying.push(entry);
                        page.staying.extend(page.rest.drain(..));
                    }
                    None => {}
                }
                from = Some(keys::after(page.key.clone()));
            }
            if let Some(done) = cursor.pages.remove(&client) {
                self.close_page(client, done);
            }
            let lane = (cursor.kind, cursor.lane(client));
            let range = keys::pages_of(app, lane, client, from.take());
            // What is in a page whose key came after the claim began did so, too, and so did all
            // behind it.
            let is_within =
                |key: &[u8]| keys::first_of_page(key).is_none_or(|first| first <= watermark);
            let page = self.transaction.scan(range, 1).await?.pop();
            let Some((key, bytes)) = page.filter(|(key, _)| is_within(key)) else {
                if cursor.next_lane(client) {
                    continue;
                }
                return Ok(None);
            };
            let entries: Option<Vec<PageEntry>> =
                decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
            self.pages_damaged |= entries.is_none();
            let entries = entries.unwrap_or_default();
            let count = entries.len();
            if self.reads_ahead {
                let keys = |it: &PageEntry| {
                    let subject_key = &it.subject_key;
                    [keys::pending_of(app, subject_key), keys::in_flight_of(app, subject_key)]
                };
                let ahead: Vec<_> = entries.iter().flat_map(keys).collect();
                self.transaction.prefetch(&ahead).await?;
            }
            let page = OpenPage { key, count, staying: Vec::new(), rest: entries.into() };
            cursor.pages.insert(client, page);
        }
    }

    /// Puts back what stays, and notes whose turn it is.
    pub(super) fn close_lanes(&mut self, mut cursor: LaneCursor) {
        let turn = place_of_turn(cursor.lanes);
        self.state.turns.of_mut(cursor.kind)[turn] = cursor.turns.turn();
        for (client, page) in std::mem::take(&mut cursor.pages) {
            self.close_page(client, page);
        }
    }

    fn close_page(&mut self, client: ClientId, page: OpenPage) {
        let OpenPage { key, count, mut staying, rest } = page;
        staying.extend(rest);
        if staying.len() == count {
            return;
        }
        *self.gone.entry(client).or_default() += (count - staying.len()) as u64;
        match staying.is_empty() {
            true => self.transaction.delete(&key),
            false => self.transaction.put(&key, staying.encode()),
        }
    }
}
