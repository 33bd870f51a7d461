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
            match (&mut value.kind, name.as_str()) {
                (ValueKind::Array(apps), "apps") => {
                    for (index, app) in apps.iter_mut().enumerate() {
                        self.prune_section(section, &format!("apps[{index}]"), app, problems);
                    }
                    true
                }
                (_, "apps") => {
                    let message = "expected [[apps]], a list of tables".to_owned();
                    problems.push(problem(name.clone(), message, value));
                    false
                }
                (_, _) => self.prune_section(section, name, value, problems),
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
        let below = self.section(&format!("{}.{APP_PROPERTIES}", section.name));
        table.retain(|name, value| {
            if let Some(below) = below.filter(|_| name == APP_PROPERTIES) {
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
    /// `store.path` or `apps[0].linger_ms`; or which variable was meant.
    pub(super) fn path(&self, segments: &[String], apps: usize) -> Result<String, String> {
        match segments {
            [section, key] if section != "apps" && self.has(section, key) => {
                Ok(format!("{section}.{key}"))
            }
            [section, index, key] if section == "apps" => match index.parse::<usize>() {
                Ok(index) if index >= apps => {
                    Err(format!("there is no app {index}: the last one is {}", apps - 1))
                }
                Ok(index) if self.has("apps", key) => Ok(format!("apps[{index}].{key}")),
                Ok(_) | Err(_) => Err(self.unknown_variable(segments)),
            },
            _ => Err(self.unknown_variable(segments)),
        }
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    fn has(&self, section: &str, key: &str) -> bool {
        self.section(section).is_some_and(|section| section.keys.iter().any(|it| it.name == key))
    }

    fn unknown_section(&self, name: &str) -> String {
        let home =
            self.sections.iter().find(|section| section.keys.iter().any(|key| key.name == name));
        match home {
            Some(home) => format!("unknown table; did you mean {}?", home.path_of(name)),
            None => {
                let names = self.sections.iter().map(|section| section.name.clone());
                format!("unknown table; did you mean {}?", nearest(name, names))
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
                format!("unknown key; did you mean {}?", nearest(name, names))
            }
        }
    }

    fn unknown_variable(&self, segments: &[String]) -> String {
        let index = segments.get(1).filter(|text| text.parse::<usize>().is_ok());
        let index = index.map_or("0", String::as_str);
        let tables = self.sections.iter().filter(|section| !section.name.contains('.'));
        let variables = tables.flat_map(|section| {
            let prefix = match section.name.as_str() {
                "apps" => format!("apps__{index}"),
                name => name.to_owned(),
            };
            section.keys.iter().map(move |key| format!("{prefix}__{}", key.name))
        });
        let meant = nearest(&segments.join("__"), variables).to_ascii_uppercase();
        format!("unknown key; did you mean {}{meant}?", super::layers::PREFIX)
    }
}

impl Section {
    fn path_of(&self, key: &str) -> String {
        match self.name.as_str() {
            "apps" => format!("[[apps]] {key}"),
            name if name.contains('.') => format!("[{name}] {key}"),
            name => format!("{name}.{key}"),
        }
    }
}

fn problem(key: String, message: String, value: &Value) -> Problem {
    Problem { key, message, origin: value.origin().map(str::to_owned) }
}

/// The candidate that takes the fewest keystrokes to get to.
fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> String {
    let distance = |candidate: &String| strsim::damerau_levenshtein(name, candidate);
    candidates.min_by_key(distance).expect("default.toml is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(segments: &[&str]) -> Result<String, String> {
        let segments: Vec<String> = segments.iter().map(|&segment| segment.to_owned()).collect();
        Known::new().path(&segments, 2)
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
    }

    #[test]
    fn a_variable_cannot_add_an_app() {
        assert_eq!(
            meant(&["apps", "2", "linger_ms"]),
            Err("there is no app 2: the last one is 1".to_owned())
        );
    }
}
