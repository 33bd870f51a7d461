//! From merged values to the typed configuration: one function a table, each range beside its
//! key, then what must hold between keys.

use std::{collections::BTreeMap, path::Path};

use config::{Map, Value, ValueKind};

use super::{
    AuditConfig, BadRows, Config, ConsoleConfig, DeadLettersConfig, EngineKind, HistoryConfig,
    HttpConfig, IntakeConfig, LimitsConfig, LogConfig, LogFormat, MetricsAuth, Problem,
    ServerConfig, StoreConfig, Unauthenticated, Warning, encryption, fleet::fleet, otlp::otlp,
    postgres::postgres, read_access, read_apps::apps, reader::Reader, tls::tls,
};

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const PIB: u64 = 1 << 50;

/// Reads all tables; worth something only if there are no problems after it.
pub(super) fn config(
    values: &Map<String, Value>,
    folder: &Path,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> Option<Config> {
    let server = server(&mut table(values, "server", problems)?);
    let console = console(&mut table(values, "console", problems)?);
    let http = http(&mut table(values, "http", problems)?);
    let tls = tls(&mut table(values, "tls", problems)?, folder, warnings);
    let store = store(&mut table(values, "store", problems)?, folder, (env, None));
    let intake = intake(&mut table(values, "intake", problems)?);
    let limits = limits(&mut table(values, "limits", problems)?);
    let history = history(&mut table(values, "history", problems)?);
    let dead_letters = dead_letters(&mut table(values, "dead_letters", problems)?);
    let log = log(&mut table(values, "log", problems)?);
    let otlp = otlp(&mut table(values, "otlp", problems)?, env);
    let auth = read_access::auth(&mut table(values, "auth", problems)?, folder);
    let apps = apps(values, folder, env, problems, warnings);
    let clients = read_access::clients(values, &apps, &auth, problems);
    let admins = read_access::admins(values, problems);
    let config = Config {
        server,
        console,
        http,
        tls,
        store,
        intake,
        limits,
        history,
        dead_letters,
        log,
        otlp,
        auth,
        apps,
        clients,
        admins,
    };
    if problems.is_empty() {
        check_together(&config, problems);
        read_access::check_open(&config, &config.server, problems, warnings);
        read_access::check_metrics(&config, &config.server, problems, warnings);
        read_access::warn_of_idle(&config, warnings);
    }
    Some(config)
}

/// Reads what a store alone needs.
pub(super) fn store_alone(
    values: &Map<String, Value>,
    folder: &Path,
    (env, engine): (&BTreeMap<String, String>, Option<EngineKind>),
    problems: &mut Vec<Problem>,
) -> Option<(StoreConfig, LimitsConfig)> {
    let store = store(&mut table(values, "store", problems)?, folder, (env, engine));
    let limits = limits(&mut table(values, "limits", problems)?);
    Some((store, limits))
}

fn table<'a>(
    values: &'a Map<String, Value>,
    name: &str,
    problems: &'a mut Vec<Problem>,
) -> Option<Reader<'a>> {
    match values.get(name).map(|value| &value.kind) {
        Some(ValueKind::Table(table)) => Some(Reader::new(name.to_owned(), table, problems)),
        _ => None,
    }
}

fn server(reader: &mut Reader<'_>) -> ServerConfig {
    ServerConfig {
        grpc_listen: reader.address("grpc_listen"),
        http_listen: reader.address("http_listen"),
        admin_listen: reader.address("admin_listen"),
        shutdown_grace_ms: reader.number("shutdown_grace_ms", 1..=600_000),
        request_bytes_max: reader.number("request_bytes_max", KIB..=64 * MIB),
        header_bytes_max: reader.number("header_bytes_max", 8 * KIB..=MIB),
        connections_max: reader.number("connections_max", 1..=65_536),
        connection_idle_ms: reader.number("connection_idle_ms", 1_000..=DAY_MS),
        reflection: reader.flag("reflection"),
        unauthenticated: reader.word(
            "unauthenticated",
            [
                ("loopback", Unauthenticated::Loopback),
                ("allow_anyone", Unauthenticated::AllowAnyone),
            ],
        ),
        metrics_auth: reader
            .word("metrics_auth", [("none", MetricsAuth::None), ("admin", MetricsAuth::Admin)]),
    }
}

