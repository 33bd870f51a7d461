//! Generators of domain values for property tests.

use std::time::Duration;

use proptest::{collection::btree_map, option, prelude::*};

use super::{
    merge::Record,
    time::{Instant, Now, Timestamp},
    update::{AppId, ClientId, Lane, Subject, SubjectKind, Update, Value},
};

pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Float),
        ".{0,12}".prop_map(Value::Text),
    ]
}

pub(crate) fn lane() -> impl Strategy<Value = Lane> {
    prop::sample::select(&Lane::ALL[..])
}

pub(crate) fn subject() -> impl Strategy<Value = Subject> {
    (prop_oneof![Just(SubjectKind::User), Just(SubjectKind::Company)], ".{1,40}")
        .prop_map(|(kind, id)| Subject { kind, id })
}

/// An update of one of a few properties, so that updates meet.
pub(crate) fn update() -> impl Strategy<Value = Update> {
    (
        subject(),
        option::of("[a-c]"),
        btree_map("[a-f]", value(), 0..5),
        option::of(-50..50_i64),
        lane(),
        0..3_u16,
    )
        .prop_map(|(subject, company_id, properties, occurred_at, lane, client)| Update {
            app: AppId(0),
            client: ClientId(client),
            subject,
            company_id,
            properties: properties.into_iter().collect(),
            occurred_at: occurred_at.map(Timestamp::from_micros),
            lane,
        })
}

/// Records of `count` updates that were accepted one after the other.
pub(crate) fn records(count: usize) -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(update(), count).prop_map(|updates| {
        (1..)
            .zip(updates)
            .map(|(sequence, update)| {
                let at = i64::try_from(sequence).expect("few");
                Record::new(update, sequence, Timestamp::from_micros(at))
            })
            .collect()
    })
}

/// So many seconds after the origin of the one clock and of the other, on a machine that does not
/// say for how long it has run.
pub(crate) fn now(instant_s: u64, wall_s: i64) -> Now {
    Now {
        instant: Instant::from_origin(Duration::from_secs(instant_s)),
        wall: Timestamp::from_micros(wall_s * 1_000_000),
        uptime: None,
    }
}
