//! What the account knows of users and companies: an upsert, property by property.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The properties of a user or a company.
pub type Properties = BTreeMap<String, Value>;

/// What the account knows of one user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The company the user belongs to, once one was named.
    pub company_id: Option<String>,
    /// The last value of every property that was ever sent; a null that was sent is a null.
    pub metadata: Properties,
}

/// Whom a row or a submission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subjects {
    /// Users, by `user_id`.
    Users,
    /// Companies, by `company_id`.
    Companies,
}

/// One row of a submission, or one identify request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The user's id, or the company's.
    pub(super) subject: String,
    /// The company a user belongs to.
    pub(super) company_id: Option<String>,
    pub(super) metadata: Properties,
}

#[derive(Default)]
pub(super) struct Profiles {
    pub(super) users: BTreeMap<String, Profile>,
    pub(super) companies: BTreeMap<String, Properties>,
}

impl Profiles {
    /// Properties that are sent replace, properties that are not sent stay.
    pub(super) fn upsert(&mut self, subjects: Subjects, row: Row) {
        match subjects {
            Subjects::Users => {
                let profile = self.users.entry(row.subject).or_default();
                profile.metadata.extend(row.metadata);
                if row.company_id.is_some() {
                    profile.company_id = row.company_id;
                }
            }
            Subjects::Companies => {
                self.companies.entry(row.subject).or_default().extend(row.metadata);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(company_id: Option<&str>, metadata: Value) -> Row {
        Row {
            subject: "ada".to_owned(),
            company_id: company_id.map(str::to_owned),
            metadata: serde_json::from_value(metadata).unwrap(),
        }
    }

    fn check(rows: [Row; 2], expected: Value) {
        let mut profiles = Profiles::default();
        for row in rows {
            profiles.upsert(Subjects::Users, row);
        }
        assert_eq!(serde_json::to_value(&profiles.users["ada"]).unwrap(), expected);
    }

    #[test]
    fn what_is_sent_replaces_and_what_is_not_sent_stays() {
        check(
            [row(None, json!({"plan": "free", "age": 3})), row(None, json!({"plan": "paid"}))],
            json!({"company_id": null, "metadata": {"plan": "paid", "age": 3}}),
        );
    }

    #[test]
    fn a_null_is_stored_as_a_null() {
        check(
            [row(None, json!({"plan": "free"})), row(None, json!({"plan": null}))],
            json!({"company_id": null, "metadata": {"plan": null}}),
        );
    }

    #[test]
    fn a_company_stays_until_another_is_given() {
        check(
            [row(Some("acme"), json!({})), row(None, json!({"age": 3}))],
            json!({"company_id": "acme", "metadata": {"age": 3}}),
        );
        check(
            [row(Some("acme"), json!({})), row(Some("initech"), json!({}))],
            json!({"company_id": "initech", "metadata": {}}),
        );
    }

    #[test]
    fn companies_and_users_of_one_id_are_apart() {
        let mut profiles = Profiles::default();
        profiles.upsert(Subjects::Companies, row(None, json!({"size": 3})));
        assert!(profiles.users.is_empty());
        assert_eq!(profiles.companies["ada"]["size"], 3);
    }
}
