//! Dead letters, as people see them.

use super::selection::REASON_PREFIX;
use crate::{
    cli::output::{self, Table, moment, subject},
    proto::DeadLetter,
};

/// A line a letter, without values.
pub(super) fn table(letters: &[DeadLetter]) -> Table {
    let mut table = output::table();
    table.set_header(["id", "died", "reason", "state", "subject", "updates", "Userpilot said"]);
    for letter in letters {
        table.add_row([
            letter.id.clone(),
            moment(letter.died_at.as_ref()),
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
    let mut table = output::table();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("id", letter.id.clone());
    row("app", letter.app.clone());
    row("subject", subject(letter.subject.as_ref()));
    row("state", state(letter));
    row("closed", moment(letter.closed_at.as_ref()));
    row("reason", reason(letter));
    row("Userpilot said", letter.detail.clone());
    row("request id", letter.request_id.clone());
    row("batch", letter.batch_id.clone());
    row("job", letter.job_id.clone());
    row("accepted", moment(letter.accepted_at.as_ref()));
    row("died", moment(letter.died_at.as_ref()));
    row("sequences", format!("{} to {}", letter.first_sequence, letter.last_sequence));
    row("updates", letter.updates.to_string());
    row("company", letter.company_id.clone().unwrap_or_default());
    for (name, value) in output::properties(letter.metadata.as_ref()) {
        table.add_row([format!("  {name}"), value]);
    }
    table
}

fn reason(letter: &DeadLetter) -> String {
    letter.reason().as_str_name().trim_start_matches(REASON_PREFIX).to_lowercase()
}

fn state(letter: &DeadLetter) -> String {
    output::word(letter.state().as_str_name(), "DEAD_LETTER_STATE_")
}
