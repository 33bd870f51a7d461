//! The same over a database: several engines, each with connections of its own.

use super::*;
use crate::store::engine::{Database, PostgresEngine};

const SHARED: Sharing = Sharing::Shared { stripes: 8 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_deliver_what_others_accept_and_take_over_from_each_other() {
    let database = Database::start();
    let open = async || database.open(SHARED).await;
    let engines = [open().await, open().await, open().await];
    Box::pin(deliver_while_others_accept(engines.clone(), 10)).await;
    let [first, second, _] = &engines;
    Box::pin(take_over_in_the_middle(first, second)).await;
    is_sound(first).await;
    // A gateway that would have it to itself is refused.
    let alone = database.open(Sharing::Alone).await;
    let refused = Queue::open(alone, LIMITS, 9).await.err().unwrap();
    assert!(matches!(refused, StoreError::Sharing { .. }), "{refused}");
    // An operator sees what there is of what.
    let counts = "SELECT count(*) FROM gateway_store.course UNION ALL \
                  SELECT count(*) FROM gateway_store.app_lease";
    assert_eq!(database.sql(counts).split_whitespace().collect::<Vec<_>>(), ["9", "1"]);
}

async fn take_over_in_the_middle(engine: &PostgresEngine, other: &PostgresEngine) {
    let (mut stale, app) = replica(engine, 4).await;
    let (mut holder, _) = replica(other, 5).await;
    assert_eq!(adopt(engine, &mut stale, app).await.unsettled, None);
    let group = (0..100).map(|user| update(app, &user.to_string(), "a", 1)).collect();
    let accepted = holder.accept(group, at(1)).await.unwrap();
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    let batch = claim(&mut stale, app).await.unwrap().unwrap();
    assert_eq!(batch.rows, 100);
    assert_eq!(adopt(other, &mut holder, app).await.unsettled.as_ref(), Some(&batch));
    is_lost(stale.settle(&batch, Settlement::Delivered, Memory::default(), at(3)).await);
    is_lost(claim(&mut stale, app).await);
    let settling = holder.settle(&batch, Settlement::Delivered, Memory::default(), at(3));
    assert!(settling.await.unwrap().complete);
    stale.refresh(&[app]).await.unwrap();
    assert_eq!(stale.depth(app).records, 0);
}
