//! `user show`: what waits, is in flight, was delivered and died of one user or company.

use std::io::{self, Write};

use crate::{
    cli::{
        client::refused,
        operator::OperatorArgs,
        output::{self, Output, OutputArgs, Table},
    },
    proto::{
        DeadLetter, Delivery, FindSubjectRequest, FindSubjectResponse, InFlightRecord, Lane,
        PendingRecord, Subject, subject::Id,
    },
};

/// Show all that the gateway knows of a user or a company: what waits, what is in flight, what was
/// delivered when, and what died why. It shows values.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Show {
    /// The id of the user, or of the company with --company.
    id: String,
    /// The id is a company's.
    #[arg(long)]
    company: bool,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    app: String,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self { id, company, app, operator, output } = self;
        let id = if company { Id::CompanyId(id) } else { Id::UserId(id) };
        let request = FindSubjectRequest { app, subject: Some(Subject { id: Some(id) }) };
        let name = output::subject(request.subject.as_ref());
        let answer = operator.connect().await?.find_subject(request).await.map_err(refused)?;
        let found = answer.into_inner();
        match output.output {
            Output::Json => output::print_json("FindSubjectResponse", &[found])?,
            Output::Table => {
                io::stdout().write_all(page(&output::printable(&name), &found).as_bytes())?
            }
        }
        Ok(())
    }
}

fn page(name: &str, found: &FindSubjectResponse) -> String {
    let FindSubjectResponse { pending, in_flight, deliveries, dead_letters, suppressible } = found;
    let mut parts = vec![match (pending, in_flight) {
        (Some(_), Some(_)) => format!("{name}: something waits, and something is in flight"),
        (Some(_), None) => format!("{name}: something waits"),
        (None, Some(_)) => format!("{name}: something is in flight"),
        (None, None) => format!("{name}: nothing waits or is in flight"),
    }];
    if *suppressible {
        parts.push("What Userpilot holds of it is remembered: the same is not sent again.".into());
    }
    parts.extend(pending.as_ref().map(|record| format!("waiting\n{}", waiting(record))));
    parts.extend(in_flight.as_ref().map(|record| format!("in flight\n{}", flying(record))));
    if !deliveries.is_empty() {
        parts.push(format!("delivered\n{}", delivered(deliveries)));
    }
    if !dead_letters.is_empty() {
        parts.push(format!("dead letters\n{}", dead(dead_letters)));
    }
    if pending.is_none() && in_flight.is_none() && deliveries.is_empty() && dead_letters.is_empty()
    {
        parts.push("No delivery and no dead letter of it is remembered either.".into());
    }
    parts.join("\n\n") + "\n"
}

fn waiting(record: &PendingRecord) -> Table {
    let lane = Lane::try_from(record.lane).unwrap_or_default();
    let mut table = output::table();
    let sequences = format!("{} to {}", record.first_sequence, record.last_sequence);
    table.add_row(["  since", &output::moment(record.accepted_at.as_ref())]);
    table.add_row(["  client", &record.client]);
    table.add_row(["  lane", &output::word(lane.as_str_name(), "LANE_")]);
    table.add_row(["  sequences", &sequences]);
    table.add_row(["  updates", &record.updates.to_string()]);
    table.add_row(["  bytes", &record.bytes.to_string()]);
    values(&mut table, record.company_id.as_ref(), record.metadata.as_ref());
    table
}

fn flying(record: &InFlightRecord) -> Table {
    let mut table = output::table();
    let sequences = format!("{} to {}", record.first_sequence, record.last_sequence);
    table.add_row(["  since", &output::moment(record.accepted_at.as_ref())]);
    if record.express {
        table.add_row(["  by", "express"]);
    } else {
        table.add_row(["  batch", &record.batch_id]);
        table.add_row(["  job", &record.job_id]);
    }
    table.add_row(["  sequences", &sequences]);
    table.add_row(["  updates", &record.updates.to_string()]);
    values(&mut table, record.company_id.as_ref(), record.metadata.as_ref());
    table
}

fn values(table: &mut Table, company: Option<&String>, metadata: Option<&prost_types::Struct>) {
    if let Some(company) = company {
        table.add_row(["  company", company]);
    }
    for (name, value) in output::properties(metadata) {
        table.add_row([format!("    {name}"), value]);
    }
}

fn delivered(deliveries: &[Delivery]) -> Table {
    let mut table = output::table();
    table.set_header(["  when", "batch", "job", "sequences"]);
    for delivery in deliveries {
        let batch = if delivery.express { "express" } else { &delivery.batch_id };
        let sequences = format!("{} to {}", delivery.first_sequence, delivery.last_sequence);
        let when = format!("  {}", output::moment(delivery.delivered_at.as_ref()));
        table.add_row([&when, batch, &delivery.job_id, &sequences]);
    }
    table
}

fn dead(letters: &[DeadLetter]) -> Table {
    let mut table = output::table();
    table.set_header(["  id", "died", "reason", "state", "Userpilot said"]);
    for letter in letters {
        table.add_row([
            format!("  {}", letter.id),
            output::moment(letter.died_at.as_ref()),
            output::word(letter.reason().as_str_name(), "DEAD_LETTER_REASON_"),
            output::word(letter.state().as_str_name(), "DEAD_LETTER_STATE_"),
            letter.detail.clone(),
        ]);
    }
    table
}
