//! `check-key`: asks Userpilot whether the API keys work, by a question that changes nothing.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    configuration,
    output::{self, Output, OutputArgs},
};
use crate::{
    domain::verdict::{Failure, FailureKind, Jobs},
    gateway::settings,
    upstream::{HttpUpstream, Upstream as _},
};

/// Ask Userpilot whether the API keys work.
///
/// It asks for the list of jobs, which changes nothing. Exit codes: 0 if every key that was asked
/// about is accepted, 3 if one is refused, 4 if none is refused but one could not be asked about,
/// 1 if the configuration cannot be read.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; without it, gateway.toml if there is one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The app whose key it is; without it, every app's.
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is known of a key, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Accepted,
    NotAsked,
    Refused,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::NotAsked => "NOT_ASKED",
            Self::Refused => "REFUSED",
        }
    }

    fn words(self, cause: &str) -> String {
        match self {
            Self::Accepted => "the key is accepted".to_owned(),
            Self::NotAsked => format!("Userpilot could not be asked: {cause}"),
            Self::Refused => format!("the key is refused: {cause}"),
        }
    }
}

/// Says a line for each app.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (config, _) = configuration::load(args.config.as_deref())?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let asked = |name: &str| args.app.as_deref().is_none_or(|app| app == name);
    let mut worst = None;
    for app in config.apps.iter().filter(|app| asked(&app.name)) {
        let upstream = HttpUpstream::new(settings::upstream(app));
        let upstream = upstream.with_context(|| format!("app {}", app.name))?;
        let (verdict, cause) = verdict(upstream.jobs().await);
        worst = worst.max(Some(verdict));
        match args.output.output {
            Output::Table => {
                let words = output::printable(&verdict.words(&cause));
                writeln!(io::stdout(), "{}: {words} ({})", app.name, app.base_url)?;
            }
            Output::Json => output::print_document(&json!({
                "app": app.name,
                "base_url": app.base_url.as_str(),
                "key": verdict.name(),
                "cause": cause,
            }))?,
        }
    }
    match worst {
        Some(Verdict::Accepted) => Ok(ExitCode::SUCCESS),
        Some(Verdict::Refused) => Ok(ExitCode::from(3)),
        Some(Verdict::NotAsked) => Ok(ExitCode::from(4)),
        None => bail!("no app is called {:?}", args.app.unwrap_or_default()),
    }
}

/// What an answer to the question says of the key, and the cause where it is not accepted.
fn verdict(jobs: Jobs) -> (Verdict, String) {
    let Err(Failure { kind, cause, .. }) = jobs else {
        return (Verdict::Accepted, String::new());
    };
    match kind {
        FailureKind::KeyRejected => (Verdict::Refused, cause),
        FailureKind::NotSent
        | FailureKind::Unknown
        | FailureKind::Throttled(_)
        | FailureKind::SlotTaken
        | FailureKind::TooLarge
        | FailureKind::BadRows
        | FailureKind::NotFound
        | FailureKind::Refused => (Verdict::NotAsked, cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_key_counts_as_one() {
        let check = |kind, expected| {
            let (cause, detail) = ("503".to_owned(), "hush".to_owned());
            let (verdict, cause) = verdict(Err(Failure { kind, cause, detail, request_id: None }));
            let words = verdict.words(&cause);
            assert_eq!(verdict, expected, "{words}");
            assert!(!words.contains("hush"), "{words}");
        };
        check(FailureKind::KeyRejected, Verdict::Refused);
        check(FailureKind::NotSent, Verdict::NotAsked);
        check(FailureKind::Unknown, Verdict::NotAsked);
        check(FailureKind::Throttled(None), Verdict::NotAsked);
        check(FailureKind::NotFound, Verdict::NotAsked);
        assert_eq!(verdict(Ok(Vec::new())).0, Verdict::Accepted);
    }

    #[test]
    fn the_worst_key_decides() {
        assert!(Verdict::Refused > Verdict::NotAsked && Verdict::NotAsked > Verdict::Accepted);
    }
}
