//! A lane, as a claim goes through it: its clients in turns, each from page to page.

use std::collections::{BTreeMap, VecDeque};

use super::{
    EngineError, StoreError, Stored, Transaction,
    claim::{Chunk, Fate},
    clients::Clients,
    decode_or_set_aside, keys,
    pages::without_doubles,
};
use crate::{
    domain::{
        batch::BatchLimits,
        turns::{Turn, Turns},
        update::{AppId, ClientId, Lane, SubjectKind},
    },
    store::{records::PageEntry, walk::sequence_of},
};

/// Where a claim is in a lane.
pub(super) struct LaneCursor {
    lane: (SubjectKind, Lane),
    turns: Turns,
    pages: BTreeMap<ClientId, OpenPage>,
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
    /// The beginning of a lane. Whose turn it is, is known from the last time.
    pub(super) async fn open(
        transaction: &mut impl Transaction,
        app: AppId,
        lane: (SubjectKind, Lane),
        (clients, turn): (&Clients, Turn),
    ) -> Result<Self, EngineError> {
        let mut waiting = Vec::new();
        let mut range = keys::pages(app, lane, None);
        while let Some((key, _)) = transaction.scan(range, 1).await?.pop() {
            let Some(client) = keys::client_of_page(&key) else { break };
            waiting.push((client, clients.weight(client)));
            range = keys::pages_behind(app, lane, client);
        }
        Ok(Self { lane, turns: Turns::new(waiting, turn), pages: BTreeMap::new() })
    }
}

impl<T: Transaction> Chunk<T> {
    /// Takes records of a lane, of its clients in turns, until the batch is at `limits`.
    pub(super) async fn take_lane(
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
            let fate = self.take(cursor.lane.1, &entry, limits).await?;
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
        }
        Ok(())
    }

    /// The next entry of a client that the batch may take; `None` where there is none.
    async fn next_entry(
        &mut self,
        cursor: &mut LaneCursor,
        client: ClientId,
    ) -> Result<Option<PageEntry>, StoreError> {
        let app = self.batch.id.app;
        loop {
            let mut from = None;
            if let Some(page) = cursor.pages.get_mut(&client) {
                match page.rest.pop_front() {
                    Some(entry) if entry.first_sequence <= self.batch.watermark => {
                        return Ok(Some(entry));
                    }
                    // It came after the claim began, and so did all behind it.
                    Some(entry) => {
                        page.staying.push(entry);
                        return Ok(None);
                    }
                    None => from = Some(keys::after(page.key.clone())),
                }
            }
            if let Some(done) = cursor.pages.remove(&client) {
                self.close_page(cursor.lane, client, done).await?;
            }
            let range = keys::pages_of(app, cursor.lane, client, from);
            let Some((key, bytes)) = self.transaction.scan(range, 1).await?.pop() else {
                return Ok(None);
            };
            let entries: Option<Vec<PageEntry>> =
                decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
            self.pages_damaged |= entries.is_none();
            let entries = entries.unwrap_or_default();
            let count = entries.len();
            let page = OpenPage { key, count, staying: Vec::new(), rest: entries.into() };
            cursor.pages.insert(client, page);
        }
    }

    /// Puts back what stays, and notes whose turn it is.
    pub(super) async fn close_lane(&mut self, cursor: LaneCursor) -> Result<(), EngineError> {
        let (kind, lane) = cursor.lane;
        self.state.turns.of_mut(kind)[lane as usize] = cursor.turns.turn();
        for (client, page) in cursor.pages {
            self.close_page(cursor.lane, client, page).await?;
        }
        Ok(())
    }

    async fn close_page(
        &mut self,
        lane: (SubjectKind, Lane),
        client: ClientId,
        page: OpenPage,
    ) -> Result<(), EngineError> {
        let OpenPage { key, count, mut staying, rest } = page;
        staying.extend(rest);
        if staying.len() == count {
            return Ok(());
        }
        let first = staying.first().map(|entry| entry.first_sequence);
        let kept = match first == sequence_of(&key) {
            true => Some((key, staying)),
            false => {
                self.transaction.delete(&key);
                let owner = (self.batch.id.app, lane, client);
                without_doubles(&mut self.transaction, owner, staying).await?
            }
        };
        let left = kept.as_ref().map_or(0, |(_, entries)| entries.len());
        *self.gone.entry(client).or_default() += (count - left) as u64;
        if let Some((key, entries)) = kept {
            self.transaction.put(&key, entries.encode());
        }
        Ok(())
    }
}
