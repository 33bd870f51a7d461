//! Virtual jobs.

use super::*;
use crate::{
    domain::batch::DeadReason,
    store::{
        JobRow,
        keys::jobs::{JobId, job_page},
        queue::jobs::{Fate, TooManyJobs},
        records::jobs::Job,
    },
};

over_every_engine! {
    a_jobs_rows_are_counted_as_they_become_final => counts;
    a_fate_that_is_noted_twice_counts_once => counts_once;
    jobs_are_there_after_a_restart => restarts;
    jobs_that_are_over_make_room_and_are_forgotten => makes_room;
    a_damaged_page_does_not_keep_a_job_from_ending => outlives_damage;
    a_place_is_kept_for_a_job_that_is_to_come => keeps_places;
    a_client_has_no_more_places_than_its_own => keeps_to_its_own_places;
    what_is_forgotten_while_a_job_is_to_come_does_not_come_to_stand_in_it => comes_without_trace;
}

const CLIENT: ClientId = ClientId(3);

impl<E: Engine + Clone> Bench<E> {
    /// A job of these users, each of whom is updated.
    fn job(&mut self, users: &[&str]) -> JobId {
        let mut rows = Vec::new();
        for (number, user) in (1..).zip(users) {
            let sequence = self.set(user, "p", 1).sequence;
            rows.push(JobRow::new(number, &Subject::user(*user), sequence));
        }
        let job = Job { rows: rows.len() as u64, ..Job::default() };
        let place = self.queue.reserve_job(self.app, (CLIENT, 9), 9).unwrap();
        now(self.queue.add_job((place, CLIENT), job, rows, at(4))).unwrap()
    }

    /// Looks at the job and notes what is seen.
    fn follow(&mut self, id: JobId) -> Job {
        let look = now(self.reads.look_at_job(id)).unwrap().unwrap();
        match look.fates.is_empty() {
            true => look.job,
            false => now(self.queue.note_fates(id, look.fates, at(5))).unwrap().unwrap(),
        }
    }
}

fn counts(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let id = bench.job(&["a", "b", "c", "d"]);
    assert_eq!(bench.follow(id).started_at, None);
    let batch = bench.claim_with(BatchLimits { rows_max: 2, ..BATCH }).unwrap();
    let job = bench.follow(id);
    assert_eq!((job.started_at, job.final_rows()), (Some(at(5)), 0));
    bench.settle(&batch, Settlement::Delivered);
    // A later update of a row that is over has nothing to do with the job.
    bench.set("a", "p", 2);
    assert_eq!(bench.follow(id).delivered_rows, 2);
    // Nor does it matter that a row that waits is merged with others.
    bench.set("c", "p", 2);
    let batch = bench.claim_with(BatchLimits { rows_max: 1, ..BATCH }).unwrap();
    let batch = Batch { last_error: "422: no".into(), ..batch };
    bench.settle(&batch, Settlement::Dead(DeadReason::BadRow));
    let job = bench.follow(id);
    assert_eq!((job.delivered_rows, job.dead_rows, job.ended_at), (2, 1, None));
    assert_eq!(job.errors[0].row, 3);
    assert!(job.errors[0].reason.ends_with(": 422: no"), "{:?}", job.errors);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    // That deliveries are forgotten does not undo them.
    let retention = Retention { before: at(4), ..Retention::default() };
    now(bench.queue.prune(PruneCursor::default(), retention)).unwrap();
    let job = bench.follow(id);
    assert_eq!((job.delivered_rows, job.dead_rows, job.ended_at), (3, 1, Some(at(5))));
    let look = now(bench.reads.look_at_job(id)).unwrap().unwrap();
    assert_eq!(look.fates, []);
}

fn counts_once(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let id = bench.job(&["a", "b"]);
    let fates = vec![(0, 1, Fate::Delivered)];
    for _ in 0..2 {
        let job = now(bench.queue.note_fates(id, fates.clone(), at(5))).unwrap().unwrap();
        assert_eq!((job.delivered_rows, job.ended_at), (1, None));
    }
}

fn restarts(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine.clone());
    let long = "u".repeat(512);
    let users: Vec<String> = (0..300).map(|nth| format!("{nth}{}", &long[3..])).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let id = bench.job(&users);
    let mut bench = Bench::new(engine);
    now(bench.queue.recover_jobs()).unwrap();
    assert_eq!(bench.queue.unfinished_jobs(), [id]);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let job = bench.follow(id);
    assert_eq!((job.delivered_rows, job.ended_at), (300, Some(at(5))));
    assert_eq!(bench.queue.unfinished_jobs(), []);
    let other = bench.job(&["x"]);
    assert!(other.number > id.number);
    let listed = now(bench.reads.jobs(bench.app, CLIENT, 9)).unwrap();
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [other, id]);
    assert_eq!(now(bench.reads.jobs(bench.app, ClientId(4), 9)).unwrap(), []);
}

