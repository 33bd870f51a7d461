//! What is later, and what can no more be known, where what was delivered is remembered.

use super::*;

over_every_engine! {
    older_news_than_what_was_delivered_come_too_late => come_too_late;
    older_news_than_what_is_delivered_go_up_whatever_is_under_way_never => goes_not_back_in_time;
    a_letter_that_is_older_than_what_upstream_holds_is_not_replayed => is_not_replayed;
    a_clock_that_was_ahead_makes_no_later_update_too_late => survives_a_wrong_clock;
    what_was_delivered_elsewhere_or_otherwise_says_nothing => is_of_one_account;
    what_may_be_overwritten_late_is_not_remembered => is_not_learned_in_doubt;
    what_a_job_may_have_taken_makes_older_news_late_and_is_sent_again => is_late_in_doubt;
}

fn goes_not_back_in_time(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.occurred(20, 1);
    bench.deliver_all();
    bench.occurred(30, 2);
    let batch = bench.claim_all();
    let late = bench.occurred(10, 3);
    assert_eq!(late.disposition, Disposition::Unchanged, "older than what upstream holds");
    bench.settle(&batch, Settlement::Dead(DeadReason::JobFailed));
    assert_eq!(bench.queue.depth(bench.app).records, 0);
}

fn is_not_replayed(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    for waits in [false, true] {
        bench.occurred(10, 1);
        let batch = bench.claim_all();
        bench.settle(&batch, Settlement::Dead(DeadReason::JobFailed));
        let filter = DeadFilter::default();
        let letters = now(bench.reads.dead_letters(bench.app, &filter, None, 9)).unwrap().letters;
        assert_eq!(letters.len(), 1);
        bench.occurred(5, 2);
        // The same is true of later, too: as it is accepted, or as it is delivered.
        if waits {
            let batch = bench.claim_all();
            assert_eq!(bench.occurred(20, 2).disposition, Disposition::Queued);
            bench.settle(&batch, Settlement::Delivered);
        } else {
            bench.deliver_all();
            assert_eq!(bench.occurred(20, 2).disposition, Disposition::Unchanged);
        }
        let replay = bench.queue.replay(bench.app, letters[0].id, at(9));
        assert_eq!(now(replay).unwrap(), Replay::NotThere);
        assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
        now(bench.queue.forget(bench.app, &Subject::user("u"), at(9))).unwrap();
    }
}

fn survives_a_wrong_clock(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    for (value, ahead, then) in
        [(1, 50_000_000, Disposition::Unchanged), (5, 70_000_000, Disposition::Queued)]
    {
        let early = vec![update(bench.app, "u", "a", value)];
        now(bench.queue.accept(early, at(ahead))).unwrap();
        bench.deliver_all();
        // Where others accept, too, whoever delivers the app sees to it.
        if bench.queue.stripes() > 1 {
            let wall = Now { wall: at(9), ..Now::default() };
            let retention = Retention { now: wall, ..Retention::default() };
            now(bench.queue.prune(PruneCursor::default(), retention)).unwrap();
        }
        // The clock is right again. By little, what was delivered is remembered all the same.
        assert_eq!(bench.sent("a", value), then);
        bench.put("u", "a", value + 1);
        bench.deliver_all();
    }
}

fn come_too_late(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    assert_eq!(bench.occurred(50, 1).disposition, Disposition::Queued);
    bench.deliver_all();
    let mut sent = |occurred: i64, value: i64| bench.occurred(occurred, value).disposition;
    assert_eq!(sent(40, 2), Disposition::Unchanged, "older than what upstream holds");
    assert_eq!(sent(90, 1), Disposition::Unchanged, "as it is upstream");
    assert_eq!(sent(80, 2), Disposition::Unchanged, "older than when it was as upstream holds it");
    assert_eq!(sent(91, 2), Disposition::Queued);
    // Without a time of its own an update is as of when it was accepted: that is 9 here.
    bench.deliver_all();
    assert_eq!(bench.sent("a", 3), Disposition::Unchanged);
    assert_eq!(bench.sent("b", 3), Disposition::Queued);
}

fn is_of_one_account(engine: impl Engine + Clone) {
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    bench.deliver_of("v", &[("a", 1)]);
    drop(bench);
    let mut bench = remembering_of(engine.clone(), 5);
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    bench.deliver_all();
    assert_eq!(bench.sent("a", 1), Disposition::Unchanged);
    // Whatever may have been written meanwhile counts at the first one, too: it may be the same.
    bench.put("v", "a", 2);
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Dead(DeadReason::JobFailed));
    drop(bench);
    let mut bench = remembering(engine);
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    assert_eq!(bench.put("v", "a", 1).disposition, Disposition::Queued);
}

fn is_not_learned_in_doubt(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    let express = || Update { lane: Lane::Express, ..update(AppId(0), "u", "a", 1) };
    let mut goes = |end, micros| {
        let accepted = now(bench.queue.accept(vec![express()], at(micros))).unwrap()[0].unwrap();
        now(bench.queue.take_express(bench.app, 9, at(micros))).unwrap();
        let ends = [(Subject::user("u"), end)];
        now(bench.queue.settle_express(bench.app, &ends, at(micros))).unwrap();
        accepted.disposition
    };
    // The one that was given up may be carried out after what was sent since.
    assert_eq!(goes(ExpressEnd::Unknown, 1_000_000), Disposition::Queued);
    assert_eq!(goes(ExpressEnd::Delivered, 2_000_000), Disposition::Coalesced);
    assert_eq!(goes(ExpressEnd::Delivered, 300_000_000), Disposition::Queued);
    assert_eq!(goes(ExpressEnd::Delivered, 301_000_000), Disposition::Queued);
    assert_eq!(goes(ExpressEnd::Delivered, 302_000_000), Disposition::Unchanged);
}

fn is_late_in_doubt(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.occurred(50, 1);
    let batch = bench.claim_all();
    // It counts as delivered without some of its rows, of which this may be one.
    bench.settle(&Batch { completed_rows: 0, ..batch }, Settlement::Delivered);
    assert_eq!(bench.occurred(40, 2).disposition, Disposition::Unchanged, "it is older");
    assert_eq!(bench.occurred(60, 1).disposition, Disposition::Queued, "it may not be upstream");
}
