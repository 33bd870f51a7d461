//! Names that are the same to a person: without regard to case and white space.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Names, and those that are like them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldedNames(BTreeSet<String>);

/// Something of each property that is named, or of one that is named alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded<T>(BTreeMap<String, T>);

impl FoldedNames {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a name is among them, by what [`fold`] makes of it.
    pub fn hold(&self, folded: &str) -> bool {
        self.0.contains(folded)
    }
}

impl<T> Folded<T> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What there is of a name, by what [`fold`] makes of it.
    pub fn get(&self, folded: &str) -> Option<&T> {
        self.0.get(folded)
    }
}

impl<T> Default for Folded<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S: AsRef<str>> FromIterator<S> for FoldedNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(|name| fold(name.as_ref()).into_owned()).collect())
    }
}

impl<S: AsRef<str>, T> FromIterator<(S, T)> for Folded<T> {
    fn from_iter<I: IntoIterator<Item = (S, T)>>(named: I) -> Self {
        let fold = |(name, of): (S, T)| (fold(name.as_ref()).into_owned(), of);
        Self(named.into_iter().map(fold).collect())
    }
}

/// A name without regard to case and white space. By way of capitals, since of some letters there
/// are several small ones.
pub fn fold(name: &str) -> Cow<'_, str> {
    // Most names are so already.
    if name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let letters = name.chars().filter(|char| !char.is_whitespace());
    Cow::Owned(letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_none_or_some() {
        assert!(Folded::<u8>::default().is_empty());
        assert!(FoldedNames::from_iter([""; 0]).is_empty());
        let one = Folded::from_iter([("Plan ", 1)]);
        assert!(!one.is_empty() && !FoldedNames::from_iter(["Plan"]).is_empty());
        assert_eq!((one.get("plan"), one.get("seats")), (Some(&1), None));
    }
}
