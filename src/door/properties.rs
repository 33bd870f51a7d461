//! Each app's rules for properties at work: they are applied here, for whatever door, and what
//! they do is counted and told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;

use crate::domain::{
    property::{Mismatch, PropertyRules, SeenNames, Treatment},
    update::{AppId, SubjectKind, Value},
};

/// So many names are told of in the log, each once; what happens is counted all the same.
const TOLD_MAX: usize = 1_024;

/// Something of each property, by its name.
type Named<T> = Vec<(String, T)>;

/// The rules of all apps.
#[derive(Clone, Debug, Default)]
pub struct Properties(Arc<BTreeMap<AppId, AppProperties>>);

/// One app's rules, and what they did.
#[derive(Debug)]
pub struct AppProperties {
    /// The app's name.
    pub app: String,
    rules: ArcSwap<PropertyRules>,
    users: RwLock<SeenNames>,
    companies: RwLock<SeenNames>,
    told: Mutex<BTreeSet<(String, &'static str)>>,
    mismatched: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    hashed: AtomicU64,
    similar: AtomicU64,
}

impl FromIterator<(AppId, AppProperties)> for Properties {
    fn from_iter<I: IntoIterator<Item = (AppId, AppProperties)>>(apps: I) -> Self {
        Self(Arc::new(apps.into_iter().collect()))
    }
}

impl Properties {
    /// Applies the app's rules to the properties of an update. Returns those that go on, and
    /// those that it is to be refused for.
    pub(super) fn apply(
        &self,
        app: AppId,
        kind: SubjectKind,
        properties: Named<Value>,
    ) -> (Named<Value>, Named<Mismatch>) {
        match self.0.get(&app) {
            Some(app) => app.apply(kind, properties),
            None => (properties, Vec::new()),
        }
    }

    /// Whether the app has any rules.
    pub(super) fn bind(&self, app: AppId) -> bool {
        self.0.get(&app).is_some_and(|app| !app.rules.load().is_empty())
    }

    /// Each app's.
    pub fn apps(&self) -> impl Iterator<Item = &AppProperties> {
        self.0.values()
    }
}

impl AppProperties {
    /// Those of the app of this name.
    pub fn new(app: String, rules: PropertyRules) -> Self {
        Self {
            app,
            rules: ArcSwap::from_pointee(rules),
            users: RwLock::default(),
            companies: RwLock::default(),
            told: Mutex::default(),
            mismatched: Mutex::default(),
            hashed: AtomicU64::new(0),
            similar: AtomicU64::new(0),
        }
    }

    /// Applies other rules from the next update on. What was counted stays.
    pub fn replace(&self, rules: PropertyRules) {
        self.rules.store(Arc::new(rules));
    }

    /// How many properties did not fit, by the reason and by what was done with them.
    pub fn mismatched(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        locked(&self.mismatched).clone()
    }

