//! A recorded trace: one JSON object a line, `{"at": …, "user_id": …}`, and as it likes a
//! `client` and a `lane`.

use std::{
    collections::{BTreeMap, HashMap},
    io::BufRead,
    time::Duration,
};

use serde::Deserialize;

use super::traffic::{Sends, Source};
use crate::domain::update::Lane;

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not an update.
    #[error(
        "line {line}: {reason}; expected a line such as {{\"at\": 12.5, \"user_id\": \"42\"}}, \
         with \"at\" in seconds or as in 2026-11-24T08:00:00Z"
    )]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Some times count from a beginning, others are dates.
    #[error("line {line}: \"at\" is in seconds on some lines and a date on others")]
    TwoClocks {
        /// The first line that is unlike those before it.
        line: usize,
    },
    /// There is nothing in it.
    #[error("there is no update in it")]
    Empty,
}

#[derive(Deserialize)]
struct Line {
    at: At,
    user_id: String,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    lane: Option<LaneWord>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Seconds(f64),
    Date(jiff::Timestamp),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LaneWord {
    Express,
    Interactive,
    Bulk,
}

/// The sources that a trace holds: one for each client and lane. Dates count from the first;
/// seconds from 0. Returns how long it is, too.
pub fn read(lines: impl BufRead) -> Result<(Vec<Source>, Duration), TraceError> {
    let mut users = HashMap::<String, u32>::new();
    let mut updates: BTreeMap<(String, Lane), Vec<(f64, u32)>> = BTreeMap::new();
    let mut dated = None;
    let (mut first, mut last) = (f64::INFINITY, 0.0_f64);
    for (index, text) in lines.lines().enumerate() {
        let (line, text) = (index + 1, text?);
        if text.trim().is_empty() {
            continue;
        }
        let wrong = |reason: String| TraceError::Line { line, reason };
        let update: Line = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let (at, is_date) = match update.at {
            At::Seconds(at) if !(0.0..1e9).contains(&at) => {
                return Err(wrong(format!("{at} seconds is no time of a trace")));
            }
            At::Seconds(at) => (at, false),
            At::Date(at) => (at.as_duration().as_secs_f64(), true),
        };
        if *dated.get_or_insert(is_date) != is_date {
            return Err(TraceError::TwoClocks { line });
        }
        (first, last) = (first.min(at), last.max(at));
        let number = u32::try_from(users.len()).unwrap_or(u32::MAX);
        let user = *users.entry(update.user_id).or_insert(number);
        let lane = match update.lane {
            Some(LaneWord::Express) => Lane::Express,
            Some(LaneWord::Bulk) => Lane::Bulk,
            Some(LaneWord::Interactive) | None => Lane::Interactive,
        };
        let client = update.client.unwrap_or_else(|| "trace".to_owned());
        updates.entry((client, lane)).or_default().push((at, user));
    }
    let origin = if dated.ok_or(TraceError::Empty)? { first } else { 0.0 };
    let since = |at: f64| Duration::from_secs_f64((at - origin).max(0.0));
    let source = |((client, lane), updates): ((String, Lane), Vec<(f64, u32)>)| {
        let mut updates: Vec<_> = updates.into_iter().map(|(at, user)| (since(at), user)).collect();
        updates.sort_by_key(|(at, _)| *at);
        Source { class: client.clone(), client, weight: 1, lane, sends: Sends::Recorded(updates) }
    };
    Ok((updates.into_iter().map(source).collect(), since(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(source: &Source) -> &[(Duration, u32)] {
        match &source.sends {
            Sends::Recorded(updates) => updates,
            Sends::Flow { .. } | Sends::Backfill { .. } | Sends::Resync { .. } => &[],
        }
    }

    #[test]
    fn dates_count_from_the_first_and_seconds_from_nothing() {
        let dated = r#"
            {"at": "2026-11-24T08:00:02Z", "user_id": "ada"}
            {"at": "2026-11-24T10:00:00.5+02:00", "user_id": "bob", "client": "crm"}
            {"at": "2026-11-24T08:00:03Z", "user_id": "ada", "client": "crm", "lane": "bulk"}
        "#;
        let (sources, length) = read(dated.as_bytes()).unwrap();
        let told: Vec<_> = sources.iter().map(|it| (&*it.client, it.lane, recorded(it))).collect();
        let at = Duration::from_millis;
        assert_eq!(
            told,
            [
                ("crm", Lane::Interactive, &[(at(0), 1)][..]),
                ("crm", Lane::Bulk, &[(at(2_500), 0)][..]),
                ("trace", Lane::Interactive, &[(at(1_500), 0)][..]),
            ]
        );
        assert_eq!(length, at(2_500));
        let seconds = r#"{"at": 7, "user_id": "ada"}"#;
        let (sources, _) = read(seconds.as_bytes()).unwrap();
        assert_eq!(recorded(&sources[0]), [(at(7_000), 0)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |text: &str, expected: &str| {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("\n{\"at\": 1}", "line 2: missing field `user_id`");
        check("{\"at\": -1, \"user_id\": \"a\"}", "line 1: -1 seconds is no time");
        check("{\"at\": \"noon\", \"user_id\": \"a\"}", "line 1:");
        let both = "{\"at\": 1, \"user_id\": \"a\"}\n{\"at\": \"2026-11-24T08:00:00Z\", \"user_id\": \"a\"}";
        check(both, "line 2: \"at\" is in seconds on some lines");
        check("\n", "no update");
    }
}
