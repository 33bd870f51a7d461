//! What the columns of a CSV file mean, and the cells in them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use serde_json::{Number, Value};

use crate::{
    cli::{
        ended::Exit,
        updates::{Defaults, Update, lane, to_struct},
    },
    proto,
};

/// A double holds every whole number up to here; a longer one is the name of something.
const EXACT_MAX: u64 = 9_007_199_254_740_992;

/// What the command line says about the columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The rows are companies.
    pub(super) companies: bool,
    /// What columns are.
    pub(super) types: BTreeMap<String, Kind>,
    /// What stands for null.
    pub(super) null: Option<String>,
}

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// What they look like.
    #[default]
    Auto,
    /// Text.
    String,
    /// Numbers.
    Number,
    /// true or false.
    Boolean,
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    user: Option<usize>,
    company: Option<usize>,
    occurred_at: Option<usize>,
    lane: Option<usize>,
    /// Where each property stands, its name and what its cells are.
    properties: Vec<(usize, String, Kind)>,
    null: Option<String>,
}

/// NAME=TYPE of an argument.
pub(super) fn named_kind(text: &str) -> Result<(String, Kind), String> {
    let (name, kind) = text.rsplit_once('=').ok_or("expected NAME=TYPE")?;
    let kind = <Kind as clap::ValueEnum>::from_str(kind, true)
        .map_err(|_| format!("{kind:?} is none of string, number, boolean and auto"))?;
    Ok((name.to_owned(), kind))
}

impl Columns {
    /// What a header says.
    pub(super) fn of<'a>(
        header: impl Iterator<Item = &'a str>,
        wanted: Wanted,
    ) -> anyhow::Result<Self> {
        let Wanted { companies, mut types, null } = wanted;
        let (mut columns, mut seen) = (Self::without(null), BTreeSet::new());
        for (place, name) in header.map(str::trim).enumerate() {
            if name.is_empty() || !seen.insert(name) {
                let which = if name.is_empty() { "has no name" } else { "has another's name" };
                return Err(usage(format!("column {} of the header {which}", place + 1)));
            }
            match name {
                "user_id" => columns.user = Some(place),
                "company_id" => columns.company = Some(place),
                // With a type it is a property that happens to be called so.
                "occurred_at" if !types.contains_key(name) => columns.occurred_at = Some(place),
                "lane" if !types.contains_key(name) => columns.lane = Some(place),
                _ => {
                    let kind = types.remove(name).unwrap_or_default();
                    columns.properties.push((place, name.to_owned(), kind));
                }
            }
        }
        let names = seen.into_iter().collect::<Vec<_>>().join(", ");
        if let Some((unknown, _)) = types.first_key_value() {
            return Err(usage(format!("--types: no property is called {unknown:?}, but {names}")));
        }
        match (companies, columns.user, columns.company) {
            (false, None, _) => Err(usage(format!(
                "the header has no user_id, but {names}; rows of companies need --companies"
            ))),
            (true, Some(_), _) => {
                Err(usage("the header has a user_id: its rows are users, without --companies"))
            }
            (true, None, None) => Err(usage(format!("the header has no company_id, but {names}"))),
            (true, None, Some(_)) | (false, Some(_), _) => Ok(columns),
        }
    }

    fn without(null: Option<String>) -> Self {
        let properties = Vec::new();
        Self { user: None, company: None, occurred_at: None, lane: None, properties, null }
    }

    /// The update of a row.
    pub(super) fn update<'a>(
        &self,
        cell: impl Fn(usize) -> &'a str,
        defaults: &Defaults,
    ) -> anyhow::Result<Update> {
        let mut values = BTreeMap::new();
        for (place, name, kind) in &self.properties {
            let value = value(cell(*place), *kind, self.null.as_deref());
            let value = value.map_err(|error| anyhow!("column {name:?}: {error}"))?;
            values.extend(value.map(|value| (name.clone(), value)));
        }
        let is_empty = |cell: &str| cell.is_empty() || Some(cell) == self.null.as_deref();
        // A user without a company; a company without an id is refused by the gateway.
        let company = self.company.map(&cell).filter(|id| self.user.is_none() || !is_empty(id));
        let said = |place: Option<usize>| place.map(&cell).filter(|cell| !is_empty(cell));
        let occurred_at = said(self.occurred_at).map(time).transpose()?;
        let lane = match said(self.lane) {
            Some(name) => lane(name).map_err(|error| anyhow!("column \"lane\": {error}"))?,
            None => defaults.lane,
        };
        Ok(Update {
            app: defaults.app.clone(),
            user_id: self.user.map(|place| cell(place).to_owned()),
            company_id: company.map(str::to_owned),
            metadata: Some(to_struct(values)),
            occurred_at,
            lane: lane.into(),
        })
    }
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Exit::Usage.error(message)
}

