use serde_json::json;

use super::*;

const LIMITS: Limits = Limits { rows_max: 3, bytes_max: 1_000 };

fn invalid(message: &str) -> Refusal {
    Refusal::Invalid(message.to_owned())
}

fn check_file(content: &str, expected: Result<&[&str], Refusal>) {
    let rows = parse_ndjson(content.as_bytes(), Subjects::Users, LIMITS);
    let subjects = rows.map(|rows| rows.into_iter().map(|row| row.subject).collect::<Vec<_>>());
    let expected = expected.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
    assert_eq!(subjects, expected, "{content}");
}

fn check_users(body: Value, expected: Refusal) {
    let parsed = parse_json(body.to_string().as_bytes(), Subjects::Users, LIMITS);
    assert_eq!(parsed, Err(expected), "{body}");
}

#[test]
fn a_file_is_one_user_a_line() {
    check_file("{\"user_id\":\"a\"}\n{\"user_id\":\"b\"}\n", Ok(&["a", "b"]));
    check_file("{\"user_id\":\"a\"}", Ok(&["a"]));
    check_file("{\"user_id\":\"a\"}\r\n{\"user_id\":\"b\"}\r\n", Ok(&["a", "b"]));
}

#[test]
fn a_bad_line_is_named() {
    let bad = "line 2: must be a JSON object";
    check_file("{\"user_id\":\"a\"}\n[1]\n", Err(invalid(bad)));
    check_file("{\"user_id\":\"a\"}\n\n{\"user_id\":\"b\"}", Err(invalid(bad)));
    check_file("{\"user_id\":\"a\"}\n{\"user_id\":", Err(invalid(bad)));
    check_file("{\"user_id\":7}", Err(invalid("line 1: user_id must be a non-empty string")));
    check_file("", Err(invalid("there is no record in the file")));
}

#[test]
fn a_file_has_limits_of_rows_and_bytes() {
    let line = "{\"user_id\":\"a\"}\n";
    check_file(&line.repeat(4), Err(Refusal::TooManyRows { rows: 4, rows_max: 3 }));
    check_file(&" ".repeat(1_001), Err(Refusal::TooLarge { bytes_max: 1_000 }));
}

#[test]
fn a_json_body_is_an_object_of_one_array() {
    let shape = invalid("the body must be an object of one array, users");
    check_users(json!({"companies": [{"company_id": "acme"}]}), shape.clone());
    check_users(json!({"users": []}), shape.clone());
    check_users(json!({"users": {"user_id": "a"}}), shape.clone());
    check_users(json!({"users": [{"user_id": "a"}], "more": 1}), shape);
    check_users(json!([]), invalid("the body must be a JSON object"));
    let rows = json!({"users": vec![json!({"user_id": "a"}); 4]});
    check_users(rows, Refusal::TooManyRows { rows: 4, rows_max: 3 });
}

#[test]
fn a_record_holds_what_is_documented_and_nothing_else() {
    let check = |record: Value, why: &str| {
        let body = json!({"users": [{"user_id": "a"}, record]});
        check_users(body, invalid(&format!("line 2: {why}")));
    };
    check(json!({}), "user_id must be a non-empty string");
    check(json!({"user_id": ""}), "user_id must be a non-empty string");
    check(json!({"user_id": "b", "company_id": null}), "company_id must be a non-empty string");
    check(json!({"user_id": "b", "metadata": []}), "metadata must be an object");
    check(json!({"user_id": "b", "name": "B"}), "name is not a known field");
    let compound = "metadata.tags must be a string, number, boolean or null";
    check(json!({"user_id": "b", "metadata": {"ok": 1, "tags": ["x"]}}), compound);
    check(json!({"user_id": "b", "metadata": {"tags": {"x": 1}}}), compound);
}

#[test]
fn every_primitive_is_taken() {
    let metadata = json!({"text": "x", "count": 1.5, "yes": true, "gone": null});
    let body = json!({"users": [{"user_id": "a", "company_id": "c", "metadata": metadata}]});
    let rows = parse_json(body.to_string().as_bytes(), Subjects::Users, LIMITS).unwrap();
    assert_eq!(rows[0].company_id.as_deref(), Some("c"));
    assert_eq!(serde_json::to_value(&rows[0].metadata).unwrap(), metadata);
}

#[test]
fn a_company_of_an_identify_may_be_named_by_either_key() {
    let parse = |company: Value| {
        let body = json!({"user_id": "a", "metadata": {}, "company": company});
        parse_identify(body.to_string().as_bytes())
    };
    for company in [json!({"id": "c", "size": 3}), json!({"company_id": "c", "size": 3})] {
        let rows = parse(company).unwrap();
        assert_eq!((rows[0].0, rows[0].1.subject.as_str()), (Subjects::Companies, "c"));
        assert_eq!(rows[0].1.metadata["size"], 3);
        assert_eq!(rows[1].1.company_id.as_deref(), Some("c"));
    }
    assert!(parse(json!({"id": "c", "company_id": "c"})).is_ok());
    let disagree = invalid("company.id and company.company_id must agree");
    assert_eq!(parse(json!({"id": "c", "company_id": "d"})), Err(disagree));
    assert_eq!(parse(json!({})), Err(invalid("company.id must be a non-empty string")));
}

#[test]
fn a_track_request_names_its_event() {
    let check = |body: Value, expected: Result<(), Refusal>| {
        assert_eq!(parse_track(body.to_string().as_bytes()), expected, "{body}");
    };
    check(json!({"user_id": "a", "event_name": "opened", "metadata": {"n": 1}}), Ok(()));
    check(json!({"user_id": "a"}), Err(invalid("event_name must be a non-empty string")));
    assert_eq!(parse_track(b"nope"), Err(Refusal::Malformed("the body is not JSON".to_owned())));
}
