//! Which dead letters a command is about.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::{
    cli::ended::Exit,
    proto::{
        AllDeadLetters, DeadLetterFilter, DeadLetterIds, DeadLetterReason, DeadLetterSelection,
        Subject, dead_letter_selection::Selection, subject,
    },
};

/// Some of them, by what they are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Filter {
    /// Those that died of this.
    #[arg(long, value_parser = reason())]
    reason: Option<DeadLetterReason>,
    /// Those of this user.
    #[arg(long, value_name = "USER_ID")]
    user: Option<String>,
    /// Those of this company.
    #[arg(long, value_name = "COMPANY_ID", conflicts_with = "user")]
    company: Option<String>,
}

/// Some of them, by their names or by what they are, or all.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Which {
    /// Their ids, as `list` shows them.
    #[arg(conflicts_with_all = ["all", "reason", "user", "company"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All of the app.
    #[arg(long, conflicts_with_all = ["reason", "user", "company"])]
    all: bool,
    /// Do not ask whether it is meant.
    #[arg(long)]
    yes: bool,
}

/// What the gateway takes in one request.
const IDS_MAX: usize = 1_000;
/// What a reason's name in the contract begins with.
pub(super) const REASON_PREFIX: &str = "DEAD_LETTER_REASON_";

fn reason() -> impl TypedValueParser<Value = DeadLetterReason> {
    PossibleValuesParser::new(["bad_row", "too_large", "job_failed", "not_taken"]).map(|name| {
        let name = format!("{REASON_PREFIX}{}", name.to_uppercase());
        DeadLetterReason::from_str_name(&name).unwrap_or_default()
    })
}

impl Filter {
    /// As it is sent.
    pub(super) fn message(&self) -> DeadLetterFilter {
        let user = self.user.clone().map(subject::Id::UserId);
        let id = user.or(self.company.clone().map(subject::Id::CompanyId));
        DeadLetterFilter {
            reason: self.reason.unwrap_or_default().into(),
            subject: id.map(|id| Subject { id: Some(id) }),
        }
    }

    fn is_empty(&self) -> bool {
        self.reason.is_none() && self.user.is_none() && self.company.is_none()
    }
}

impl Which {
    /// As they are sent, one after the other.
    pub(super) fn selections(&self) -> anyhow::Result<Vec<DeadLetterSelection>> {
        let of = |selection| DeadLetterSelection { selection: Some(selection) };
        Ok(if !self.ids.is_empty() {
            let ids = |ids: &[String]| of(Selection::Ids(DeadLetterIds { ids: ids.to_vec() }));
            self.ids.chunks(IDS_MAX).map(ids).collect()
        } else if self.all {
            vec![of(Selection::All(AllDeadLetters {}))]
        } else if !self.filter.is_empty() {
            vec![of(Selection::Filter(self.filter.message()))]
        } else {
            let which = "say which: ids, or --reason, --user or --company, or --all";
            return Err(Exit::Usage.error(which));
        })
    }

    /// Asks whether it is meant, unless that is clear.
    pub(super) fn confirm(&self, what: &str, app: &str) -> anyhow::Result<()> {
        self.selections()?;
        if self.yes || !self.ids.is_empty() {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Exit::Usage.error(format!(
                "this may {what} many dead letters, and nobody can be asked here: add --yes"
            )));
        }
        let of = if app.is_empty() { String::new() } else { format!(" of {app}") };
        write!(io::stderr(), "{what} {}{of}? [y/N] ", self.in_words())?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            bail!("nothing was done");
        }
        Ok(())
    }

    fn in_words(&self) -> String {
        let Filter { reason, user, company } = &self.filter;
        let mut words = "all dead letters".to_owned();
        if let Some(reason) = reason {
            let name = reason.as_str_name().trim_start_matches(REASON_PREFIX).to_lowercase();
            words += &format!(" that died of {name}");
        }
        if let Some(id) = user {
            words += &format!(" of user {id:?}");
        }
        if let Some(id) = company {
            words += &format!(" of company {id:?}");
        }
        words
    }

    /// Fails where some of the ids that were given were not there.
    pub(super) fn all_there(&self, not_there: u64) -> anyhow::Result<()> {
        if not_there > 0 && !self.ids.is_empty() {
            return Err(Exit::Partly.error(format!(
                "{not_there} of these ids are not there, or closed: see \
                 `userpilot-gateway dead-letters list --include-closed`"
            )));
        }
        Ok(())
    }
}
