//! What became of an update, in the words of the contract.

use crate::{
    clock,
    domain::batch::Batch,
    proto,
    store::{
        Closing, Disposition,
        queue::{DeadLetter, Found},
    },
};

/// What accepting did.
pub(super) fn disposition(disposition: Disposition) -> proto::Disposition {
    match disposition {
        Disposition::Queued => proto::Disposition::Queued,
        Disposition::Coalesced => proto::Disposition::Coalesced,
        Disposition::Unchanged => proto::Disposition::Unchanged,
    }
}

/// A state, and more about it.
pub(super) type State = (proto::UpdateState, Option<proto::get_update_response::Detail>);

/// Where the update with this sequence is; `None` if there is none.
pub(super) fn update_state(found: Found, sequence: u64) -> Option<State> {
    use proto::{UpdateState, get_update_response::Detail};
    Some(match found {
        Found::Pending { place, place_is_lower_bound, first_accepted_at, last_sequence } => {
            let age = clock::now().wall.since(first_accepted_at);
            let detail = proto::PendingDetail {
                place,
                place_is_lower_bound,
                age: age.try_into().ok(),
                last_sequence,
            };
            (UpdateState::Pending, Some(Detail::Pending(detail)))
        }
        Found::InExpress => {
            let detail = proto::InFlightDetail { express: true, ..Default::default() };
            (UpdateState::InFlight, Some(Detail::InFlight(detail)))
        }
        Found::InFlight(batch) => {
            let detail = proto::InFlightDetail {
                batch_id: batch.id.to_string(),
                job_id: batch.job_id.clone().unwrap_or_default(),
                completed_rows: batch.completed_rows,
                total_rows: batch.rows,
                express: false,
            };
            (UpdateState::InFlight, Some(Detail::InFlight(detail)))
        }
        Found::Delivered { delivered_at, last_sequence, batch, by_express } => {
            let of =
                |field: fn(Batch) -> String| batch.clone().map(|b| field(*b)).unwrap_or_default();
            let detail = proto::DeliveredDetail {
                delivered_at: Some(proto::timestamp(delivered_at.as_micros())),
                batch_id: of(|batch| batch.id.to_string()),
                job_id: of(|batch| batch.job_id.unwrap_or_default()),
                absorbed_by_sequence: (last_sequence != sequence).then_some(last_sequence),
                express: by_express,
            };
            (UpdateState::Delivered, Some(Detail::Delivered(detail)))
        }
        Found::Dead(letter) => {
            let DeadLetter { death, closed, .. } = *letter;
            let closed = match closed {
                Some((Closing::Superseded, _)) => {
                    " (later values of all its properties were delivered since)"
                }
                Some((Closing::Discarded, _)) => " (an operator discarded it)",
                None => "",
            };
            let reason = format!("{}: {}{closed}", death.reason, death.detail);
            (UpdateState::Dead, Some(Detail::Dead(proto::DeadDetail { reason })))
        }
        Found::DeliveredLongAgo => (UpdateState::Delivered, None),
        Found::Forgotten => (UpdateState::Forgotten, None),
        Found::Damaged => {
            let reason = "the stored record was damaged and set aside".to_owned();
            (UpdateState::Dead, Some(Detail::Dead(proto::DeadDetail { reason })))
        }
        Found::Unknown => return None,
    })
}
