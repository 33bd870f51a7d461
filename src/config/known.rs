//! Which keys there are, and which one was meant by a key that is not.

use config::{Map, Value, ValueKind};

use super::{
    problem::Problem,
    reference::{self, Section},
};

/// The table that an app may have of its own: `[apps.properties]`.
pub(super) const APP_PROPERTIES: &str = "properties";

/// The tables and keys that `default.toml` names.
pub(super) struct Known {
    sections: Vec<Section>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { sections: reference::sections() }
    }

    /// Takes out of `table`, a whole configuration, what is not known or not in its right shape,
    /// so that what is left can be merged without a second look.
    pub(super) fn prune(&self, table: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
        table.retain(|name, value| {
            let Some(section) = self.section(name).filter(|_| !name.contains('.')) else {
                problems.push(problem(name.clone(), self.unknown_section(name), value));
                return false;
            };
            match (&mut value.kind, section.is_list) {
                (ValueKind::Array(tables), true) => {
                    for (index, table) in tables.iter_mut().enumerate() {
                        self.prune_section(section, &format!("{name}[{index}]"), table, problems);
                    }
                    true
                }
                (_, true) => {
                    let message = format!("expected [[{name}]], a list of tables");
                    problems.push(problem(name.clone(), message, value));
                    false
                }
                (_, false) => self.prune_section(section, name, value, problems),
            }
        });
    }

    fn prune_section(
        &self,
        section: &Section,
        path: &str,
        value: &mut Value,
        problems: &mut Vec<Problem>,
    ) -> bool {
        let ValueKind::Table(table) = &mut value.kind else {
            problems.push(problem(path.to_owned(), "expected a table".to_owned(), value));
            value.kind = ValueKind::Table(Map::new());
            return true;
        };
        table.retain(|name, value| {
            if let Some(below) = self.section(&format!("{}.{name}", section.name)) {
                return self.prune_section(below, &format!("{path}.{name}"), value, problems);
            }
            let known = section.keys.iter().any(|key| key.name == *name);
            if !known {
                let message = self.unknown_key(section, name);
                problems.push(problem(format!("{path}.{name}"), message, value));
            }
            known
        });
        true
    }

    /// The path in a configuration that an environment variable's segments name, such as
    /// `store.path` or `apps[0].linger_ms`; or which variable was meant. `count` tells how many
    /// tables a list has.
    pub(super) fn path(
        &self,
        segments: &[String],
        count: impl Fn(&str) -> usize,
    ) -> Result<String, String> {
        match segments {
            [name, key] if self.has(name, key, false) => Ok(format!("{name}.{key}")),
            [name, below, key]
                if self.section(name).is_some_and(|section| !section.is_list)
                    && self.has(&format!("{name}.{below}"), key, false) =>
            {
                Ok(format!("{name}.{below}.{key}"))
            }
            [name, index, key] => match (index.parse::<usize>(), self.section(name)) {
                (Ok(index), Some(section)) if section.is_list && index >= count(name) => {
                    let one = name.trim_end_matches('s');
                    Err(match count(name) {
                        0 => format!("there is no {one} {index}: the file has no [[{name}]]"),
                        count => {
                            format!("there is no {one} {index}: the last one is {}", count - 1)
                        }
                    })
                }
                (Ok(index), _) if self.has(name, key, true) => Ok(format!("{name}[{index}].{key}")),
                (Ok(_) | Err(_), _) => Err(self.unknown_variable(segments)),
            },
            _ => Err(self.unknown_variable(segments)),
        }
    }

    /// The lists of tables.
    pub(super) fn lists(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter(|section| section.is_list).map(|section| &*section.name)
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    fn has(&self, section: &str, key: &str, in_list: bool) -> bool {
        self.section(section).is_some_and(|section| {
            section.is_list == in_list && section.keys.iter().any(|it| it.name == key)
        })
    }

    fn unknown_section(&self, name: &str) -> String {
        let home =
            self.sections.iter().find(|section| section.keys.iter().any(|key| key.name == name));
        match home {
            Some(home) => format!("unknown table; did you mean {}?", home.path_of(name)),
            None => {
                let names = self.sections.iter().map(|section| section.name.clone());
                unknown("table", nearest(name, names))
            }
        }
    }

    fn unknown_key(&self, section: &Section, name: &str) -> String {
        let home =
            self.sections.iter().find(|section| section.keys.iter().any(|key| key.name == name));
        match home {
            Some(home) => format!("unknown key; did you mean {}?", home.path_of(name)),
            None => {
                let names = section.keys.iter().map(|key| key.name.clone());
                unknown("key", nearest(name, names))
            }
        }
    }

    fn unknown_variable(&self, segments: &[String]) -> String {
        let index = segments.get(1).filter(|text| text.parse::<usize>().is_ok());
        let index = index.map_or("0", String::as_str);
        // No variable sets what is below an app.
        let below_an_app = format!("apps.{APP_PROPERTIES}");
        let tables = self.sections.iter().filter(|section| section.name != below_an_app);
        let variables = tables.flat_map(|section| {
            let prefix = match section.is_list {
                true => format!("{}__{index}", section.name),
                false => section.name.replace('.', "__"),
            };
            section.keys.iter().map(move |key| format!("{prefix}__{}", key.name))
        });
        let meant = nearest(&segments.join("__"), variables);
        // That the table is right makes no key of it more likely.
        let given: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
        let given = given.strip_prefix(&[index]).unwrap_or(&given).join("__");
        let last = segments.last().map_or("", String::as_str);
        let is_meant = |variable: &String| {
            let parts: Vec<&str> = variable.split("__").collect();
            let is_like_it = |key: &&str| {
                is_like(&given, key) || parts.len() == segments.len() && is_like(last, key)
            };
            parts.last().is_some_and(is_like_it)
        };
        let variable = |name: String| super::layers::PREFIX.to_owned() + &name.to_ascii_uppercase();
        unknown("key", meant.filter(is_meant).map(variable))
    }
}

