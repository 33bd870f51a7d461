//! Making an app's pages anew while others accept: in one transaction that has all its stripes
//! from its first read to its commit, since a record that came in between would lose its place.
//! Whoever accepts for the app waits for it, and it takes as much memory as all pages together.

use std::collections::BTreeMap;

use super::{After, Numbers, Scope};
use crate::{
    domain::{merge::Record, update::AppId},
    store::{
        keys,
        queue::{Engine, Queue, StoreError, Transaction, decode_or_set_aside, pages::PageBuilder},
        records::AppState,
    },
};

const CHUNK: usize = 1_000;

impl<E: Engine> Queue<E> {
    /// As [`Self::rebuild_pages`], at once.
    pub(in crate::store::queue) async fn rebuild_at_once(
        &mut self,
        app: AppId,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        let mut head = self.head;
        let (mut pages, mut counted) = (PageBuilder::default(), AppState::default());
        let mut from = None;
        loop {
            let entries = transaction.scan(keys::all_pending(app, from), CHUNK).await?;
            let Some((last, _)) = entries.last() else { break };
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
        }
        let (mut from, end) = keys::all_pages(app).into_inner();
        loop {
            let entries = transaction.scan(from..=end.clone(), CHUNK).await?;
            let Some((last, _)) = entries.last() else { break };
            from = keys::after(last.clone());
            for (key, _) in &entries {
                transaction.delete(key);
            }
        }
        // None of those that are there stays.
        let mut numbers = Numbers::One { known: 0, head };
        let placed = pages.write(&mut transaction, &mut numbers).await?;
        transaction.delete(&keys::pages_damaged(app));
        let mut entries = BTreeMap::<_, u64>::new();
        for (client, count) in placed.entries.into_values().flatten() {
            *entries.entry(client).or_default() += count;
        }
        let state = AppState {
            depth: counted.depth,
            bulk_records: counted.bulk_records,
            express_records: counted.express_records,
            company_records: counted.company_records,
            ..self.state(app)
        };
        let (head, state, counted) = (Some(head), Some(state), Some(entries));
        self.conclude(transaction, app, After { head, state, counted, ..After::default() }).await
    }
}
