//! `check-key`: asks Userpilot whether the API keys work, by a question that changes nothing.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};

use crate::{
    config::{self, Config},
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
}

/// What is known of a key, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Accepted,
    NotAsked,
    Refused,
}

/// Says a line for each app.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (config, _) = Config::load(args.config.as_deref(), config::process_environment())?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let asked = |name: &str| args.app.as_deref().is_none_or(|app| app == name);
    let mut worst = None;
    for app in config.apps.iter().filter(|app| asked(&app.name)) {
        let upstream = HttpUpstream::new(settings::upstream(app));
        let upstream = upstream.with_context(|| format!("app {}", app.name))?;
        let (verdict, words) = verdict(upstream.jobs().await);
        worst = worst.max(Some(verdict));
        writeln!(io::stdout(), "{}: {words} ({})", app.name, app.base_url)?;
    }
    match worst {
        Some(Verdict::Accepted) => Ok(ExitCode::SUCCESS),
        Some(Verdict::Refused) => Ok(ExitCode::from(3)),
        Some(Verdict::NotAsked) => Ok(ExitCode::from(4)),
        None => bail!("no app is called {:?}", args.app.unwrap_or_default()),
    }
}

/// What an answer to the question says of the key.
fn verdict(jobs: Jobs) -> (Verdict, String) {
    let Err(Failure { kind, cause, .. }) = jobs else {
        return (Verdict::Accepted, "the key is accepted".to_owned());
    };
    match kind {
        FailureKind::KeyRejected => (Verdict::Refused, format!("the key is refused: {cause}")),
        FailureKind::NotSent
        | FailureKind::Unknown
        | FailureKind::Throttled(_)
        | FailureKind::SlotTaken
        | FailureKind::TooLarge
        | FailureKind::BadRows
        | FailureKind::NotFound
        | FailureKind::Refused => {
            (Verdict::NotAsked, format!("Userpilot could not be asked: {cause}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_key_counts_as_one() {
        let check = |kind, expected| {
            let (cause, detail) = ("503".to_owned(), "hush".to_owned());
            let (verdict, words) = verdict(Err(Failure { kind, cause, detail, request_id: None }));
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
