use proptest::prelude::*;

use super::*;
use crate::domain::testing;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn kind(kind: PropertyKind) -> PropertyType {
    PropertyType { kind, format: None, max_length: None }
}

fn rules(on_mismatch: OnMismatch) -> PropertyRules {
    let types = [
        ("name", PropertyType { max_length: Some(3), ..kind(PropertyKind::String) }),
        ("email", PropertyType { format: Some(TextFormat::Email), ..kind(PropertyKind::String) }),
        ("seats", kind(PropertyKind::Number)),
        ("paying", kind(PropertyKind::Boolean)),
        ("since", kind(PropertyKind::Date)),
    ];
    PropertyRules {
        deny: ["ssn"].into_iter().collect(),
        allow: FoldedNames::default(),
        hash: ["email"].into_iter().collect(),
        hash_key: Some(HashKey::new(b"key")),
        types: types.into_iter().collect(),
        on_mismatch,
    }
}

fn apply(rules: &PropertyRules, name: &str, value: Value) -> Applied {
    rules.apply(vec![(name.to_owned(), value)])
}

/// The value as it goes on, and whether the rules had anything to say.
fn check_kept(name: &str, value: Value, expected: Value) {
    let applied = apply(&rules(OnMismatch::Reject), name, value);
    assert_eq!(applied.properties, [(name.to_owned(), expected)], "{:?}", applied.treated);
}

fn check_mismatch(name: &str, value: Value, reason: &str, words: &str) {
    let applied = apply(&rules(OnMismatch::Reject), name, value.clone());
    let [(named, Treatment::Rejected(mismatch))] = &applied.treated[..] else {
        panic!("{name}: {applied:?}")
    };
    assert_eq!((&**named, mismatch.reason()), (name, reason));
    assert!(mismatch.to_string().contains(words), "{mismatch}");
    assert!(applied.properties.is_empty());

    let dropped = apply(&rules(OnMismatch::Drop), name, value.clone());
    assert_eq!(dropped.properties, []);
    assert_eq!(dropped.treated, [(name.to_owned(), Treatment::Dropped(*mismatch))]);

    let warned = apply(&rules(OnMismatch::Warn), name, value.clone());
    match mismatch.is_forbidden() {
        true => assert_eq!(warned, dropped),
        false => {
            assert!(warned.treated.contains(&(name.to_owned(), Treatment::Kept(*mismatch))));
            assert_eq!(warned.properties.len(), 1);
        }
    }
}

#[test]
fn what_fits_goes_on_and_a_null_fits_everything() {
    check_kept("name", text("Ada"), text("Ada"));
    check_kept("seats", Value::Integer(3), Value::Integer(3));
    check_kept("seats", Value::Float(0.5), Value::Float(0.5));
    check_kept("paying", Value::Bool(true), Value::Bool(true));
    check_kept("unknown", text("anything at all"), text("anything at all"));
    for name in ["name", "email", "seats", "paying", "since"] {
        check_kept(name, Value::Null, Value::Null);
    }
}

#[test]
fn what_does_not_fit_is_named_and_rejected_dropped_or_kept() {
    check_mismatch("name", text("Adam"), "too_long", "more than 3 characters");
    check_mismatch("name", Value::Integer(1), "wrong_type", "must be a string, and is a number");
    check_mismatch("seats", text("3"), "wrong_type", "must be a number, and is a string");
    check_mismatch("paying", Value::Integer(1), "wrong_type", "must be a boolean");
    check_mismatch("since", text("yesterday"), "wrong_type", "no such date");
    check_mismatch("since", Value::Integer(1_700_000_000), "wrong_type", "RFC 3339");
    check_mismatch("email", text("ada at example"), "wrong_format", "an e-mail address");
    check_mismatch("ssn", text("078-05-1120"), "denied", "denied");
    // The long s is a small s, too.
    check_mismatch("\u{17f}\u{17f}n", text("078-05-1120"), "denied", "denied");
    check_mismatch("SS N", text("078-05-1120"), "denied", "denied");
}

