//! `clients`: who sends updates, how much of theirs waits, and what was refused why.

use std::io::{self, Write};

use super::{
    client::refused,
    operator::OperatorArgs,
    output::{self, Output, OutputArgs},
};
use crate::proto::{ClientStatus, Lane, ListClientsRequest};

/// Show who sends updates, how much of theirs waits, and what was refused why.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints a line a client.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut gateway = args.operator.connect().await?;
    let answer = gateway.list_clients(ListClientsRequest {}).await.map_err(refused)?;
    let clients = answer.into_inner().clients;
    if args.output.output == Output::Json {
        return output::print_json("ClientStatus", &clients);
    }
    let mut table = output::table();
    table.set_header([
        "client",
        "apps",
        "lane",
        "weight",
        "waiting",
        "oldest",
        "accepted",
        "coalesced",
        "delivered",
        "p50",
        "p99",
        "refused",
        "last update",
    ]);
    for client in &clients {
        table.add_row(row(client));
    }
    writeln!(io::stdout(), "{table}")?;
    Ok(())
}

fn row(client: &ClientStatus) -> [String; 13] {
    let lane = Lane::try_from(client.lane).unwrap_or_default().as_str_name();
    let waiting = match client.pending_records_max {
        0 => client.pending_records.to_string(),
        max => format!("{} of {max}", client.pending_records),
    };
    let refused = client.refused.iter();
    let refused: Vec<_> =
        refused.map(|refused| format!("{} {}", refused.updates, refused.reason)).collect();
    [
        client.name.clone(),
        client.apps.join(" "),
        output::word(lane, "LANE_"),
        client.weight.to_string(),
        waiting,
        output::short(client.oldest_pending_age.as_ref()),
        client.accepted_updates.to_string(),
        client.coalesced_updates.to_string(),
        client.delivered_rows.to_string(),
        output::short(client.freshness_p50.as_ref()),
        output::short(client.freshness_p99.as_ref()),
        if refused.is_empty() { "-".into() } else { refused.join(", ") },
        output::moment(client.last_update_at.as_ref()),
    ]
}
