//! `send`: one update from flags, or many from NDJSON.

mod many;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use serde_json::Value;

use super::{
    client::{self, AccessArgs, GRPC_DEFAULT},
    stream::{Ingest, refused},
    updates::{Update, lane, to_struct},
};
use crate::proto::{AcceptedUpdate, Lane, UpdateCompanyRequest, UpdateUserRequest};

/// Send one update from flags, or many from NDJSON.
///
/// A line of NDJSON is an update such as
/// {"user_id":"42","company_id":"acme","metadata":{"plan":"pro"},"lane":"bulk"};
/// "app", "company_id", "metadata", "occurred_at" and "lane" may be left out. A line without
/// "user_id" is an update of the company.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the gateway takes updates.
    #[arg(long, value_name = "URL", default_value = GRPC_DEFAULT)]
    pub address: String,
    #[command(flatten)]
    access: AccessArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    pub app: String,
    /// The user's id.
    #[arg(long, required_unless_present_any = ["file", "company_id"], conflicts_with = "file")]
    pub user_id: Option<String>,
    /// The user's company; without --user-id, the company that the update is of.
    #[arg(long, conflicts_with = "file")]
    pub company_id: Option<String>,
    /// A property: NAME=VALUE. true, false, null and numbers are taken as such; all else, and
    /// what stands in double quotes, is a string.
    #[arg(long = "set", value_name = "NAME=VALUE", conflicts_with = "file")]
    pub properties: Vec<String>,
    /// The lane: express, interactive or bulk.
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub lane: Option<Lane>,
    /// A file of NDJSON; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the gateway has no room for a line, it says when to come back, and the line and those
    /// after it are sent then. Come back after so many seconds at the latest.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub retry_delay_max: u64,
}

/// Sends, and says what became of it. Fails if anything was refused for good.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = Ingest::new(client::connect(&args.address, &args.access).await?);
    match &args.file {
        Some(file) => many::send(client, file, &args).await,
        None => send_one(client, &args).await,
    }
}

async fn send_one(mut client: Ingest, args: &Args) -> anyhow::Result<()> {
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
    let Args { app, user_id, company_id, lane, .. } = args.clone();
    let update = Update {
        app,
        user_id,
        company_id,
        metadata: Some(to_struct(metadata)),
        occurred_at: None,
        lane: lane.unwrap_or_default().into(),
    };
    let accepted = match update.split() {
        (Some(update), _) => {
            let request = UpdateUserRequest { update: Some(update) };
            let accepted = client.update_user(request).await.map_err(refused)?.into_inner();
            let (receipt, sequence) = (accepted.receipt, accepted.sequence);
            AcceptedUpdate { receipt, sequence, disposition: accepted.disposition }
        }
        (None, update) => {
            let request = UpdateCompanyRequest { update };
            let accepted = client.update_company(request).await.map_err(refused)?.into_inner();
            let (receipt, sequence) = (accepted.receipt, accepted.sequence);
            AcceptedUpdate { receipt, sequence, disposition: accepted.disposition }
        }
    };
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