fn console(reader: &mut Reader<'_>) -> ConsoleConfig {
    ConsoleConfig {
        enabled: reader.flag("enabled"),
        session_idle_ms: reader.number("session_idle_ms", 1_000..=30 * DAY_MS),
        session_max_ms: reader.number("session_max_ms", 1_000..=30 * DAY_MS),
        sessions_max: reader.number("sessions_max", 1..=100_000),
    }
}

fn http(reader: &mut Reader<'_>) -> HttpConfig {
    let policies = [("skip_rows", BadRows::SkipRows), ("reject_file", BadRows::RejectFile)];
    HttpConfig {
        request_timeout_ms: reader.number("request_timeout_ms", 1..=HOUR_MS),
        bulk_progress_bytes_min: reader.number("bulk_progress_bytes_min", 1..=50_000_000),
        bulk_bytes_max: reader.number("bulk_bytes_max", KIB..=50_000_000),
        bulk_rows_max: reader.number("bulk_rows_max", 1..=10_000),
        buffered_bytes_max: reader.number("buffered_bytes_max", KIB..=4 * GIB),
        bad_rows: reader.word("bad_rows", policies),
        spooled_bytes_max: reader.number("spooled_bytes_max", KIB..=4 * GIB),
        jobs_max: reader.number("jobs_max", 1..=100_000),
        listed_jobs_max: reader.number("listed_jobs_max", 1..=100_000),
    }
}

fn store(
    reader: &mut Reader<'_>,
    folder: &Path,
    (env, engine): (&BTreeMap<String, String>, Option<EngineKind>),
) -> StoreConfig {
    let engines = [
        ("sled", EngineKind::Sled),
        ("redb", EngineKind::Redb),
        ("postgres", EngineKind::Postgres),
    ];
    let written = reader.word("engine", engines);
    let engine = engine.unwrap_or(written);
    let postgres = postgres(&mut reader.table("postgres"), folder, env, engine);
    StoreConfig {
        engine,
        path: reader.folder("path"),
        cache_bytes_max: reader.number("cache_bytes_max", MIB..=TIB),
        group_updates_max: reader.number("group_updates_max", 1..=65_536),
        pending_records_max: reader.number("pending_records_max", 1..=1_000_000_000),
        pending_bytes_max: reader.number("pending_bytes_max", KIB..=TIB),
        free_bytes_min: reader.number("free_bytes_min", 0..=PIB),
        rebuild_bytes_min: reader.number("rebuild_bytes_min", 0..=PIB),
        encryption: encryption::encryption(reader, folder),
        fleet: fleet(&mut reader.table("fleet"), written, &postgres),
        postgres,
    }
}

fn intake(reader: &mut Reader<'_>) -> IntakeConfig {
    IntakeConfig {
        waiting_updates_max: reader.number("waiting_updates_max", 1..=1_000_000),
        waiting_bytes_max: reader.number("waiting_bytes_max", KIB..=4 * GIB),
    }
}

fn limits(reader: &mut Reader<'_>) -> LimitsConfig {
    LimitsConfig {
        // What keys of the store have room for: see `store::keys`.
        user_id_bytes_max: reader.number("user_id_bytes_max", 1..=512),
        company_id_bytes_max: reader.number("company_id_bytes_max", 1..=512),
        properties_max: reader.number("properties_max", 1..=1_000),
        property_name_bytes_max: reader.number("property_name_bytes_max", 1..=4096),
        // With so many properties, what the store can keep safely: see `SEGMENT_BYTES`.
        record_bytes_max: reader.number("record_bytes_max", KIB..=64 * KIB),
        updates_per_request_max: reader.number("updates_per_request_max", 1..=10_000),
        occurred_at_ahead_max_ms: reader.number("occurred_at_ahead_max_ms", 0..=365 * DAY_MS),
    }
}

