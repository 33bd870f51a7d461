//! Dead letters.

use std::time::Duration;

use super::*;
use crate::{
    domain::{
        batch::{Cut, DeadReason},
        time::Uptime,
    },
    store::{
        queue::{DeadFilter, DeadLetter, Replay},
        records::Closing,
    },
};

over_every_engine! {
    a_dead_letter_is_found_and_replayed_under_what_waits => replays;
    what_is_delivered_is_struck_from_a_dead_letter => strikes;
    a_discarded_letter_is_known_and_not_listed => discards;
    old_and_surplus_letters_are_dropped_and_counted => drops;
    what_may_have_been_dropped_is_not_called_delivered => forgets;
    a_clock_that_jumps_ahead_drops_no_letter => keeps;
    a_split_batch_goes_on_in_parts => splits;
    a_row_that_dies_leaves_what_came_after_it_as_it_is => leaves_the_older;
    a_replay_goes_under_newer_values_though_the_clock_went_back => remembers_time;
}

const DEAD: Settlement = Settlement::Dead(DeadReason::BadRow);

impl<E: Engine + Clone> Bench<E> {
    /// Lets everything that waits die, with these words of upstream's.
    fn kill(&mut self, words: &str) {
        let batch = self.claim().unwrap();
        let batch = Batch { last_error: words.into(), request_id: Some("r".into()), ..batch };
        self.settle(&batch, DEAD);
    }

    fn letters(&self) -> Vec<DeadLetter> {
        let filter = DeadFilter::default();
        now(self.reads.dead_letters(self.app, &filter, None, 99)).unwrap().letters
    }

    fn replay(&mut self, letter: &DeadLetter) -> Replay {
        now(self.queue.replay(self.app, letter.id, at(4))).unwrap()
    }
}

