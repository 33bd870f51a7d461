use serde_json::{Value, json};

use super::*;

fn armed(rules: Value) -> Faults {
    let mut faults = Faults::new(Random::new(1, 1));
    faults.arm(serde_json::from_value(rules).unwrap()).unwrap();
    faults
}

fn strikes(faults: &mut Faults, point: FaultPoint) -> bool {
    faults.strike(Some(point)).answer.is_some()
}

#[test]
fn skip_lets_requests_pass_and_times_spends_the_rule() {
    let mut faults =
        armed(json!([{"on": "submit", "fault": {"kind": "reset"}, "skip": 1, "times": 2}]));
    let struck: Vec<bool> = (0..5).map(|_| strikes(&mut faults, FaultPoint::Submit)).collect();
    assert_eq!(struck, [false, true, true, false, false]);
    assert_eq!(faults.armed()[0].struck, 2);
}

#[test]
fn a_rule_strikes_only_where_it_is_on() {
    let mut faults = armed(json!([{"on": "jobs", "fault": {"kind": "garbage"}}]));
    assert!(!strikes(&mut faults, FaultPoint::Job));
    assert!(faults.strike(None).answer.is_none());
    assert!(strikes(&mut faults, FaultPoint::Jobs));

    let mut faults = armed(json!([{"on": "any", "fault": {"kind": "garbage"}}]));
    assert!(strikes(&mut faults, FaultPoint::Track));
    assert!(faults.strike(None).answer.is_some());
}

#[test]
fn delays_add_up_and_the_first_answer_decides() {
    let mut faults = armed(json!([
        {"on": "any", "fault": {"kind": "delay", "ms": 20}},
        {"on": "submit", "fault": {"kind": "delay", "ms": 30}},
        {"on": "submit", "fault": {"kind": "lose_answer"}},
        {"on": "submit", "fault": {"kind": "reset"}, "times": 1},
    ]));
    let strike = faults.strike(Some(FaultPoint::Submit));
    assert_eq!(strike.delay, Duration::from_millis(50));
    assert_eq!(strike.answer, Some(Fault::LoseAnswer));
    assert_eq!(faults.armed()[3].struck, 0);
}

#[test]
fn a_jobs_fate_is_drawn_apart_from_the_answer() {
    let mut faults = armed(json!([
        {"on": "submit", "fault": {"kind": "fail_job", "rows": 5}, "times": 1},
        {"on": "submit", "fault": {"kind": "partial_job", "skip_rows": 2}},
        {"on": "job", "fault": {"kind": "forget_job"}, "times": 1},
    ]));
    assert_eq!(faults.strike(Some(FaultPoint::Submit)), Strike::default());
    let fate = JobFate { fails_after: Some(5), skip_last: 2, forgotten: false };
    assert_eq!(faults.fate_of_accepted_job(), fate);
    assert_eq!(faults.fate_of_accepted_job().fails_after, None);
    assert!(faults.forgets_known_job());
    assert!(!faults.forgets_known_job());
}

#[test]
fn a_probability_is_met_by_the_seed_alike_each_time() {
    let rules = json!([{"on": "any", "fault": {"kind": "reset"}, "probability": 0.3}]);
    let run = || {
        let mut faults = armed(rules.clone());
        (0..200).map(|_| strikes(&mut faults, FaultPoint::Job)).collect::<Vec<bool>>()
    };
    assert_eq!(run(), run());
    let struck = run().into_iter().filter(|struck| *struck).count();
    assert!((30..90).contains(&struck), "{struck} of 200");
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    let check = |rule: Value, expected: InvalidRule| {
        let rule = serde_json::from_value(rule).unwrap();
        let mut faults = Faults::new(Random::new(0, 0));
        let good = FaultRule::always(FaultPoint::Any, Fault::Reset);
        assert_eq!(faults.arm(vec![good, rule]), Err(expected));
        assert!(faults.armed().is_empty());
    };
    let reset = json!({"kind": "reset"});
    check(json!({"on": "any", "fault": reset, "probability": 1.5}), InvalidRule::Probability(1.5));
    check(
        json!({"on": "track", "fault": {"kind": "forget_job"}}),
        InvalidRule::NoJob(FaultPoint::Track),
    );
    check(json!({"on": "any", "fault": {"kind": "status", "code": 99}}), InvalidRule::Code(99));
    let location = "a\nb";
    check(
        json!({"on": "any", "fault": {"kind": "redirect", "location": location}}),
        InvalidRule::Header,
    );
}

#[test]
fn a_misspelt_field_is_refused() {
    let parse = |rule: Value| serde_json::from_value::<FaultRule>(rule);
    assert!(parse(json!({"on": "any", "fault": {"kind": "reset"}, "time": 1})).is_err());
    assert!(parse(json!({"on": "any", "fault": {"kind": "delay", "ms": 1, "s": 1}})).is_err());
    assert!(parse(json!({"on": "any", "fault": {"kind": "explode"}})).is_err());
}

#[test]
fn an_armed_rule_is_read_back_as_it_was_shown() {
    let faults = armed(json!([
        {"on": "submit", "fault": {"kind": "status", "code": 503}, "probability": 0.5},
        {"on": "job", "fault": {"kind": "forget_job"}, "times": 1, "skip": 2},
    ]));
    let shown = serde_json::to_value(faults.armed()).unwrap();
    let read: Vec<ArmedRule> = serde_json::from_value(shown).unwrap();
    assert_eq!(read, faults.armed());
}

#[test]
fn a_page_is_of_the_list_alone() {
    let page = json!({"kind": "page", "jobs": 2, "oldest_first": true});
    let mut faults = armed(json!([{"on": "jobs", "fault": page, "skip": 1, "times": 1}]));
    assert_eq!(faults.strike(Some(FaultPoint::Jobs)), Strike::default());
    assert_eq!(faults.fate_of_accepted_job(), JobFate::default());
    let pages = [(); 3].map(|()| faults.page());
    assert_eq!(pages, [None, Some((2, true)), None]);
    let rule = FaultRule::always(FaultPoint::Submit, Fault::Page { jobs: 2, oldest_first: false });
    assert_eq!(rule.check(), Err(InvalidRule::NoJob(FaultPoint::Submit)));
}
