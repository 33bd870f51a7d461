//! Jobs that are to come: an upload has its job's place before its first row is accepted, so that
//! a refusal stores nothing. And since its rows are known to nobody else until the job is added,
//! what is forgotten in the meantime is remembered for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{ERASED, Engine, Queue, TooManyJobs};
use crate::{
    domain::update::{AppId, ClientId, Sequence, Subject},
    store::records::jobs::{Job, JobRow},
};

/// The place of a job that is to come. It is free again once this is dropped.
#[derive(Debug)]
pub struct JobPlace {
    of: Arc<(AppId, ClientId)>,
    pub(super) jobs_max: usize,
}

impl JobPlace {
    /// The app that the job will be of.
    pub fn app(&self) -> AppId {
        self.of.0
    }
}

/// The jobs that are to come.
#[derive(Debug, Default)]
pub(in crate::store::queue) struct Places {
    taken: Vec<Weak<(AppId, ClientId)>>,
    /// Up to which sequence what is kept of these subjects was erased, since the oldest of the
    /// places was taken.
    erased: BTreeMap<(AppId, Vec<u8>), (Subject, Sequence)>,
}

impl Places {
    fn tidy(&mut self) {
        self.taken.retain(|place| place.strong_count() > 0);
        if self.taken.is_empty() {
            self.erased.clear();
        }
    }

    fn count(&self, of: impl Fn(&(AppId, ClientId)) -> bool) -> usize {
        self.taken.iter().filter_map(Weak::upgrade).filter(|it| of(it)).count()
    }

    /// Notes that a subject was erased.
    pub(in crate::store::queue) fn erase(
        &mut self,
        app: AppId,
        subject: &Subject,
        up_to: Sequence,
    ) {
        self.tidy();
        if !self.taken.is_empty() {
            let key = JobRow::new(0, subject, 0).subject_key;
            self.erased.insert((app, key), (subject.clone(), up_to));
        }
    }

    /// Takes out of a job what was erased while its rows were on their way.
    pub(super) fn strike(&self, app: AppId, job: &mut Job, rows: &mut [JobRow]) {
        if self.erased.is_empty() {
            return;
        }
        for row in rows {
            let erased = self.erased.get(&(app, row.subject_key.clone()));
            if erased.is_some_and(|(_, up_to)| row.sequence <= *up_to) {
                row.subject_key.clear();
            }
        }
        for ((of, _), (subject, _)) in &self.erased {
            if *of == app {
                erase_words(job, &subject.id);
            }
        }
    }
}

/// Takes out of a job the words that may quote a subject.
pub(in crate::store::queue) fn erase_words(job: &mut Job, id: &str) {
    if job.filename.as_ref().is_some_and(|name| name.contains(id)) {
        job.filename = None;
    }
    for error in &mut job.errors {
        if error.reason.contains(id) {
            ERASED.clone_into(&mut error.reason);
        }
    }
}

impl<E: Engine> Queue<E> {
    /// Keeps a place for a job, of `jobs_max` that the app may have, and of so many that the client
    /// may have of them. Those that are over make room when it is added.
    pub fn reserve_job(
        &mut self,
        app: AppId,
        (client, of_client_max): (ClientId, usize),
        jobs_max: usize,
    ) -> Result<JobPlace, TooManyJobs> {
        let jobs = &mut self.jobs;
        jobs.places.tidy();
        let unfinished = jobs.ended.iter().filter(|(id, at)| id.app == app && at.is_none());
        let (mut all, mut own) = (0, 0);
        for (id, _) in unfinished {
            all += 1;
            own += usize::from(id.client == client);
        }
        all += jobs.places.count(|of| of.0 == app);
        own += jobs.places.count(|of| *of == (app, client));
        if all >= jobs_max || own >= of_client_max {
            return Err(TooManyJobs);
        }
        let of = Arc::new((app, client));
        jobs.places.taken.push(Arc::downgrade(&of));
        Ok(JobPlace { of, jobs_max })
    }
}
