//! `send`: one update from flags, or many from NDJSON.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::{Struct, value::Kind};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::Channel;

use super::client::{self, GRPC_DEFAULT};
use crate::proto::{
    Lane, StreamUserUpdatesRequest, UpdateUserRequest, UserUpdate,
    ingest_service_client::IngestServiceClient, stream_user_updates_response::Result as Answer,
};

/// Send one update from flags, or many from NDJSON.
///
/// A line of NDJSON is an update such as
/// {"user_id":"42","company_id":"acme","metadata":{"plan":"pro"},"lane":"bulk"};
/// "app", "company_id", "metadata", "occurred_at" and "lane" may be left out.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the gateway takes updates.
    #[arg(long, value_name = "URL", default_value = GRPC_DEFAULT)]
    pub address: String,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    pub app: String,
    /// The user's id.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    pub user_id: Option<String>,
    /// The user's company.
    #[arg(long, requires = "user_id")]
    pub company_id: Option<String>,
    /// A property: NAME=VALUE. true, false, null and numbers are taken as such; all else, and
    /// what stands in double quotes, is a string.
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "user_id")]
    pub properties: Vec<String>,
    /// The lane: interactive or bulk.
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub lane: Option<Lane>,
    /// A file of NDJSON; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Sends, and says what became of it. Fails if anything was refused.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = IngestServiceClient::new(client::connect(&args.address).await?);
    match &args.file {
        Some(file) => send_many(client, file, &args).await,
        None => send_one(client, &args).await,
    }
}

async fn send_one(mut client: IngestServiceClient<Channel>, args: &Args) -> anyhow::Result<()> {
    let mut metadata = BTreeMap::new();
    for property in &args.properties {
        let (name, value) = property
            .split_once('=')
            .with_context(|| format!("--set {property}: expected NAME=VALUE"))?;
        let value = match serde_json::from_str(value) {
            Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
                value
            }
            Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(value.to_owned()),
        };
        metadata.insert(name.to_owned(), value);
    }
    let update = UserUpdate {
        app: args.app.clone(),
        user_id: args.user_id.clone().unwrap_or_default(),
        company_id: args.company_id.clone(),
        metadata: Some(to_struct(metadata)),
        occurred_at: None,
        lane: args.lane.unwrap_or_default().into(),
    };
    let request = UpdateUserRequest { update: Some(update) };
    let accepted = client.update_user(request).await.map_err(refused)?.into_inner();
    let disposition = accepted.disposition().as_str_name().trim_start_matches("DISPOSITION_");
    writeln!(
        io::stdout(),
        "{} as number {}\nreceipt {}",
        disposition.to_lowercase(),
        accepted.sequence,
        accepted.receipt
    )?;
    Ok(())
}

/// Lines that are read ahead of the stream.
const LINES_AHEAD_MAX: usize = 1_024;
/// Refusals that are shown one by one.
const REFUSALS_SHOWN_MAX: u64 = 20;

async fn send_many(
    mut client: IngestServiceClient<Channel>,
    file: &Path,
    args: &Args,
) -> anyhow::Result<()> {
    let (input, bytes) = open(file)?;
    let progress = progress(bytes);
    let (lines, updates) = mpsc::channel(LINES_AHEAD_MAX);
    let (app, lane, bar) = (args.app.clone(), args.lane, progress.clone());
    let reader = tokio::task::spawn_blocking(move || read_lines(input, &app, lane, &bar, &lines));
    let answers =
        client.stream_user_updates(ReceiverStream::new(updates)).await.map_err(refused)?;
    let mut answers = answers.into_inner();
    let (mut accepted, mut coalesced, mut refusals) = (0_u64, 0_u64, 0_u64);
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(refused)?;
        match answer.result {
            Some(Answer::Accepted(update)) => {
                accepted += 1;
                coalesced +=
                    u64::from(update.disposition() == crate::proto::Disposition::Coalesced);
            }
            Some(Answer::Error(error)) => {
                refusals += 1;
                if refusals <= REFUSALS_SHOWN_MAX {
                    let line = format!("line {}: {}", answer.tag, error.message);
                    // Not `println`: where there is no terminal, it shows nothing.
                    progress.suspend(|| writeln!(io::stderr(), "{line}"))?;
                }
            }
            None => bail!("the gateway answered without an answer"),
        }
        progress.set_message(format!("{accepted} accepted, {refusals} refused"));
    }
    progress.finish_and_clear();
    reader.await??;
    writeln!(io::stdout(), "{accepted} accepted ({coalesced} coalesced), {refusals} refused")?;
    if refusals > 0 {
        bail!("{refusals} updates were refused");
    }
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.with_context(|| format!("cannot read {}", file.display()))?;
    let bytes = opened.metadata()?.len();
    Ok((Box::new(BufReader::new(opened)), Some(bytes)))
}

