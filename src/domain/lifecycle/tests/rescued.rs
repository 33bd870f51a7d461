//! What the machine does where something of the app was damaged.

use super::*;

#[test]
fn an_app_whose_state_was_damaged_stays_paused_and_says_why_until_it_is_resumed() {
    let rescue = Some(Rescue { at: at(7).wall, paused: true, job_unknown: false });
    let mut bench = Bench::new(Recovered { paused: true, rescue, ..Recovered::default() });
    bench.wait_for_records(1);
    assert_eq!(bench.next(), Step::Wait(None));
    let view = bench.machine.view(bench.now);
    assert_eq!((view.activity, view.rescued_at), (Activity::Paused, Some(at(7).wall)));
    for paused in [false, true] {
        bench.on(Event::Paused(paused));
        assert_eq!(bench.machine.view(bench.now).rescued_at, None);
    }
}

#[test]
fn where_a_job_may_run_under_a_lost_name_upstream_is_asked_before_anything_is_submitted() {
    let rescue = Some(Rescue { at: at(7).wall, paused: false, job_unknown: true });
    let memory = Memory { occupancy: Occupancy::begin(300, 1_800, at(1_000)), ..Memory::default() };
    for claimed in [None, Some(batch(3))] {
        let mut bench = Bench::new(Recovered {
            unsettled: claimed.clone(),
            memory,
            rescue,
            ..Recovered::default()
        });
        assert_eq!(bench.machine.view(bench.now).rescued_at, None);
        bench.wait_for_records(1);
        assert_eq!(bench.sleep().as_secs(), 10, "not before a full occupancy has passed");
        for _ in 0..2 {
            assert_eq!(bench.command(), Command::Look);
            let theirs = job(Some("lost".into()), JobPhase::Unfinished, None);
            bench.on(Event::Looked(Ok(vec![theirs])));
            assert_eq!(bench.machine.view(bench.now).activity, Activity::SlotTaken);
            assert_eq!(bench.sleep().as_secs(), 15);
        }
        assert_eq!(bench.command(), Command::Look);
        bench.on(Event::Looked(Err(failure(FailureKind::Unknown))));
        bench.sleep();
        assert_eq!(bench.command(), Command::Look, "no answer is no permission");
        let ended = job(Some("lost".into()), JobPhase::Completed, None);
        bench.on(Event::Looked(Ok(vec![ended])));
        match claimed {
            None => assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into()))),
            Some(_) => drop(bench.resubmit()),
        }
    }
}

#[test]
fn where_the_list_never_comes_a_submission_finds_out_whether_a_job_runs_under_a_lost_name() {
    let rescue = Some(Rescue { at: at(7).wall, paused: false, job_unknown: true });
    let zombie = job(Some("lost".into()), JobPhase::Unfinished, None);
    for answer in [Err(failure(FailureKind::Unknown)), Ok(vec![zombie])] {
        let mut bench = Bench::new(Recovered { rescue, ..Recovered::default() });
        bench.wait_for_records(1);
        let mut looks = 0;
        bench.sleep();
        while bench.command() == Command::Look {
            bench.on(Event::Looked(answer.clone()));
            bench.sleep();
            looks += 1;
            assert!((1..100).contains(&looks));
        }
        assert!(looks >= 5, "{looks}");
        bench.on(Event::Claimed(Some(Box::new(batch(1)))));
        bench.resubmit();
        bench.refuse(FailureKind::SlotTaken);
        assert_eq!(bench.command(), Command::Look);
    }
}

#[test]
fn an_app_that_is_held_does_nothing_and_says_so() {
    let held = Some("damaged".to_owned());
    let mut bench = Bench::new(Recovered { held, ..Recovered::default() });
    assert_eq!(bench.next(), Step::Wait(None));
    let view = bench.machine.view(bench.now);
    assert_eq!((view.activity, view.held.as_deref()), (Activity::Halted, Some("damaged")));
}