#[test]
fn where_names_are_allowed_no_others_get_through() {
    let allow = ["plan"].into_iter().collect();
    let rules = PropertyRules { allow, on_mismatch: OnMismatch::Warn, ..PropertyRules::default() };
    assert_eq!(apply(&rules, "plan", text("pro")).properties.len(), 1);
    assert_eq!(apply(&rules, "P lan", text("pro")).properties.len(), 1);
    let other = apply(&rules, "Plans", text("pro"));
    let treatment = Treatment::Dropped(Mismatch::NotAllowed);
    assert_eq!(other, Applied { properties: vec![], treated: vec![("Plans".into(), treatment)] });
}

#[test]
fn a_value_is_hashed_as_others_would_hash_it() {
    // printf %s ada@example.com | openssl dgst -sha256 -hmac key
    let hash = "20caa94149b865c2f3a23002c8ca0b02e3dba113236448a96eae078e7e3a6cc0";
    check_kept("email", text("ada@example.com"), text(hash));
    let rules = rules(OnMismatch::Warn);
    // However the name is written.
    let shouted = apply(&rules, "E-MAIL", text("ada@example.com"));
    assert_eq!(shouted.treated, []);
    let shouted = apply(&rules, "E Mail", text("ada@example.com"));
    assert_eq!(shouted.treated, [("E Mail".to_owned(), Treatment::Hashed)]);
    assert_eq!(shouted.properties[0].1, text(hash));
    let key = HashKey::new(b"key");
    assert_eq!(key.hash(Value::Integer(42)), key.hash(text("42")));
    assert_eq!(key.hash(Value::Bool(true)), key.hash(text("true")));
}

#[test]
fn without_a_key_nothing_that_is_to_be_hashed_gets_through() {
    for on_mismatch in [OnMismatch::Reject, OnMismatch::Drop, OnMismatch::Warn] {
        let rules = PropertyRules { hash_key: None, ..rules(on_mismatch) };
        let applied = apply(&rules, "email", text("ada@example.com"));
        assert_eq!(applied.properties, []);
        assert_eq!(applied.treated.len(), 1);
    }
}

#[test]
fn dates_come_as_rfc_3339_and_go_as_iso_8601_in_utc() {
    for (given, written) in [
        ("2026-11-24T10:30:00Z", "2026-11-24T10:30:00Z"),
        ("2026-11-24t10:30:00.250+02:00", "2026-11-24T08:30:00.25Z"),
        ("2026-11-24 10:30:00-05:00", "2026-11-24T15:30:00Z"),
        ("2026-11-24", "2026-11-24"),
    ] {
        check_kept("since", text(given), text(written));
    }
    for wrong in [
        "",
        "2026",
        "2026-11",
        "2026-13-01",
        "2026-02-30",
        "24.11.2026",
        "2026-W48-2",
        "2026-11-24T10:30:00",
        "2026-11-24T25:00:00Z",
        "+002026-11-24T10:30:00Z",
        "2026-11-24T10:30:00+02:00[Europe/Berlin]",
        "20261124T103000Z",
        "é026-11-24",
    ] {
        check_mismatch("since", text(wrong), "wrong_type", "no such date");
    }
}

#[test]
fn formats_tell_what_looks_right_from_what_does_not() {
    let check = |format: TextFormat, right: &[&str], wrong: &[&str]| {
        right.iter().for_each(|text| assert!(format.fits(text), "{text}"));
        wrong.iter().for_each(|text| assert!(!format.fits(text), "{text}"));
    };
    check(
        TextFormat::Email,
        &["a@b.co", "ada.lovelace+x@mail.example.com", "ü@bücher.example"],
        &["", "a", "a@b", "@b.co", "a@.co", "a@b.", "a b@c.de", "a@b@c.de", "a@-b.co"],
    );
    check(
        TextFormat::Url,
        &["https://example.com", "http://example.com/a?b#c"],
        &["", "example.com", "ftp://example.com", "javascript:alert(1)", "https://"],
    );
    check(
        TextFormat::Uuid,
        &["00000000-0000-4000-8000-00000000000F"],
        &["", "00000000-0000-4000-8000-00000000000g", "00000000000040008000000000000000"],
    );
}

fn on_mismatch() -> impl Strategy<Value = OnMismatch> {
    prop_oneof![Just(OnMismatch::Reject), Just(OnMismatch::Drop), Just(OnMismatch::Warn)]
}