fn progress(bytes: Option<u64>) -> ProgressBar {
    let template = match bytes {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}  {msg}",
        None => "{spinner} {bytes} {bytes_per_sec}  {msg}",
    };
    let style = ProgressStyle::with_template(template);
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    app: Option<String>,
    user_id: String,
    #[serde(default)]
    company_id: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    #[serde(default)]
    occurred_at: Option<jiff::Timestamp>,
    #[serde(default)]
    lane: Option<String>,
}

fn read_lines(
    input: Box<dyn BufRead + Send>,
    app: &str,
    lane: Option<Lane>,
    bar: &ProgressBar,
    updates: &mpsc::Sender<StreamUserUpdatesRequest>,
) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(input.lines()) {
        let line = line?;
        bar.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        let update = update(&line, app, lane).with_context(|| format!("line {number}"))?;
        let request = StreamUserUpdatesRequest { tag: number, update: Some(update) };
        if updates.blocking_send(request).is_err() {
            break;
        }
    }
    Ok(())
}

fn update(line: &str, default_app: &str, default_lane: Option<Lane>) -> anyhow::Result<UserUpdate> {
    let line: Line = serde_json::from_str(line)?;
    let lane = match line.lane {
        Some(name) => lane(&name).map_err(anyhow::Error::msg)?,
        None => default_lane.unwrap_or_default(),
    };
    Ok(UserUpdate {
        app: line.app.unwrap_or_else(|| default_app.to_owned()),
        user_id: line.user_id,
        company_id: line.company_id,
        metadata: Some(to_struct(line.metadata)),
        occurred_at: line.occurred_at.map(|at| crate::proto::timestamp(at.as_microsecond())),
        lane: lane.into(),
    })
}

fn lane(name: &str) -> Result<Lane, String> {
    match name {
        "interactive" => Ok(Lane::Interactive),
        "bulk" => Ok(Lane::Bulk),
        _ => Err("a lane is interactive or bulk".into()),
    }
}

/// What the gateway does not take, it refuses itself, with the property's name.
fn to_struct(values: BTreeMap<String, Value>) -> Struct {
    Struct { fields: values.into_iter().map(|(name, value)| (name, to_proto(value))).collect() }
}

fn to_proto(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(to_proto).collect(),
        }),
        Value::Object(values) => Kind::StructValue(to_struct(values.into_iter().collect())),
    };
    prost_types::Value { kind: Some(kind) }
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_update() {
        let line = r#"{"user_id":"42","metadata":{"plan":"pro","seats":3},"lane":"bulk",
            "occurred_at":"2026-01-01T00:00:00Z"}"#;
        let update = update(line, "production", None).unwrap();
        assert_eq!((&*update.app, &*update.user_id), ("production", "42"));
        assert_eq!(update.lane(), Lane::Bulk);
        assert_eq!(update.occurred_at.unwrap().seconds, 1_767_225_600);
        assert_eq!(update.metadata.unwrap().fields.len(), 2);
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, why) in [
            (r#"{"user":"42"}"#, "unknown field"),
            (r#"{"metadata":{}}"#, "missing field `user_id`"),
            (r#"{"user_id":"42","lane":"fast"}"#, "interactive or bulk"),
        ] {
            let error = update(line, "", None).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