fn history(reader: &mut Reader<'_>) -> HistoryConfig {
    HistoryConfig {
        delivered_hours: reader.number("delivered_hours", 0..=8760),
        jobs_max: reader.number("jobs_max", 1..=1_000_000),
    }
}

fn dead_letters(reader: &mut Reader<'_>) -> DeadLettersConfig {
    DeadLettersConfig {
        records_max: reader.number("records_max", 1..=10_000_000),
        days: reader.number("days", 1..=3650),
    }
}

fn log(reader: &mut Reader<'_>) -> LogConfig {
    let formats =
        [("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    LogConfig {
        format: reader.word("format", formats),
        filter: reader.filter("filter"),
        audit: match reader.folder("audit") {
            path if path == Path::new("stderr") => AuditConfig::Stderr,
            path if path == Path::new("off") => AuditConfig::Off,
            path => AuditConfig::File(path),
        },
    }
}

/// What must hold between keys: else something valid could never get through.
fn check_together(config: &Config, problems: &mut Vec<Problem>) {
    let Config {
        server,
        console: _,
        http,
        tls: _,
        store,
        intake,
        limits,
        history: _,
        dead_letters: _,
        log: _,
        otlp: _,
        auth: _,
        apps,
        clients: _,
        admins: _,
    } = config;
    let mut demand = |holds: bool, key: &str, message: String| {
        if !holds {
            problems.push(Problem { key: key.to_owned(), message, origin: None });
        }
    };
    let at_least = |key: &str, least: u64| format!("expected at least {key}, which is {least}");

    let request = server.request_bytes_max;
    let message = at_least("server.request_bytes_max", request as u64);
    demand(intake.waiting_bytes_max >= request, "intake.waiting_bytes_max", message);

    let bulk = http.bulk_bytes_max;
    let message = at_least("http.bulk_bytes_max", bulk as u64);
    demand(http.buffered_bytes_max >= bulk, "http.buffered_bytes_max", message.clone());
    demand(http.spooled_bytes_max >= bulk, "http.spooled_bytes_max", message);

    let updates = limits.updates_per_request_max;
    let message = at_least("limits.updates_per_request_max", updates as u64);
    demand(intake.waiting_updates_max >= updates, "intake.waiting_updates_max", message);

    let record = limits.record_bytes_max;
    let message = at_least("limits.record_bytes_max", record as u64);
    demand(request >= record, "server.request_bytes_max", message.clone());
    demand(store.pending_bytes_max >= record as u64, "store.pending_bytes_max", message.clone());

    let listens = [
        ("server.http_listen", server.http_listen, server.grpc_listen),
        ("server.admin_listen", server.admin_listen, server.grpc_listen),
        ("server.admin_listen", server.admin_listen, server.http_listen),
    ];
    for (key, listen, taken) in listens {
        let apart = listen != taken || listen.port() == 0;
        demand(apart, key, format!("another listener has {taken} already"));
    }

    for (index, app) in apps.iter().enumerate() {
        let mut demand =
            |holds, key: &str, message| demand(holds, &format!("apps[{index}].{key}"), message);
        demand(app.batch_bytes_max >= record, "batch_bytes_max", message.clone());
        let least = app.poll_interval_min_ms;
        let message = at_least("poll_interval_min_ms", least);
        demand(app.poll_interval_max_ms >= least, "poll_interval_max_ms", message);
        let least = app.backoff_initial_ms;
        let message = at_least("backoff_initial_ms", least);
        demand(app.backoff_max_ms >= least, "backoff_max_ms", message);
        let most = app.request_timeout_ms;
        let message = format!("expected at most request_timeout_ms, which is {most}");
        demand(app.connect_timeout_ms <= most, "connect_timeout_ms", message);
    }
}
