//! What is accepted while its subject is in flight.

use super::*;

fn text(app: AppId, property: &str, bytes: usize) -> Update {
    let properties = vec![(property.to_owned(), Value::Text("x".repeat(bytes)))];
    Update { properties, ..update(app, "u", "", 0) }
}

fn occurred(app: AppId, properties: &[&str], value: i64, micros: i64) -> Update {
    let properties = properties.iter().map(|p| ((*p).to_owned(), Value::Integer(value)));
    let company_id = Some(format!("c{value}"));
    let occurred_at = Some(at(micros));
    Update { properties: properties.collect(), company_id, occurred_at, ..update(app, "u", "", 0) }
}

over_every_engine! {
    what_may_come_back_keeps_to_the_limits_of_a_record => comes_back_within_limits;
    a_value_older_than_the_one_in_flight_is_never_sent => strikes_the_older;
}

fn comes_back_within_limits(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    bench.accept(vec![text(app, "a", 40_000)])[0].unwrap();
    let batch = bench.claim().unwrap();
    // Alone it would be taken; together with what is in flight it would be too much.
    let refused = [Err(QueueRefusal::RecordTooLarge)];
    assert_eq!(bench.accept(vec![text(app, "b", 40_000)]), refused);
    bench.accept(vec![text(app, "b", 20_000)])[0].unwrap();
    assert_eq!(bench.accept(vec![text(app, "c", 20_000)]), refused);
    // What replaces a value of what is in flight adds nothing.
    bench.accept(vec![text(app, "a", 40_000)])[0].unwrap();
    bench.settle(&batch, Settlement::Requeued);
    let batch = bench.claim().unwrap();
    assert_eq!(bench.upload(&batch).lines().count(), 1);
    bench.settle(&batch, Settlement::Delivered);
    let last = bench.accept(vec![text(app, "c", 60_000)])[0].unwrap().sequence;
    bench.assert_given(&[last], &[4]);
}

fn strikes_the_older(engine: impl Engine + Clone) {
    for settlement in [Settlement::Delivered, Settlement::Requeued] {
        let mut bench = Bench::new(engine.clone());
        let app = bench.app;
        bench.accept(vec![occurred(app, &["plan"], 2, 20)])[0].unwrap();
        let batch = bench.claim().unwrap();
        bench.accept(vec![occurred(app, &["plan", "seats"], 1, 10)])[0].unwrap();
        bench.accept(vec![occurred(app, &["trial"], 3, 30)])[0].unwrap();
        bench.settle(&batch, settlement);
        let next = bench.claim().unwrap();
        let plan = if settlement == Settlement::Requeued { "\"plan\":2," } else { "" };
        let expected = format!(
            "{{\"user_id\":\"u\",\"company_id\":\"c3\",\"metadata\":{{{plan}\"seats\":1,\"trial\":3}}}}\n"
        );
        assert_eq!(bench.upload(&next), expected);
        bench.settle(&next, Settlement::Delivered);
    }
}