    /// How many values were hashed.
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Relaxed)
    }

    /// How many names differ from another only by case or spaces.
    pub fn similar(&self) -> u64 {
        self.similar.load(Relaxed)
    }

    fn apply(
        &self,
        kind: SubjectKind,
        properties: Named<Value>,
    ) -> (Named<Value>, Named<Mismatch>) {
        let applied = self.rules.load().apply(properties);
        let mut rejected = Vec::new();
        for (name, treatment) in applied.treated {
            match treatment {
                Treatment::Rejected(mismatch) => {
                    self.count(mismatch, "rejected");
                    rejected.push((name, mismatch));
                }
                Treatment::Dropped(mismatch) => {
                    self.count(mismatch, "dropped");
                    self.tell(&name, mismatch, "a property is left out of updates");
                }
                Treatment::Kept(mismatch) => {
                    self.count(mismatch, "kept");
                    self.tell(&name, mismatch, "a property does not fit, and is kept");
                }
                Treatment::Hashed => {
                    self.hashed.fetch_add(1, Relaxed);
                }
            }
        }
        if rejected.is_empty() {
            self.see(kind, &applied.properties);
        }
        (applied.properties, rejected)
    }

    fn count(&self, mismatch: Mismatch, outcome: &'static str) {
        *locked(&self.mismatched).entry((mismatch.reason(), outcome)).or_default() += 1;
    }

    fn tell(&self, property: &str, mismatch: Mismatch, what: &'static str) {
        let mut told = locked(&self.told);
        if told.len() < TOLD_MAX && told.insert((property.to_owned(), mismatch.reason())) {
            let app = &*self.app;
            tracing::warn!(app, property, "{what}: it {mismatch}; this is said once");
        }
    }

    fn see(&self, kind: SubjectKind, properties: &[(String, Value)]) {
        let seen = match kind {
            SubjectKind::User => &self.users,
            SubjectKind::Company => &self.companies,
        };
        let is_new = |name: &str| !seen.read().unwrap_or_else(PoisonError::into_inner).knows(name);
        for (name, _) in properties.iter().filter(|(name, _)| is_new(name)) {
            let mut seen = seen.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = seen.meet(name) {
                self.similar.fetch_add(1, Relaxed);
                let app = &*self.app;
                tracing::warn!(
                    app,
                    property = name,
                    seen_before = first,
                    "two properties differ only by case or spaces: Userpilot keeps them apart"
                );
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::property::{HashKey, OnMismatch, PropertyKind, PropertyType};

    fn sent(names: &[&str]) -> Vec<(String, Value)> {
        names.iter().map(|name| ((*name).to_owned(), Value::Bool(true))).collect()
    }

    #[test]
    fn what_the_rules_do_is_counted_by_reason_and_outcome() {
        let deny = ["ssn"].into_iter().collect();
        let rules = PropertyRules { deny, on_mismatch: OnMismatch::Drop, ..Default::default() };
        let app = AppProperties::new("a".into(), rules);
        for _ in 0..3 {
            let (kept, rejected) = app.apply(SubjectKind::User, sent(&["plan", "ssn"]));
            assert_eq!((kept, rejected), (sent(&["plan"]), vec![]));
        }
        assert_eq!(app.mismatched(), BTreeMap::from([(("denied", "dropped"), 3)]));
        assert_eq!(locked(&app.told).len(), 1);
    }

    #[test]
    fn other_rules_hold_from_the_next_update_on() {
        let app = AppProperties::new("a".into(), PropertyRules::default());
        assert_eq!(app.apply(SubjectKind::User, sent(&["ssn"])).1, vec![]);
        let deny = ["ssn"].into_iter().collect();
        app.replace(PropertyRules { deny, ..Default::default() });
        let (kept, rejected) = app.apply(SubjectKind::User, sent(&["plan", "ssn"]));
        assert_eq!((kept, rejected), (sent(&["plan"]), vec![("ssn".into(), Mismatch::Denied)]));
        assert_eq!(app.mismatched(), BTreeMap::from([(("denied", "rejected"), 1)]));
    }

    #[test]
    fn what_is_told_of_a_property_is_told_once_and_of_so_many_alone() {
        let types = [("plan", PropertyKind::Number)].into_iter();
        let types =
            types.map(|(name, kind)| (name, PropertyType { kind, format: None, max_length: None }));
        let rules = PropertyRules {
            types: types.collect(),
            on_mismatch: OnMismatch::Warn,
            ..Default::default()
        };
        let app = AppProperties::new("a".into(), rules);
        for length in 0..2 * TOLD_MAX {
            let spelt = format!("{}plan", " ".repeat(length));
            let (kept, rejected) = app.apply(SubjectKind::User, sent(&[&spelt]));
            assert_eq!((kept, rejected), (sent(&[&spelt]), vec![]));
        }
        let all = 2 * TOLD_MAX as u64;
        assert_eq!(app.mismatched(), BTreeMap::from([(("wrong_type", "kept"), all)]));
        assert_eq!(locked(&app.told).len(), TOLD_MAX);
    }

    #[test]
    fn values_that_are_hashed_are_counted_and_refused_names_are_not_remembered() {
        let rules = PropertyRules {
            hash: ["email"].into_iter().collect(),
            hash_key: Some(HashKey::new(b"key")),
            deny: ["ssn"].into_iter().collect(),
            ..Default::default()
        };
        let app = AppProperties::new("a".into(), rules);
        app.apply(SubjectKind::User, sent(&["EMAIL", "plan", "ssn"]));
        assert_eq!((app.hashed(), app.similar()), (1, 0));
        // The update before was refused: its names count for nothing.
        app.apply(SubjectKind::User, sent(&["email", "Plan"]));
        assert_eq!((app.hashed(), app.similar()), (2, 0));
    }

    #[test]
    fn names_of_users_and_of_companies_are_not_mistaken_for_each_other() {
        let app = AppProperties::new("a".into(), PropertyRules::default());
        app.apply(SubjectKind::User, sent(&["plan"]));
        app.apply(SubjectKind::Company, sent(&["Plan"]));
        assert_eq!(app.similar(), 0);
        app.apply(SubjectKind::User, sent(&["Plan", "PLAN", "plan"]));
        app.apply(SubjectKind::User, sent(&["Plan", "PLAN", "plan"]));
        assert_eq!(app.similar(), 2);
    }
}
