//! Clients: their numbers, and how many records of its own each may have waiting.
//!
//! What is counted are the entries of pages, by the client in the page's key: they can be counted
//! at a start without reading a record, and each has one place where it comes and one where it
//! goes. An entry that its record has left (for a more urgent lane, say) counts until a claim
//! comes by. Nothing is counted while no client has a limit.

use std::collections::BTreeMap;

use super::{Engine, Queue, StoreError, Transaction, keys};
use crate::{
    domain::update::ClientId,
    store::records::{PageEntry, Stored},
};

const PAGES_A_SCAN: usize = 256;

/// How many entries of pages came or went, by client.
pub(super) type Entries = BTreeMap<ClientId, u64>;

/// What is known of clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    limits: BTreeMap<ClientId, u64>,
    /// `None` while no client has a limit.
    waiting: Option<Entries>,
}

impl Clients {
    /// How many records of the client's own wait, and how many may.
    pub(super) fn standing(&self, client: ClientId) -> (u64, Option<u64>) {
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.get(&client));
        (waiting.copied().unwrap_or(0), self.limits.get(&client).copied())
    }

    /// Counts entries that came.
    pub(super) fn come(&mut self, entries: Entries) {
        let Some(waiting) = &mut self.waiting else { return };
        for (client, count) in entries {
            *waiting.entry(client).or_default() += count;
        }
    }

    /// Counts entries that went.
    pub(super) fn go(&mut self, entries: Entries) {
        let Some(waiting) = &mut self.waiting else { return };
        for (client, count) in entries {
            let waiting = waiting.entry(client).or_default();
            *waiting = waiting.saturating_sub(count);
        }
    }
}

impl<E: Engine> Queue<E> {
    /// The numbers of clients, which they keep. Each may have so many records of its own waiting,
    /// where it has a limit, and who is not named has none.
    pub async fn clients(
        &mut self,
        clients: &[(String, Option<u64>)],
    ) -> Result<Vec<ClientId>, StoreError> {
        let mut numbers = Vec::with_capacity(clients.len());
        let mut limits = BTreeMap::new();
        for (name, limit) in clients {
            let number = self.client(name).await?;
            numbers.push(number);
            limits.extend(limit.map(|limit| (number, limit)));
        }
        self.clients.limits = limits;
        if self.clients.limits.is_empty() {
            self.clients.waiting = None;
        } else if self.clients.waiting.is_none() {
            self.clients.waiting = Some(self.count_entries().await?);
        }
        Ok(numbers)
    }

    /// Counts anew, after pages were made anew.
    pub(super) async fn recount_clients(&mut self) -> Result<(), StoreError> {
        if self.clients.waiting.is_some() {
            self.clients.waiting = Some(self.count_entries().await?);
        }
        Ok(())
    }

    async fn count_entries(&self) -> Result<Entries, StoreError> {
        let mut counted = Entries::new();
        for app in self.apps.keys().copied() {
            let (mut from, end) = keys::all_pages(app).into_inner();
            loop {
                let mut transaction = self.engine.begin().await?;
                let pages = transaction.scan(from..=end.clone(), PAGES_A_SCAN).await?;
                let Some((last, _)) = pages.last() else { break };
                from = keys::after(last.clone());
                for (key, bytes) in &pages {
                    // One that is damaged is made anew by the next claim, and counted then.
                    let entries = Vec::<PageEntry>::decode(bytes.as_ref());
                    if let (Ok(entries), Some(client)) = (entries, keys::client_of_page(key)) {
                        *counted.entry(client).or_default() += entries.len() as u64;
                    }
                }
            }
        }
        Ok(counted)
    }
}
