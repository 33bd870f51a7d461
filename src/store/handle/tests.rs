//! A store, as it is opened for the gateway.

mod shared;

use std::time::Duration;

use super::*;
use crate::{
    domain::{
        admission::QueueLimits,
        express::ExpressEnd,
        update::{Lane, Value},
    },
    store::{engine::MemoryEngine, queue::Disposition},
};

const LIMITS: QueueLimits = QueueLimits {
    records_max: 10,
    bytes_max: 1 << 20,
    record_bytes_max: 1 << 16,
    record_properties_max: 10,
};

/// A store of an app that remembers what it delivers.
async fn open(engine: &MemoryEngine) -> (Store, Writer, AppId) {
    let queue = Queue::open(engine.clone(), LIMITS, 7).await.unwrap();
    let suppression =
        Suppression { refresh_after: Duration::from_secs(86_400), properties_max: 9, account: 0 };
    let terms = AppTerms {
        name: "production".to_owned(),
        full_job: Occupancy::begin(10, 600, clock::now()),
        suppression: Some(suppression),
    };
    let groups = GroupLimits { group_updates_max: 10, waiting_updates_max: 10 };
    let (store, writer, apps) = start(queue, &[terms], groups).await.unwrap();
    (store, writer, apps[0].0)
}

async fn send(store: &Store, app: AppId) -> Disposition {
    let update = Update {
        app,
        client: ClientId(0),
        subject: Subject::user("u"),
        company_id: None,
        properties: vec![("a".to_owned(), Value::Integer(1))],
        occurred_at: None,
        lane: Lane::Express,
    };
    let outcomes = store.accept(vec![update], Permits::default()).unwrap().await.unwrap();
    outcomes[0].unwrap().disposition
}

async fn take(store: &Store, app: AppId) -> Vec<Subject> {
    store.take_express(app, 9).await.unwrap().subjects
}

#[tokio::test]
async fn what_was_under_way_by_express_at_a_death_is_in_doubt_for_the_next_process() {
    let engine = MemoryEngine::default();
    let (store, writer, app) = open(&engine).await;
    assert_eq!(send(&store, app).await, Disposition::Queued);
    assert_eq!(take(&store, app).await, [Subject::user("u")]);
    drop(store);
    writer.await.unwrap().unwrap();

    let (store, _writer, app) = open(&engine).await;
    assert_eq!(take(&store, app).await, [Subject::user("u")]);
    let ends = vec![(Subject::user("u"), ExpressEnd::Delivered)];
    assert_eq!(store.settle_express(app, ends).await.unwrap().len(), 1);
    // The request of the last process may be carried out after it.
    assert_eq!(send(&store, app).await, Disposition::Queued);
}
