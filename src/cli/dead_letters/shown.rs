//! Dead letters, as people and programs see them.

use comfy_table::{Table, presets::NOTHING};
use prost_types::{Struct, value::Kind};
use serde_json::{Map, Value, json};

use super::selection::REASON_PREFIX;
use crate::proto::{DeadLetter, DeadLetterState, Subject, subject::Id};

/// A line a letter, without values.
pub(super) fn table(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["id", "died", "reason", "state", "subject", "updates", "Userpilot said"]);
    for letter in letters {
        table.add_row([
            letter.id.clone(),
            time(letter.died_at.as_ref()).unwrap_or_default(),
            reason(letter),
            state(letter),
            subject(letter.subject.as_ref()),
            letter.updates.to_string(),
            letter.detail.clone(),
        ]);
    }
    table
}

/// All there is of one, a line a field.
pub(super) fn details(letter: &DeadLetter) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("id", letter.id.clone());
    row("app", letter.app.clone());
    row("subject", subject(letter.subject.as_ref()));
    row("state", state(letter));
    row("closed", time(letter.closed_at.as_ref()).unwrap_or_default());
    row("reason", reason(letter));
    row("Userpilot said", letter.detail.clone());
    row("request id", letter.request_id.clone());
    row("batch", letter.batch_id.clone());
    row("job", letter.job_id.clone());
    row("accepted", time(letter.accepted_at.as_ref()).unwrap_or_default());
    row("died", time(letter.died_at.as_ref()).unwrap_or_default());
    row("sequences", format!("{} to {}", letter.first_sequence, letter.last_sequence));
    row("updates", letter.updates.to_string());
    row("company", letter.company_id.clone().unwrap_or_default());
    for (name, value) in properties(letter.metadata.as_ref()) {
        table.add_row([format!("  {name}"), value.to_string()]);
    }
    table
}

/// All there is of one. The names are the contract's.
pub(super) fn json(letter: &DeadLetter) -> Value {
    let (user, company) = match letter.subject.as_ref().and_then(|subject| subject.id.as_ref()) {
        Some(Id::UserId(id)) => (Some(id), None),
        Some(Id::CompanyId(id)) => (None, Some(id)),
        None => (None, None),
    };
    let subject = match company {
        Some(company) => json!({"company_id": company}),
        None => json!({"user_id": user}),
    };
    let mut object = json!({
        "app": letter.app,
        "id": letter.id,
        "subject": subject,
        "reason": reason(letter),
        "detail": letter.detail,
        "batch_id": letter.batch_id,
        "job_id": letter.job_id,
        "request_id": letter.request_id,
        "died_at": time(letter.died_at.as_ref()),
        "accepted_at": time(letter.accepted_at.as_ref()),
        "first_sequence": letter.first_sequence,
        "last_sequence": letter.last_sequence,
        "updates": letter.updates,
        "state": state(letter),
        "closed_at": time(letter.closed_at.as_ref()),
    });
    // Lists do not hold them, and that is not to look as if there were none.
    if let Some(metadata) = &letter.metadata {
        object["company_id"] = json!(letter.company_id);
        object["metadata"] = Value::Object(properties(Some(metadata)));
    }
    object
}

fn reason(letter: &DeadLetter) -> String {
    letter.reason().as_str_name().trim_start_matches(REASON_PREFIX).to_lowercase()
}

fn state(letter: &DeadLetter) -> String {
    let state = DeadLetterState::try_from(letter.state).unwrap_or_default().as_str_name();
    state.trim_start_matches("DEAD_LETTER_STATE_").to_lowercase()
}

fn subject(subject: Option<&Subject>) -> String {
    match subject.and_then(|subject| subject.id.as_ref()) {
        Some(Id::UserId(id)) => format!("user {id}"),
        Some(Id::CompanyId(id)) => format!("company {id}"),
        None => String::new(),
    }
}

fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    jiff::Timestamp::new(at.seconds, at.nanos).ok().map(|at| at.to_string())
}

fn properties(metadata: Option<&Struct>) -> Map<String, Value> {
    let fields = metadata.map(|metadata| &metadata.fields).into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), property(value.kind.as_ref()))).collect()
}

/// Records hold nothing but primitives.
fn property(kind: Option<&Kind>) -> Value {
    /// Doubles hold every whole number up to here.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match kind {
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within range")]
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
            Value::from(*number as i64)
        }
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_they_were_sent() {
        for (kind, expected) in [
            (Kind::NullValue(0), json!(null)),
            (Kind::BoolValue(true), json!(true)),
            (Kind::NumberValue(3.0), json!(3)),
            (Kind::NumberValue(-0.5), json!(-0.5)),
            (Kind::NumberValue(1e300), json!(1e300)),
            (Kind::StringValue("«ü»".into()), json!("«ü»")),
        ] {
            assert_eq!(property(Some(&kind)), expected);
        }
    }
}
