//! Virtual jobs where others add them, too: the index of an app's is read anew before it counts.

use super::Scope;
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, Sequence},
    },
    store::{
        keys::{self, jobs as job_keys},
        queue::{Engine, Queue, StoreError, Transaction, decode, jobs::forget},
        records::{
            Stored, Tombstone,
            jobs::{Job, JobRow},
        },
    },
};

const CHUNK: usize = 64;

impl<E: Engine> Queue<E> {
    /// Reads anew which jobs an app has, where others may have added some.
    pub async fn look_for_jobs(&mut self, app: AppId) -> Result<(), StoreError> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let mut transaction = self.engine.begin().await?;
        self.read_jobs(&mut transaction, app).await?;
        self.leave(transaction).await
    }

    /// The same of the apps that this queue delivers: nobody else looks after their jobs.
    pub async fn look_for_own_jobs(&mut self) -> Result<(), StoreError> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let own: Vec<AppId> = fleet.tokens.keys().copied().collect();
        self.jobs.ended.retain(|id, _| own.contains(&id.app));
        for app in own {
            self.look_for_jobs(app).await?;
        }
        Ok(())
    }

    pub(in crate::store::queue) async fn read_jobs(
        &mut self,
        transaction: &mut E::Transaction,
        app: AppId,
    ) -> Result<(), StoreError> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let (mut from, end) = job_keys::all_of_app(app).into_inner();
        self.jobs.ended.retain(|id, _| id.app != app);
        self.jobs.last_number = 0;
        loop {
            let entries = transaction.scan(from..=end.clone(), CHUNK).await?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            from = keys::after(last.clone());
            for (key, bytes) in &entries {
                let Some(id) = job_keys::job_of(key) else { continue };
                let job: Option<Job> = decode(bytes.as_ref())?;
                let ended = job.map_or(Some(Timestamp::default()), |job| job.ended_at);
                self.jobs.ended.insert(id, ended);
                self.jobs.last_number = self.jobs.last_number.max(id.number);
            }
        }
    }

    /// Takes out of a job's rows what was erased by others while they were on their way.
    pub(in crate::store::queue) async fn strike_forgotten(
        &self,
        transaction: &mut E::Transaction,
        app: AppId,
        rows: &mut [JobRow],
    ) -> Result<(), StoreError> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let grave = |row: &JobRow| keys::forgotten(app, self.head.store, &row.subject_key);
        let graves: Vec<_> = rows.iter().map(grave).collect();
        transaction.prefetch(&graves).await?;
        for (row, grave) in rows.iter_mut().zip(&graves) {
            let Some(bytes) = transaction.get(grave).await? else { continue };
            // Where one is damaged, it is not known that the row may stay.
            let up_to = Tombstone::decode(bytes.as_ref()).map_or(Sequence::MAX, |it| it.up_to);
            if row.sequence <= up_to {
                row.subject_key.clear();
            }
        }
        Ok(())
    }

    /// Forgets the jobs of an app that were over `before` that.
    pub(super) async fn prune_jobs_of(
        &mut self,
        app: AppId,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        self.look_for_jobs(app).await?;
        let is_due = |(id, ended): (&job_keys::JobId, &Option<Timestamp>)| {
            (id.app == app && ended.is_some_and(|at| at < before)).then_some(*id)
        };
        let due: Vec<_> = self.jobs.ended.iter().filter_map(is_due).take(CHUNK).collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        for id in &due {
            forget(&mut transaction, *id).await?;
        }
        transaction.commit().await?;
        self.jobs.ended.retain(|id, _| !due.contains(id));
        Ok(())
    }
}
