//! Names that are nearly the same: upstream keeps `Plan` and `plan ` apart, and a segment that
//! asks for one misses the other.

use std::collections::{HashMap, HashSet};

use super::fold;

/// Beyond these, names are no more remembered: a service that makes names up is not helped by
/// a warning.
const NAMES_MAX: usize = 4_096;
const NAME_BYTES_MAX: usize = 256;

/// The names that were seen so far, up to a limit.
#[derive(Debug, Default)]
pub struct SeenNames {
    exact: HashSet<String>,
    /// The first of those that fold to the same.
    first: HashMap<String, String>,
}

impl SeenNames {
    /// Whether there is nothing new about this name.
    pub fn knows(&self, name: &str) -> bool {
        self.exact.contains(name) || self.exact.len() >= NAMES_MAX || name.len() > NAME_BYTES_MAX
    }

    /// Remembers a name. Returns the first that differs from it only by case or spaces, if it
    /// is told now, which is once a name.
    pub fn meet(&mut self, name: &str) -> Option<&str> {
        if self.knows(name) {
            return None;
        }
        self.exact.insert(name.to_owned());
        let first = self.first.entry(fold(name).into_owned()).or_insert_with(|| name.to_owned());
        (*first != name).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_differs_by_case_or_spaces_is_told_of_once() {
        let mut seen = SeenNames::default();
        assert_eq!(seen.meet("plan"), None);
        assert_eq!(seen.meet("Plan"), Some("plan"));
        assert_eq!(seen.meet("Plan"), None);
        assert_eq!(seen.meet(" p l a n"), Some("plan"));
        assert_eq!(seen.meet("plan"), None);
        assert_eq!(seen.meet("plans"), None);
        assert_eq!(seen.meet("Ärger"), None);
        assert_eq!(seen.meet("ärger"), Some("Ärger"));
    }

    #[test]
    fn only_so_many_names_are_remembered() {
        let mut seen = SeenNames::default();
        assert_eq!(seen.meet(&"x".repeat(NAME_BYTES_MAX + 1)), None);
        for number in 0..2 * NAMES_MAX {
            seen.meet(&format!("name{number}"));
        }
        assert_eq!((seen.exact.len(), seen.first.len()), (NAMES_MAX, NAMES_MAX));
        assert_eq!(seen.meet("NAME7"), None);
    }
}
