//! The schema: made and brought up to date by numbered migrations, in one transaction that holds
//! an advisory lock until it ends.

use std::fmt::Write as _;

use tokio_postgres::{Client, error::SqlState, types::Type};

use super::{connect::Schema, failure::Failure};

/// What each version adds to the one before.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// Drawn once: no other program on the database is likely to lock this number.
const LOCK: i64 = 0x7570_6777_7067_0001;

/// How old the schema is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// There is none.
    Missing,
    /// Migrations are due. Its version.
    Old(usize),
    /// This program made it, or could have.
    Current,
    /// A newer program made it. Its version.
    Newer(usize),
}

/// Looks, and changes nothing.
pub(super) async fn age(client: &Client, schema: &Schema) -> Result<Age, Failure> {
    let version = format!("SELECT coalesce(max(version), 0)::int8 FROM {schema}.migration");
    match client.query_typed_one(&version, &[]).await {
        Ok(row) => Ok(age_of(row.try_get(0)?)),
        Err(error) if is_missing(error.code()) => Ok(Age::Missing),
        Err(error) => Err(error.into()),
    }
}

fn is_missing(code: Option<&SqlState>) -> bool {
    code.is_some_and(|code| {
        [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code)
    })
}

fn age_of(version: i64) -> Age {
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    match version.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Less => Age::Old(version),
        std::cmp::Ordering::Equal => Age::Current,
        std::cmp::Ordering::Greater => Age::Newer(version),
    }
}

/// Brings the schema up to date, unless it is newer, and gives `role` what it needs. Two at once
/// come one after the other. Returns how old it was.
pub(super) async fn migrate(
    client: &Client,
    schema: &Schema,
    role: Option<&str>,
) -> Result<Age, Failure> {
    client.batch_execute("BEGIN; SET LOCAL lock_timeout = '60s'").await?;
    // Taken before anything is looked at, and given back with the transaction: it works through
    // poolers, too.
    client.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    // Not IF NOT EXISTS, which asks for the right to make a schema even where there is one.
    let named = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let found = client.query_typed_one(named, &[(&schema.name(), Type::TEXT)]).await?;
    if found.try_get::<_, i64>(0)? == 0 {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    client.batch_execute(&ledger(schema)).await?;
    let version = format!("SELECT coalesce(max(version), 0)::int8 FROM {schema}.migration");
    let age = age_of(client.query_typed_one(&version, &[]).await?.try_get(0)?);
    if let Age::Old(done) = age {
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
            client.batch_execute(&written(migration, schema)).await?;
            client.batch_execute(&entry(index + 1, schema)).await?;
        }
    }
    if let Some(role) = role.filter(|_| !matches!(age, Age::Newer(_))) {
        client.batch_execute(&grants(schema, role)).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(age)
}

/// The SQL that makes a whole schema, and what the gateway's role may do with it, for who runs it
/// by hand. `role` is that of the gateway.
pub fn script(schema: &Schema, role: &str) -> String {
    let mut script = format!("BEGIN;\nCREATE SCHEMA {schema};\n{};\n", ledger(schema));
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        script.push_str(&written(migration, schema));
        let _ = writeln!(script, "{};", entry(index + 1, schema));
    }
    let _ = write!(script, "\n-- All that the gateway needs.\n{}COMMIT;\n", grants(schema, role));
    script
}

fn grants(schema: &Schema, role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};\n\
         REVOKE INSERT, UPDATE, DELETE ON {schema}.migration FROM {role};\n"
    )
}

fn ledger(schema: &Schema) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.migration (version int PRIMARY KEY, \
         applied_at timestamptz NOT NULL DEFAULT now())"
    )
}

fn entry(version: usize, schema: &Schema) -> String {
    format!("INSERT INTO {schema}.migration (version) VALUES ({version})")
}

fn written(migration: &str, schema: &Schema) -> String {
    migration.replace("{schema}", &schema.to_string())
}
