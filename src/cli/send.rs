//! `send`: one update from flags, or many from NDJSON.

mod many;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use prost_types::{Struct, value::Kind};
use serde_json::Value;

use super::client::{self, AccessArgs, Connection, GRPC_DEFAULT};
use crate::proto::{
    AcceptedUpdate, CompanyUpdate, Lane, UpdateCompanyRequest, UpdateUserRequest, UserUpdate,
    ingest_service_client::IngestServiceClient,
};

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
    let client = IngestServiceClient::new(client::connect(&args.address, &args.access).await?);
    match &args.file {
        Some(file) => many::send(client, file, &args).await,
        None => send_one(client, &args).await,
    }
}

async fn send_one(mut client: IngestServiceClient<Connection>, args: &Args) -> anyhow::Result<()> {
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

/// An update of a user, or of a company.
struct Update {
    app: String,
    user_id: Option<String>,
    company_id: Option<String>,
    metadata: Option<Struct>,
    occurred_at: Option<prost_types::Timestamp>,
    lane: i32,
}

impl Update {
    /// The one or the other.
    fn split(self) -> (Option<UserUpdate>, Option<CompanyUpdate>) {
        let Self { app, user_id, company_id, metadata, occurred_at, lane } = self;
        if let Some(user_id) = user_id {
            let update = UserUpdate { app, user_id, company_id, metadata, occurred_at, lane };
            return (Some(update), None);
        }
        let company_id = company_id.unwrap_or_default();
        (None, Some(CompanyUpdate { app, company_id, metadata, occurred_at, lane }))
    }
}

fn lane(name: &str) -> Result<Lane, String> {
    match name {
        "express" => Ok(Lane::Express),
        "interactive" => Ok(Lane::Interactive),
        "bulk" => Ok(Lane::Bulk),
        _ => Err("a lane is express, interactive or bulk".into()),
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
    let code = status.code();
    client::refused(status).context(format!("{code:?}"))
}
