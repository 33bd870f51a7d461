//! The `[store.fleet]` table.

use serde::Serialize;

use super::{EngineKind, PostgresConfig, reader::Reader};

/// Connections beside those of the writers that accept: for leases, everything else that writes,
/// and reads.
const OTHER_CONNECTIONS: usize = 4;

/// Whether several gateways share the store, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FleetConfig {
    /// Whether they do.
    pub enabled: bool,
    /// How many writers accept updates.
    pub writers: usize,
    /// For how long a gateway delivers an app after it was last heard of.
    pub lease_ms: u64,
    /// How often it says that it is there.
    pub renew_ms: u64,
    /// How often it looks what the others have accepted.
    pub poll_ms: u64,
}

pub(super) fn fleet(
    reader: &mut Reader<'_>,
    engine: EngineKind,
    postgres: &PostgresConfig,
) -> FleetConfig {
    let config = FleetConfig {
        enabled: reader.flag("enabled"),
        writers: reader.number("writers", 1..=8),
        lease_ms: reader.number("lease_ms", 1_000..=600_000),
        renew_ms: reader.number("renew_ms", 100..=200_000),
        poll_ms: reader.number("poll_ms", 50..=10_000),
    };
    if config.enabled && engine != EngineKind::Postgres {
        let message = "only a store in PostgreSQL can be shared: see store.engine";
        reader.refuse("enabled", message.to_owned());
    }
    if config.renew_ms.saturating_mul(3) > config.lease_ms {
        let message = "expected at most a third of lease_ms";
        reader.refuse("renew_ms", message.to_owned());
    }
    let wanted = config.writers + OTHER_CONNECTIONS;
    if config.enabled && postgres.connections_max < wanted {
        let message =
            format!("store.postgres.connections_max has to be {wanted} at least, for these");
        reader.refuse("writers", message);
    }
    config
}