/// A moment as RFC 3339 writes it.
fn time(cell: &str) -> anyhow::Result<prost_types::Timestamp> {
    let at: Result<jiff::Timestamp, _> = cell.trim().parse();
    let at = at.map_err(|_| {
        anyhow!(
            "column \"occurred_at\": is no time such as 2026-01-31T12:00:00Z; as a property, say \
                 --types occurred_at=string"
        )
    })?;
    Ok(proto::timestamp(at.as_microsecond()))
}

/// What a cell holds; `None` where it is left out.
fn value(cell: &str, kind: Kind, null: Option<&str>) -> anyhow::Result<Option<Value>> {
    if Some(cell) == null {
        return Ok(Some(Value::Null));
    }
    if cell.is_empty() {
        return Ok(None);
    }
    Ok(Some(match kind {
        Kind::String => cell.into(),
        Kind::Auto => plain_boolean(cell)
            .map(Value::from)
            .or_else(|| plain_number(cell))
            .unwrap_or_else(|| cell.into()),
        Kind::Boolean => match cell.trim() {
            "1" => true.into(),
            "0" => false.into(),
            text => match plain_boolean(text) {
                Some(value) => value.into(),
                None => bail!("is neither true nor false"),
            },
        },
        Kind::Number => {
            let number = cell.trim().parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| anyhow!("is no number"))?)
        }
    }))
}