fn replays(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let first = bench.set("u", "a", 1).sequence;
    bench.set("u", "b", 1);
    bench.kill("422: no");
    assert_eq!(bench.queue.depth(bench.app).dead_letters, 1);
    let Found::Dead(letter) = bench.find("u", first) else { panic!("not dead") };
    assert_eq!((&*letter.death.detail, letter.death.reason), ("422: no", DeadReason::BadRow));
    assert_eq!(letter.death.request_id.as_deref(), Some("r"));
    let between = bench.set("v", "a", 7).sequence;
    let last = bench.set("u", "a", 2).sequence;

    assert_eq!(bench.replay(&letter), Replay::Replayed);
    assert_eq!(bench.replay(&letter), Replay::NotThere);
    assert_eq!(bench.letters(), []);
    assert!(matches!(bench.find("u", first), Found::Pending { place: 0, .. }));
    let batch = bench.claim().unwrap();
    // The newer value stands, and the place is that of the oldest update.
    let expected = "{\"user_id\":\"u\",\"metadata\":{\"a\":2,\"b\":1}}\n";
    assert!(bench.upload(&batch).starts_with(expected), "{}", bench.upload(&batch));
    bench.settle(&batch, Settlement::Delivered);
    for (user, sequence) in [("u", first), ("v", between), ("u", last)] {
        assert!(matches!(bench.find(user, sequence), Found::Delivered { .. }));
    }
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn strikes(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let first = bench.set("u", "a", 1).sequence;
    bench.set("u", "b", 1);
    bench.kill("422");
    for (property, left) in [("a", vec!["b"]), ("b", vec![])] {
        bench.set("u", property, 2);
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
        let Found::Dead(letter) = bench.find("u", first) else { panic!("not dead") };
        let names: Vec<_> = letter.record.properties.iter().map(|p| &*p.name).collect();
        assert_eq!(names, left);
        assert_eq!(
            letter.closed.map(|(why, _)| why),
            left.is_empty().then_some(Closing::Superseded)
        );
    }
    assert_eq!((bench.letters(), bench.queue.depth(bench.app).dead_letters), (vec![], 0));
}

fn discards(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let sequence = bench.set("u", "a", 1).sequence;
    bench.kill("422");
    let letter = bench.letters().remove(0);
    assert!(now(bench.queue.discard(bench.app, letter.id, at(9))).unwrap());
    assert!(!now(bench.queue.discard(bench.app, letter.id, at(9))).unwrap());
    assert_eq!(bench.replay(&letter), Replay::NotThere);
    let Found::Dead(letter) = bench.find("u", sequence) else { panic!("not dead") };
    assert_eq!(letter.closed, Some((Closing::Discarded, at(9))));
    assert!(letter.record.properties.is_empty(), "its values are gone");
    assert_eq!((bench.letters(), bench.queue.depth(bench.app).dead_letters), (vec![], 0));
}

fn drops(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    for user in ["u", "v", "w", "x"] {
        bench.set(user, "a", 1);
        bench.kill("422");
    }
    let keep = |dead_max, wall| {
        let now = Now { wall, ..Now::default() };
        Retention { dead_max, dead_kept: Duration::ZERO, now, ..Retention::default() }
    };
    now(bench.queue.prune(PruneCursor::default(), keep(3, at(0)))).unwrap();
    let users = |bench: &Bench<_>| -> Vec<String> {
        bench.letters().into_iter().map(|letter| letter.subject.id).collect()
    };
    assert_eq!(
        (users(&bench), bench.queue.dead_lost()),
        (vec!["v".into(), "w".into(), "x".into()], 1)
    );
    now(bench.queue.prune(PruneCursor::default(), keep(3, at(3)))).unwrap();
    assert_eq!(bench.queue.depth(bench.app).dead_letters, 3, "they are not too old");
    let mut bench = Bench::new(bench.queue.engine().clone());
    assert_eq!(bench.queue.depth(bench.app).dead_letters, 3, "a restart counts the same");
    now(bench.queue.prune(PruneCursor::default(), keep(3, at(4)))).unwrap();
    assert_eq!((users(&bench), bench.queue.dead_lost()), (vec![], 3));
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn forgets(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let deliver = |bench: &mut Bench<_>, user| {
        let sequence = bench.set(user, "a", 1).sequence;
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
        sequence
    };
    let before = deliver(&mut bench, "before");
    let open = bench.set("open", "a", 1).sequence;
    bench.kill("422");
    let between = deliver(&mut bench, "between");
    let discarded = bench.set("discarded", "a", 1).sequence;
    bench.kill("422");
    let id = bench.letters()[1].id;
    assert!(now(bench.queue.discard(bench.app, id, at(3))).unwrap());
    let superseded = bench.set("superseded", "a", 1).sequence;
    bench.kill("422");
    let after = deliver(&mut bench, "superseded");

    let wall = at(1_000);
    let clocks = Now { wall, ..Now::default() };
    let all =
        Retention { before: wall, now: clocks, dead_kept: Duration::ZERO, ..Retention::default() };
    assert_eq!(
        now(bench.queue.prune(PruneCursor::default(), all)).unwrap(),
        PruneCursor::default()
    );
    let bench = Bench::new(bench.queue.engine().clone());
    for (user, sequence, found) in [
        ("before", before, Found::DeliveredLongAgo),
        ("open", open, Found::Forgotten),
        ("between", between, Found::Forgotten),
        ("discarded", discarded, Found::Forgotten),
        ("superseded", superseded, Found::DeliveredLongAgo),
        ("superseded", after, Found::DeliveredLongAgo),
    ] {
        assert_eq!(bench.find(user, sequence), found, "{user}");
    }
}

fn keeps(engine: impl Engine + Clone) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut bench = Bench::new(engine);
    bench.set("u", "a", 1);
    bench.kill("422");
    // How long the machine has run, and what the wall clock says in hours, at each look; and
    // whether the letter is still there.
    for (up, wall, left) in [(1, 1, 1), (2, 500, 1), (51, 549, 1), (103, 601, 0)] {
        let uptime = Some(Uptime { boot: 1, length: HOUR * up });
        let wall = Timestamp::default().plus(HOUR * wall);
        let clocks = Now { wall, uptime, ..Now::default() };
        let keep = Retention { now: clocks, dead_kept: 100 * HOUR, ..Retention::default() };
        now(bench.queue.prune(PruneCursor::default(), keep)).unwrap();
        assert_eq!(bench.letters().len(), left, "after {up} hours");
        // A restart knows as much.
        bench = Bench::new(bench.queue.engine().clone());
    }
}

fn splits(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let users: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    let sequences: Vec<u64> = users.iter().map(|user| bench.set(user, "a", 1).sequence).collect();
    let whole = bench.claim().unwrap();
    let split = |bench: &mut Bench<_>, batch: &Batch, cut| {
        let split = Settlement::Split(cut);
        let settling = now(bench.queue.settle(batch, split, Memory::default(), at(3))).unwrap();
        *settling.next.expect("a part")
    };
    let rows = |bench: &Bench<_>, batch: &Batch| -> Vec<String> {
        let upload = bench.upload(batch);
        assert_eq!((upload.lines().count() as u64, upload.len() as u64), (batch.rows, batch.bytes));
        upload.lines().map(|line| line[12..14].to_owned()).collect()
    };
    let probe = split(&mut bench, &whole, Cut::Probe(2));
    assert_eq!(rows(&bench, &probe), ["u2"]);
    assert_eq!(bench.claim().map(|batch| batch.rows), None, "nothing is claimed out of turn");
    let Found::InFlight(found) = bench.find("u5", sequences[5]) else { panic!("not in flight") };
    assert_ne!(found.id, probe.id);

    let next = now(bench.queue.settle(&probe, DEAD, Memory::default(), at(3))).unwrap().next;
    let before = *next.unwrap();
    assert_eq!(rows(&bench, &before), ["u0", "u1"]);
    let first = split(&mut bench, &before, Cut::Halves);
    assert_eq!(rows(&bench, &first), ["u0"]);

    // A restart goes on with the same part, and the others follow.
    let mut bench = Bench::new(bench.queue.engine().clone());
    let mut batch = now(bench.queue.recover(bench.app, at(3))).unwrap().unsettled.unwrap();
    assert_eq!(batch.id, first.id);
    let mut delivered = Vec::new();
    loop {
        delivered.extend(rows(&bench, &batch));
        let memory = Memory::default();
        let settled = bench.queue.settle(&batch, Settlement::Delivered, memory, at(4));
        match now(settled).unwrap().next {
            Some(next) => batch = *next,
            None => break,
        }
    }
    assert_eq!(delivered, ["u0", "u1", "u3", "u4", "u5", "u6"]);
    assert!(matches!(bench.find("u2", sequences[2]), Found::Dead(_)));
    assert_eq!(bench.claim(), None);
}

fn leaves_the_older(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    let occurred = |value, micros| {
        let properties = vec![("plan".to_owned(), Value::Integer(value))];
        Update { properties, occurred_at: Some(at(micros)), ..update(app, "u", "", 0) }
    };
    bench.accept(vec![occurred(2, 20)])[0].unwrap();
    let batch = bench.claim().unwrap();
    bench.accept(vec![occurred(1, 10)])[0].unwrap();
    bench.settle(&batch, DEAD);
    let next = bench.claim().unwrap();
    assert_eq!(bench.upload(&next), "{\"user_id\":\"u\",\"metadata\":{\"plan\":1}}\n");
}

fn remembers_time(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let older = update(bench.app, "u", "plan", 1);
    now(bench.queue.accept(vec![older], at(1_000))).unwrap()[0].unwrap();
    bench.kill("422: no");
    bench.set("u", "plan", 2);
    let letter = bench.letters().remove(0);
    assert_eq!(bench.replay(&letter), Replay::Replayed);
    let batch = bench.claim().unwrap();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"plan\":2}}\n");
}
