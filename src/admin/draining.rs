//! Whether what waits goes out.

use std::time::Duration;

use super::status::AppStatus;
use crate::domain::{budget, lifecycle::Activity, update::SubjectKind};

/// How long records that wait take, once the last job occupies the budget no more.
pub(super) fn drain_eta(records: u64, occupied: Duration, users_per_minute: u32) -> Duration {
    match records {
        0 => Duration::ZERO,
        records => occupied + budget::occupancy(records, users_per_minute),
    }
}

/// Whether records that wait go out one job after the other. Where something is in the way, nobody can
/// say when they will have.
pub(super) fn is_draining(app: &AppStatus) -> bool {
    let AppStatus { view, queue, .. } = app;
    let goes = match view.activity {
        Activity::Idle
        | Activity::Lingering
        | Activity::Submitting
        | Activity::Running
        | Activity::Occupied
        | Activity::Isolating => true,
        Activity::LookingForJob
        | Activity::BackingOff
        | Activity::SlotTaken
        | Activity::KeyRejected
        | Activity::Halted
        | Activity::Paused => false,
    };
    let waiting = queue.depth.by_kind();
    let stays = |kind: SubjectKind| *view.halted.of(kind) && *waiting.of(kind) > 0;
    goes && !view.paused && !SubjectKind::ALL.into_iter().any(stays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{lifecycle::View, update::ByKind},
        store::{QueueView, queue::QueueDepth},
    };

    fn app(view: View) -> AppStatus {
        let depth = QueueDepth { records: 7, company_records: 2, ..QueueDepth::default() };
        AppStatus {
            name: "a".into(),
            queue: QueueView { depth, ..QueueView::default() },
            view,
            users_per_minute: 1_800,
            occupancy_remaining: Duration::ZERO,
            retry_in: None,
            in_doubt: None,
            drain_eta: Duration::from_secs(1),
            updates: (0, 0, 0),
            suppressed: 0,
            utilisation: 0.0,
            freshness: None,
            place: crate::delivery::Place::Here,
        }
    }

    #[test]
    fn only_what_nothing_is_in_the_way_of_is_drained() {
        let check = |activity, expected| {
            let of = app(View { activity, ..View::default() });
            assert_eq!(is_draining(&of), expected, "{activity:?}");
        };
        for activity in [Activity::Idle, Activity::Running, Activity::Occupied, Activity::Isolating]
        {
            check(activity, true);
        }
        for activity in [
            Activity::BackingOff,
            Activity::SlotTaken,
            Activity::KeyRejected,
            Activity::Halted,
            Activity::Paused,
            Activity::LookingForJob,
        ] {
            check(activity, false);
        }
        // Its last job is watched to its end.
        let paused = View { activity: Activity::Running, paused: true, ..View::default() };
        assert!(!is_draining(&app(paused)));
    }

    #[test]
    fn what_waits_of_a_halted_kind_is_not_drained() {
        let halted = |companies, records| {
            let halted = ByKind { users: false, companies };
            let mut app = app(View { activity: Activity::Running, halted, ..View::default() });
            app.queue.depth.company_records = records;
            is_draining(&app)
        };
        assert!(halted(false, 2));
        assert!(!halted(true, 2));
        assert!(halted(true, 0));
    }
}