impl Section {
    fn path_of(&self, key: &str) -> String {
        match self.is_list {
            true => format!("[[{}]] {key}", self.name),
            false if self.name.contains('.') => format!("[{}] {key}", self.name),
            false => format!("{}.{key}", self.name),
        }
    }
}

fn problem(key: String, message: String, value: &Value) -> Problem {
    Problem { key, message, origin: value.origin().map(str::to_owned) }
}

/// What is said of a table or a key that is not known.
fn unknown(what: &str, meant: Option<String>) -> String {
    match meant {
        Some(meant) => format!("unknown {what}; did you mean {meant}?"),
        None => format!(
            "unknown {what}, and none is like it; `userpilot-gateway print-default-config` shows all"
        ),
    }
}

/// The candidate that takes the fewest keystrokes to get to, if it is like the name at all.
fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let distance = |candidate: &String| strsim::damerau_levenshtein(name, candidate);
    candidates.min_by_key(distance).filter(|candidate| is_like(name, candidate))
}

/// Whether somebody who wrote `name` can have meant `candidate`: one is a part of the other, or at
/// least half of it is the same.
fn is_like(name: &str, candidate: &str) -> bool {
    const LIKENESS_MIN: f64 = 0.5;
    name.contains(candidate)
        || candidate.contains(name)
        || strsim::normalized_damerau_levenshtein(name, candidate) >= LIKENESS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(segments: &[&str]) -> Result<String, String> {
        let segments: Vec<String> = segments.iter().map(|&segment| segment.to_owned()).collect();
        Known::new().path(&segments, |list| if list == "apps" { 2 } else { 0 })
    }

    #[test]
    fn a_variable_names_a_key() {
        assert_eq!(meant(&["store", "path"]), Ok("store.path".to_owned()));
        assert_eq!(meant(&["apps", "1", "linger_ms"]), Ok("apps[1].linger_ms".to_owned()));
        assert_eq!(meant(&["apps", "0", "api_key_file"]), Ok("apps[0].api_key_file".to_owned()));
    }

    #[test]
    fn an_unknown_variable_names_the_nearest() {
        let check = |segments: &[&str], nearest: &str| {
            let message = meant(segments).unwrap_err();
            assert_eq!(message, format!("unknown key; did you mean USERPILOT_GATEWAY__{nearest}?"));
        };
        check(&["store", "pth"], "STORE__PATH");
        check(&["stroe", "path"], "STORE__PATH");
        check(&["store"], "STORE__PATH");
        check(&["apps", "1", "linger"], "APPS__1__LINGER_MS");
        check(&["apps", "x", "linger_ms"], "APPS__0__LINGER_MS");
        check(&["apps", "-1", "linger_ms"], "APPS__0__LINGER_MS");
        check(&["apps", "linger_ms"], "APPS__0__LINGER_MS");
        check(&["server", "grpc", "listen"], "SERVER__GRPC_LISTEN");
        check(&["store", "postgres", "host"], "STORE__POSTGRES__HOSTS");
        let none = "unknown key, and none is like it; \
                    `userpilot-gateway print-default-config` shows all";
        assert_eq!(meant(&["store", "directory"]), Err(none.to_owned()));
        assert_eq!(meant(&["xyz"]), Err(none.to_owned()));
    }

    #[test]
    fn a_variable_cannot_add_an_app() {
        assert_eq!(
            meant(&["apps", "2", "linger_ms"]),
            Err("there is no app 2: the last one is 1".to_owned())
        );
        assert_eq!(
            meant(&["clients", "0", "lane"]),
            Err("there is no client 0: the file has no [[clients]]".to_owned())
        );
    }
}
