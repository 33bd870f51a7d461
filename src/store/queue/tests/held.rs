//! Names whose numbers are damaged, and apps that are held for it.

use super::{
    damage::flip_a_bit,
    rescue::{is_whole, set_aside},
    *,
};
use crate::store::{keys::NameSpace, names::names};

#[test]
fn the_number_of_one_damaged_name_is_the_one_that_is_missing() {
    let engine = MemoryEngine::default();
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 7)).unwrap();
    let numbers = ["c", "a", "b"].map(|name| now(queue.app(name)).unwrap());
    let key = keys::name(NameSpace::App, "a");
    flip_a_bit(&engine, &key);
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 8)).unwrap();
    assert_eq!(["c", "a", "b"].map(|name| now(queue.app(name)).unwrap()), numbers);
    assert!(set_aside(&engine, &key));
    assert!(now(names(&engine, NameSpace::App)).unwrap().iter().all(|it| it.damage.is_none()));
    is_whole(&engine);
    for name in ["a", "b"] {
        flip_a_bit(&engine, &keys::name(NameSpace::App, name));
    }
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 8)).unwrap();
    assert_eq!(now(queue.app("c")).unwrap(), numbers[0]);
    assert!(matches!(now(queue.app("a")), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_app_that_is_held_stores_nothing_and_keeps_nobody_else_out() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let held = [bench.queue.hold(), bench.queue.hold()];
    let updates = [held[0], bench.app, held[1]].map(|app| update(app, "u", "a", 1)).to_vec();
    let outcomes = bench.accept(updates);
    let accepted: Vec<_> = outcomes.into_iter().map(|it| it.map(|it| it.sequence)).collect();
    let refused = Err(QueueRefusal::AppHeld);
    assert_eq!(accepted, [refused, Ok(1), refused]);
    is_whole(&engine);
}
