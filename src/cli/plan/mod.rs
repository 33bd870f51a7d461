//! `plan`: what would come of this traffic, on this budget.

mod question;
mod shown;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};

pub use question::{express, suppression, with_defaults};

use super::output::Output;
use crate::{
    domain::update::Lane,
    plan::{self, Report, chart},
};

/// Answer what would come of some traffic: run the gateway's scheduler in virtual time against a
/// model of Userpilot's account. Nothing is sent, and no gateway need run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many updates come in a second, on average, at random times.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub updates_per_second: f64,

    /// About how many users they are.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    pub users: u32,

    /// Some users are updated more often than others, by Zipf's law with this exponent (1.1 is
    /// common); without it, all alike.
    #[arg(long, value_name = "EXPONENT")]
    pub zipf: Option<f64>,

    /// How many clients send them.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub clients: u32,

    /// In which lane.
    #[arg(long, value_enum, default_value_t = LaneWord::Interactive)]
    pub lane: LaneWord,

    /// How many updates come in a second in the express lane besides, about the same users and from
    /// the same clients.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub express_per_second: f64,

    /// One more client sends an update of each of so many users, all at once.
    #[arg(long, value_name = "USERS")]
    pub backfill: Option<u32>,

    /// When it does, from the beginning: 2h, 90m, 30s.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = question::time)]
    pub backfill_at: Duration,

    /// In which lane.
    #[arg(long, value_enum, default_value_t = LaneWord::Bulk)]
    pub backfill_lane: LaneWord,

    /// Upstream holds these users already, and of a share of them alone does it say anything new,
    /// such as 0.02.
    #[arg(long, value_name = "SHARE")]
    pub backfill_changed: Option<f64>,

    /// Do not send again what upstream holds, as an app with suppress_unchanged does.
    #[arg(long)]
    pub suppress_unchanged: bool,

    /// What came at some time in reality: a file of lines such as
    /// {"at": 12.5, "user_id": "42", "client": "crm", "lane": "bulk"}. "at" is in seconds or a
    /// date as in 2026-11-24T08:00:00Z; client and lane may be left out. - is standard input.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// How many users the account takes in a minute, instead of what the configuration says.
    #[arg(long, value_name = "NUMBER")]
    pub users_per_minute: Option<u32>,

    /// What a job takes besides its users.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = question::time)]
    pub fixed_cost: Duration,

    /// How long a request to Userpilot takes.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = question::time)]
    pub round_trip: Duration,

    /// How long one to the real-time endpoint takes, by which express goes.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = question::time)]
    pub express_round_trip: Duration,

    /// How many rows a client takes in its turn, instead of 1, or of what the configuration says.
    /// Clients are called client-0, client-1 and so on, backfill, or what the trace calls them.
    /// May be given several times.
    #[arg(long, value_name = "CLIENT=NUMBER", value_parser = question::weight)]
    pub weight: Vec<(String, u32)>,

    /// Userpilot cannot be reached from the one time to the other, such as 2h..6h. May be given
    /// several times.
    #[arg(long, value_name = "FROM..TO", value_parser = question::outage)]
    pub outage: Vec<std::ops::Range<Duration>>,

    /// How many hours to look ahead; without it, 24, or as long as the trace is.
    #[arg(long, value_name = "HOURS")]
    pub hours: Option<f64>,

    /// Decides every chance: the same number gives the same answer.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Take the scheduler's settings from FILE; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Of which app, where there are several.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub app: Option<String>,

    /// Draw what waits over time: FILE.svg is a picture, FILE.html a page with it.
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,

    /// As what to print the answer.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// A lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LaneWord {
    /// Live traffic.
    Interactive,
    /// Backfills.
    Bulk,
}

impl From<LaneWord> for Lane {
    fn from(word: LaneWord) -> Self {
        match word {
            LaneWord::Interactive => Self::Interactive,
            LaneWord::Bulk => Self::Bulk,
        }
    }
}

/// What kind of picture a file's name asks for.
#[derive(Clone, Copy)]
enum Picture {
    Svg,
    Html,
}

/// Runs the plan and prints the answer.
pub fn run(args: Args) -> anyhow::Result<()> {
    // Before anything that takes long.
    let picture = args.chart.as_deref().map(picture).transpose()?;
    let plan = question::plan(&args)?;
    let report = plan::run(&plan)?;
    let text = shown::text(&plan, &report);
    if let (Some(file), Some(picture)) = (&args.chart, picture) {
        draw(file, picture, &report, &text)?;
    }
    let mut stdout = io::stdout().lock();
    match args.output {
        Output::Table => stdout.write_all(text.as_bytes())?,
        Output::Json => {
            serde_json::to_writer(&mut stdout, &report)?;
            writeln!(stdout)?;
        }
    }
    Ok(())
}

fn picture(file: &Path) -> anyhow::Result<Picture> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Picture::Svg),
        Some("html") => Ok(Picture::Html),
        Some(_) | None => bail!(
            "--chart {}: give it a name that ends with .svg or .html, which says what to draw",
            file.display()
        ),
    }
}

fn draw(file: &Path, picture: Picture, report: &Report, text: &str) -> anyhow::Result<()> {
    let drawn = match picture {
        Picture::Svg => chart::svg(report),
        Picture::Html => chart::html(report, text),
    };
    let drawn = drawn.map_err(|error| anyhow::anyhow!("cannot draw the chart: {error}"))?;
    fs::write(file, drawn).with_context(|| format!("cannot write {}", file.display()))
}