/// Two spellings of a name that differ by case and white space alone.
fn spellings() -> impl Strategy<Value = (String, String)> {
    let letter = prop::sample::select(vec!['a', 'z', '_', '7', 'é', 'ß', 'σ', 'ς', 'ſ', 'ǆ', '名']);
    let space = prop::sample::select(vec!["", "", " ", "\t", "\u{a0}", "\u{2003}"]);
    let one = (letter, any::<[bool; 2]>(), space.clone(), space).prop_map(
        |(letter, [first, second], before, after)| {
            let spelt = |is_large: bool, space: &str| {
                let large = || letter.to_uppercase().collect::<String>();
                format!("{space}{}", if is_large { large() } else { letter.to_string() })
            };
            (spelt(first, before), spelt(second, after))
        },
    );
    prop::collection::vec(one, 1..8).prop_map(|letters| letters.into_iter().unzip())
}

proptest! {
    #[test]
    fn no_value_that_is_to_be_hashed_or_denied_gets_through(
        secret in "[a-z]{6,12}",
        names in prop::collection::btree_set("(?i)(ssn|email|plan) ?", 1..6),
        on_mismatch in on_mismatch(),
    ) {
        let properties = names.iter().map(|name| (name.clone(), text(&secret))).collect();
        for (name, value) in rules(on_mismatch).apply(properties).properties {
            let open = fold(&name) == "plan";
            prop_assert_eq!(value == text(&secret), open, "{}", name);
        }
    }

    #[test]
    fn every_rule_means_a_property_however_its_name_is_written(
        (configured, sent) in spellings(),
        value in testing::value(),
        rule in 0..4,
        on_mismatch in on_mismatch(),
    ) {
        let rules = |name: &str| PropertyRules {
            deny: (rule == 0).then_some(name).into_iter().collect(),
            allow: [if rule == 1 { "other" } else { name }].into_iter().collect(),
            hash: (rule == 2).then_some(name).into_iter().collect(),
            hash_key: Some(HashKey::new(b"key")),
            types: (rule == 3).then_some((name, kind(PropertyKind::Date))).into_iter().collect(),
            on_mismatch,
        };
        // As if the rule had been written as the name was sent, and the other way round.
        let expected = apply(&rules(&configured), &configured, value.clone());
        let spelt = |applied: Applied| {
            let properties = applied.properties.into_iter().map(|(_, value)| value);
            let treated = applied.treated.into_iter().map(|(_, treatment)| treatment);
            (properties.collect::<Vec<_>>(), treated.collect::<Vec<_>>())
        };
        let found = apply(&rules(&configured), &sent, value.clone());
        prop_assert!(found.properties.iter().all(|(name, _)| *name == sent));
        let again = apply(&rules(&sent), &configured, value);
        let expected = spelt(expected);
        prop_assert_eq!(spelt(found), expected.clone());
        prop_assert_eq!(spelt(again), expected);
    }

    #[test]
    fn a_folded_name_has_no_case_and_no_space_and_folds_to_itself((one, other) in spellings()) {
        let folded = fold(&one);
        prop_assert_eq!(&folded, &fold(&other));
        prop_assert_eq!(&fold(&folded), &folded);
        prop_assert!(!folded.contains(char::is_whitespace));
    }

    #[test]
    fn applied_again_the_rules_say_nothing_new_of_what_went_through(
        properties in prop::collection::btree_map("name|seats|paying|since|other", testing::value(), 0..5),
    ) {
        let rules = rules(OnMismatch::Drop);
        let once = rules.apply(properties.clone().into_iter().collect());
        prop_assert!(once.properties.is_sorted_by(|(a, _), (b, _)| a < b));
        prop_assert_eq!(once.properties.len() + once.treated.len(), properties.len());
        let again = rules.apply(once.properties.clone());
        prop_assert_eq!(again, Applied { properties: once.properties, treated: vec![] });
    }

    #[test]
    fn without_rules_nothing_changes(
        properties in prop::collection::vec(("[a-c]", testing::value()), 0..5),
    ) {
        let applied = PropertyRules::default().apply(properties.clone());
        prop_assert_eq!(applied, Applied { properties, treated: vec![] });
    }
}