/// As spreadsheets write them, too.
fn plain_boolean(cell: &str) -> Option<bool> {
    match cell {
        "true" | "TRUE" | "True" => Some(true),
        "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A number that reads the same when it is written again, or nearly: no +49, 0815 or 12e4.
fn plain_number(cell: &str) -> Option<Value> {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let is_plain = all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(all_digits)
        && whole.parse::<u64>().is_ok_and(|whole| whole <= EXACT_MAX);
    is_plain.then(|| serde_json::from_str(cell).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::Lane;

    fn check(cell: &str, kind: Kind, expected: Option<Value>) {
        assert_eq!(value(cell, kind, Some("\\N")).unwrap(), expected, "{cell:?}");
    }

    #[test]
    fn a_cell_is_what_it_looks_like() {
        for (cell, expected) in [
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("0", json!(0)),
            ("-3.50", json!(-3.5)),
            ("9007199254740992", json!(9_007_199_254_740_992_u64)),
            ("9007199254740993", json!("9007199254740993")),
            ("0815", json!("0815")),
            ("+49", json!("+49")),
            ("12e4", json!("12e4")),
            ("1.", json!("1.")),
            (".5", json!(".5")),
            ("-", json!("-")),
            ("1,5", json!("1,5")),
            (" 1", json!(" 1")),
            ("NaN", json!("NaN")),
            ("yes", json!("yes")),
            ("\\N", json!(null)),
        ] {
            check(cell, Kind::Auto, Some(expected));
        }
        check("", Kind::Auto, None);
    }

    #[test]
    fn a_cell_is_what_it_is_said_to_be() {
        check("7", Kind::String, Some(json!("7")));
        check("1e3", Kind::Number, Some(json!(1000.0)));
        check(" 2 ", Kind::Number, Some(json!(2.0)));
        check("1", Kind::Boolean, Some(json!(true)));
        check("False", Kind::Boolean, Some(json!(false)));
        check("\\N", Kind::Number, Some(json!(null)));
        check("", Kind::String, None);
        for (cell, kind) in [("inf", Kind::Number), ("x", Kind::Number), ("ja", Kind::Boolean)] {
            assert!(value(cell, kind, None).is_err(), "{cell}");
        }
    }

    fn columns(header: &[&str], companies: bool, types: &[&str]) -> anyhow::Result<Columns> {
        let types = types.iter().map(|text| named_kind(text).unwrap()).collect();
        Columns::of(header.iter().copied(), Wanted { companies, types, null: Some("-".into()) })
    }

    #[test]
    fn a_row_is_an_update_of_a_user_or_of_a_company() {
        let of_users = columns(&["plan", "user_id", "company_id"], false, &[]).unwrap();
        for (row, company) in [(["pro", "7", "acme"], Some("acme")), (["pro", "7", "-"], None)] {
            let update = of_users.update(|place| row[place], &Defaults::default()).unwrap();
            assert_eq!(update.user_id.as_deref(), Some("7"));
            assert_eq!(update.company_id.as_deref(), company);
            assert!(update.metadata.unwrap().fields.contains_key("plan"));
        }
        let of_companies = columns(&["company_id", "seats"], true, &["seats=string"]).unwrap();
        let update = of_companies.update(|place| ["acme", "3"][place], &Defaults::default());
        let update = update.unwrap();
        assert_eq!((update.user_id, update.company_id.as_deref()), (None, Some("acme")));
    }

    #[test]
    fn when_it_occurred_and_its_lane_are_no_properties_unless_they_are_said_to_be() {
        let header = ["user_id", "occurred_at", "lane", "plan"];
        let rows = columns(&header, false, &[]).unwrap();
        let defaults = Defaults { lane: Lane::Bulk, ..Defaults::default() };
        let update = |row: [&'static str; 4]| rows.update(|place| row[place], &defaults);
        let told = update(["7", "2026-01-01T00:00:00.5Z", "express", "pro"]).unwrap();
        let at = told.occurred_at.unwrap();
        assert_eq!((at.seconds, at.nanos), (1_767_225_600, 500_000_000));
        assert_eq!(told.lane, i32::from(Lane::Express));
        assert_eq!(told.metadata.unwrap().fields.into_keys().collect::<Vec<_>>(), ["plan"]);
        for empty in ["", "-"] {
            let told = update(["7", empty, empty, "pro"]).unwrap();
            assert_eq!((told.occurred_at, told.lane), (None, i32::from(Lane::Bulk)));
        }
        for (row, why) in [
            (["7", "yesterday", "", ""], "column \"occurred_at\": is no time"),
            (["7", "2026-01-01T00:00:00", "", ""], "column \"occurred_at\": is no time"),
            (["7", "", "fast", ""], "column \"lane\": a lane is express, interactive or bulk"),
        ] {
            let error = update(row).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let types = ["occurred_at=string", "lane=auto"];
        let rows = columns(&header, false, &types).unwrap();
        let row = ["7", "yesterday", "fast", ""];
        let told = rows.update(|place| row[place], &defaults).unwrap();
        assert_eq!((told.occurred_at, told.lane), (None, i32::from(Lane::Bulk)));
        let names: Vec<_> = told.metadata.unwrap().fields.into_keys().collect();
        assert_eq!(names, ["lane", "occurred_at"]);
    }

    #[test]
    fn a_header_that_is_none_says_why() {
        for (header, companies, types, why) in [
            (["id", "plan"], false, [].as_slice(), "no user_id, but id, plan"),
            (["user_id", "plan"], true, &[], "without --companies"),
            (["id", "plan"], true, &[], "no company_id"),
            (["user_id", "user_id"], false, &[], "column 2 of the header has another's name"),
            (["user_id", " "], false, &[], "column 2 of the header has no name"),
            (["user_id", "plan"], false, &["seats=number"], "called \"seats\""),
        ] {
            let error = columns(header.as_slice(), companies, types).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(Exit::of(&error), Exit::Usage);
        }
        assert!(named_kind("plan").is_err() && named_kind("plan=text").is_err());
        assert_eq!(named_kind("a=b=number").unwrap(), ("a=b".to_owned(), Kind::Number));
    }
}