fn makes_room(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let first = bench.job(&["a"]);
    let second = bench.job(&["b"]);
    let add = |bench: &mut Bench<_>| {
        let row = vec![JobRow::new(1, &Subject::user("a"), 1)];
        let job = Job { rows: 1, ..Job::default() };
        let place = bench.queue.reserve_job(bench.app, (CLIENT, 9), 2)?;
        Ok(now(bench.queue.add_job((place, CLIENT), job, row, at(4))).unwrap())
    };
    assert_eq!(add(&mut bench), Err(TooManyJobs));
    now(bench.queue.note_fates(second, vec![(0, 1, Fate::Delivered)], at(5))).unwrap();
    let third = add(&mut bench).unwrap();
    assert_eq!(now(bench.reads.job(second)).unwrap(), None);
    assert_eq!(bench.queue.unfinished_jobs(), [first, third]);
    now(bench.queue.note_fates(first, vec![(0, 1, Fate::Delivered)], at(5))).unwrap();
    let forget = |bench: &mut Bench<_>, before| {
        let retention = Retention { before, ..Retention::default() };
        now(bench.queue.prune(PruneCursor::default(), retention)).unwrap();
        now(bench.reads.job(first)).unwrap().is_none()
    };
    assert!(!forget(&mut bench, at(5)));
    assert!(forget(&mut bench, at(6)));
}

fn outlives_damage(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let id = bench.job(&["a", "b"]);
    let mut transaction = now(bench.queue.begin(Scope::App(bench.app), &[])).unwrap();
    transaction.put(&job_page(id, 0), b"damaged".to_vec());
    now(transaction.commit()).unwrap();
    let job = bench.follow(id);
    assert_eq!((job.dead_rows, job.ended_at), (2, Some(at(5))));
}

fn keeps_places(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let over = bench.job(&["a"]);
    now(bench.queue.note_fates(over, vec![(0, 1, Fate::Delivered)], at(5))).unwrap();
    let first = bench.queue.reserve_job(bench.app, (CLIENT, 9), 2).unwrap();
    let second = bench.queue.reserve_job(bench.app, (CLIENT, 9), 2).unwrap();
    assert_eq!(bench.queue.reserve_job(bench.app, (CLIENT, 9), 2).unwrap_err(), TooManyJobs);
    assert!(bench.queue.reserve_job(AppId(77), (CLIENT, 9), 2).is_ok(), "another app's");
    // Whoever does not come frees its place.
    drop(first);
    let third = bench.queue.reserve_job(bench.app, (CLIENT, 9), 2).unwrap();
    let add = |bench: &mut Bench<_>, place| {
        let row = vec![JobRow::new(1, &Subject::user("a"), 1)];
        let job = Job { rows: 1, ..Job::default() };
        now(bench.queue.add_job((place, CLIENT), job, row, at(4))).unwrap()
    };
    // What is over makes room when the job comes, and not before.
    assert!(now(bench.reads.job(over)).unwrap().is_some());
    let jobs = [add(&mut bench, second), add(&mut bench, third)];
    assert_eq!(now(bench.reads.job(over)).unwrap(), None);
    assert_eq!(bench.queue.unfinished_jobs(), jobs);
    assert_eq!(bench.queue.reserve_job(bench.app, (CLIENT, 9), 2).unwrap_err(), TooManyJobs);
}

fn keeps_to_its_own_places(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    // One that is not over, and one that is to come.
    bench.job(&["a"]);
    let app = bench.app;
    let mut reserve = |client, own| bench.queue.reserve_job(app, (client, own), 9);
    let second = reserve(CLIENT, 2).unwrap();
    assert_eq!(reserve(CLIENT, 2).unwrap_err(), TooManyJobs);
    assert!(reserve(ClientId(4), 2).is_ok(), "another client's");
    drop(second);
    assert!(reserve(CLIENT, 2).is_ok());
}

fn comes_without_trace(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let place = bench.queue.reserve_job(bench.app, (CLIENT, 9), 9).unwrap();
    let users = ["forget-me", "ada", "forget-me"];
    let row = |bench: &mut Bench<_>, nth: usize| {
        let sequence = bench.set(users[nth], "p", 1).sequence;
        JobRow::new(u32::try_from(nth).unwrap() + 1, &Subject::user(users[nth]), sequence)
    };
    let mut rows = vec![row(&mut bench, 0), row(&mut bench, 1)];
    bench.forget("forget-me");
    assert!(!bench.holds("forget-me"));
    // What comes after that is an update as any other.
    rows.push(row(&mut bench, 2));
    let filename = Some("forget-me.ndjson".to_owned());
    let mut job = Job { rows: 3, filename, ..Job::default() };
    job.note_error(9, "no forget-me");
    let id = now(bench.queue.add_job((place, CLIENT), job, rows, at(4))).unwrap();
    let job = bench.follow(id);
    assert_eq!((job.filename, job.dead_rows, job.ended_at), (None, 1, None));
    let told: Vec<_> = job.errors.iter().map(|error| (error.row, &*error.reason)).collect();
    let erased = "it was erased at an operator's request";
    assert_eq!(told, [(9, erased), (1, erased)]);
    bench.forget("forget-me");
    assert!(!bench.holds("forget-me"));
    if bench.queue.stripes() > 1 {
        // There what was forgotten is known by the store.
        return;
    }
    // Once nobody is on the way, nothing more is remembered.
    let place = bench.queue.reserve_job(bench.app, (CLIENT, 9), 9).unwrap();
    let rows = vec![JobRow::new(1, &Subject::user("forget-me"), 1)];
    let id =
        now(bench.queue.add_job((place, CLIENT), Job { rows: 1, ..Job::default() }, rows, at(4)));
    let look = now(bench.reads.look_at_job(id.unwrap())).unwrap().unwrap();
    assert_ne!(look.fates, [(0, 1, Fate::Dead(erased.to_owned()))]);
}
