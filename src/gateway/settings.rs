//! What each part is told of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use secrecy::ExposeSecret;

use super::housekeeping::{Keeping, Watermark};
use crate::{
    admin::{ShownConfig, access::Admins, grpc::Admin, status::App},
    clock,
    config::{self, AppConfig, Config, ConsoleConfig, LimitsConfig, ServerTls, StoreConfig},
    console::{Console, SessionLimits},
    domain::{
        admission::QueueLimits,
        backoff::BackoffLimits,
        batch::BatchLimits,
        budget::Occupancy,
        delivered::{Suppression, account_print},
        express::ExpressSettings,
        lifecycle::{PartialPolicy, Settings},
        property::{HashKey, OnMismatch, PropertyKind, PropertyRules, PropertyType, TextFormat},
        row::RowValues,
        update::AppId,
    },
    door::{
        http::{BadRows, HttpLimits, Pace, PassThrough},
        listener::ListenerLimits,
        properties::{AppProperties, Properties},
        tls::{ListenerTls, Tls},
        wire::{UpdateLimits, Wire},
    },
    intake::IntakeLimits,
    store::{
        AppTerms, GroupLimits,
        engine::{
            Host, PostgresOptions, RedbOptions, Schema, Sharing, SledOptions, StoreKey, StoreKeys,
        },
        rebuild::RebuildLimits,
    },
    telemetry::Limits,
    upstream::{HttpUpstream, HttpUpstreamOptions, Upload},
};

/// As long as hyper is told to wait for a request's headers.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Into how many stripes an app's subjects are dealt, in a store that several gateways share. One
/// that was made with another number is refused.
const STRIPES: u16 = 8;

/// What the queue and the disk are measured by.
pub(super) fn limits(store: &StoreConfig) -> Limits {
    Limits {
        pending_records_max: store.pending_records_max,
        pending_bytes_max: store.pending_bytes_max,
        free_bytes_min: store.free_bytes_min,
    }
}

pub(crate) fn sled(store: &StoreConfig) -> SledOptions {
    SledOptions { path: store.path.clone(), cache_bytes_max: store.cache_bytes_max }
}

pub(crate) fn redb(store: &StoreConfig) -> RedbOptions {
    RedbOptions { path: store.path.clone(), cache_bytes_max: store.cache_bytes_max }
}

pub(crate) fn postgres(store: &StoreConfig, makes_schema: bool) -> PostgresOptions {
    let config = &store.postgres;
    let host = |host: &config::PostgresHost| Host { name: host.name.clone(), port: host.port };
    PostgresOptions {
        hosts: config.hosts.iter().map(host).collect(),
        database: config.database.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
        schema: Schema::new(&config.schema).expect("its name was checked when it was read"),
        tls: config.rustls.clone(),
        connections_max: config.connections_max,
        connect_timeout: Duration::from_millis(config.connect_timeout_ms),
        statement_timeout: Duration::from_millis(config.statement_timeout_ms),
        sharing: match store.fleet.enabled {
            true => Sharing::Shared { stripes: STRIPES },
            false => Sharing::Alone,
        },
        lease: Duration::from_millis(config.lease_ms),
        folder: store.path.clone(),
        makes_schema,
    }
}

pub(crate) fn keys(store: &StoreConfig) -> StoreKeys {
    let key = |key: &config::StoreKeyBytes| StoreKey::new(key.expose_secret());
    let config::EncryptionConfig { key: active, old_keys, .. } = &store.encryption;
    StoreKeys { active: active.as_ref().map(key), old: old_keys.iter().map(key).collect() }
}

pub(crate) fn queue(store: &StoreConfig, limits: &LimitsConfig) -> QueueLimits {
    QueueLimits {
        records_max: store.pending_records_max,
        bytes_max: store.pending_bytes_max,
        record_bytes_max: limits.record_bytes_max,
        record_properties_max: limits.properties_max,
    }
}

pub(super) fn watermark(store: &StoreConfig) -> Watermark {
    Watermark { path: store.path.clone(), free_bytes_min: store.free_bytes_min }
}

pub(super) fn rebuild(store: &StoreConfig) -> RebuildLimits {
    RebuildLimits {
        rebuild_bytes_min: store.rebuild_bytes_min,
        free_bytes_min: store.free_bytes_min,
    }
}

pub(super) fn groups(config: &Config) -> GroupLimits {
    GroupLimits {
        group_updates_max: config.store.group_updates_max,
        waiting_updates_max: config.intake.waiting_updates_max,
    }
}

pub(super) fn intake(config: &Config) -> IntakeLimits {
    IntakeLimits {
        waiting_updates_max: config.intake.waiting_updates_max,
        waiting_bytes_max: config.intake.waiting_bytes_max,
    }
}

pub(super) fn wire(config: &Config, properties: Properties, apps: &[App]) -> Wire {
    let express = express_apps(config, apps);
    let limits = &config.limits;
    Wire {
        limits: UpdateLimits {
            user_id_bytes_max: limits.user_id_bytes_max,
            company_id_bytes_max: limits.company_id_bytes_max,
            properties_max: limits.properties_max,
            property_name_bytes_max: limits.property_name_bytes_max,
            record_bytes_max: limits.record_bytes_max,
            occurred_at_ahead_max: Duration::from_millis(limits.occurred_at_ahead_max_ms),
        },
        properties,
        express,
        held: held_apps(apps),
    }
}

/// The apps that nothing can be done for, which stays so until the next start.
fn held_apps(apps: &[App]) -> BTreeMap<AppId, String> {
    let held = apps.iter().filter(|app| app.operator.view().held.is_some());
    held.map(|app| (app.id, app.name.clone())).collect()
}

/// The apps that have an express lane, as the store numbers them.
pub(super) fn express_apps(config: &Config, apps: &[App]) -> BTreeSet<AppId> {
    let of_app = |(config, app): (&AppConfig, &App)| config.express.then_some(app.id);
    config.apps.iter().zip(apps).filter_map(of_app).collect()
}

/// The rules for properties, of the apps as the store numbers them.
pub(super) fn properties(config: &Config, apps: &[App]) -> Properties {
    let of_app = |(config, app): (&AppConfig, &App)| {
        (app.id, AppProperties::new(config.name.clone(), rules(&config.properties)))
    };
    config.apps.iter().zip(apps).map(of_app).collect()
}

/// An app's rules for properties.
pub(super) fn rules(properties: &config::PropertiesConfig) -> PropertyRules {
    let config::PropertiesConfig {
        deny,
        allow,
        hash,
        hash_key_file: _,
        hash_key,
        on_mismatch,
        types,
    } = properties;
    let expected = |of: &config::PropertyTypeConfig| PropertyType {
        kind: match of.kind {
            config::TypeWord::String => PropertyKind::String,
            config::TypeWord::Number => PropertyKind::Number,
            config::TypeWord::Boolean => PropertyKind::Boolean,
            config::TypeWord::Date => PropertyKind::Date,
        },
        format: of.format.map(|format| match format {
            config::FormatWord::Email => TextFormat::Email,
            config::FormatWord::Url => TextFormat::Url,
            config::FormatWord::Uuid => TextFormat::Uuid,
        }),
        max_length: of.max_length,
    };
    PropertyRules {
        deny: deny.iter().collect(),
        allow: allow.iter().collect(),
        hash: hash.iter().collect(),
        hash_key: hash_key.as_ref().map(|key| HashKey::new(key.expose_secret().as_bytes())),
        types: types.iter().map(|(name, of)| (name, expected(of))).collect(),
        on_mismatch: match on_mismatch {
            config::MismatchWord::Reject => OnMismatch::Reject,
            config::MismatchWord::Drop => OnMismatch::Drop,
            config::MismatchWord::Warn => OnMismatch::Warn,
        },
    }
}

pub(super) fn http_timeout(config: &Config) -> Duration {
    Duration::from_millis(config.http.request_timeout_ms)
}

pub(super) fn http(config: &Config) -> HttpLimits {
    HttpLimits {
        body_bytes_max: config.server.request_bytes_max,
        bulk_bytes_max: config.http.bulk_bytes_max,
        bulk_rows_max: config.http.bulk_rows_max,
        pace: Pace { bytes_min: config.http.bulk_progress_bytes_min, within: http_timeout(config) },
        bad_rows: match config.http.bad_rows {
            config::BadRows::SkipRows => BadRows::SkipRows,
            config::BadRows::RejectFile => BadRows::RejectFile,
        },
        spool: config.store.path.clone(),
        jobs_max: config.http.jobs_max,
        listed_jobs_max: config.http.listed_jobs_max,
    }
}

/// What of an app is passed through to `upstream`.
pub(super) fn pass_through(app: &AppConfig, upstream: HttpUpstream) -> PassThrough {
    let allowed = app.pass_through.iter().cloned().collect();
    PassThrough::new(upstream, allowed, app.pass_through_per_minute)
}

/// The configuration in force, as operators may see it.
pub(super) fn shown(config: &Config, file: Option<&Path>) -> ShownConfig {
    ShownConfig {
        toml: config.shown_toml(),
        file: file.map(|file| file.display().to_string()).unwrap_or_default(),
        loaded_at: clock::now().wall,
    }
}

pub(super) fn console(
    config: &Config,
    admin: Admin,
    admins: Admins,
    stop: &CancellationToken,
) -> Console {
    let ConsoleConfig { enabled: _, session_idle_ms, session_max_ms, sessions_max } =
        config.console;
    Console {
        admin,
        admins,
        sessions: SessionLimits {
            idle: Duration::from_millis(session_idle_ms),
            total: Duration::from_millis(session_max_ms),
            count: sessions_max,
        },
        is_secure: config.tls.server.is_some() && config.tls.admin,
        stop: stop.clone(),
    }
}

pub(super) fn listener(config: &Config) -> ListenerLimits {
    ListenerLimits {
        connections_max: config.server.connections_max,
        header_bytes_max: config.server.header_bytes_max,
        preface_timeout: PREFACE_TIMEOUT,
        idle: Duration::from_millis(config.server.connection_idle_ms),
    }
}

/// How the gRPC, the HTTP and the admin listener speak TLS, those that do.
pub(super) fn tls(
    config: &Config,
    in_force: Option<&watch::Sender<Tls>>,
) -> [Option<ListenerTls>; 3] {
    let tls = &config.tls;
    let handshake_timeout = Duration::from_millis(tls.handshake_timeout_ms);
    [tls.grpc, tls.http, tls.admin].map(|speaks| {
        let in_force = in_force.filter(|_| speaks)?.subscribe();
        Some(ListenerTls { in_force, handshake_timeout })
    })
}

/// What listeners with TLS go by.
pub(super) fn in_force(server: &ServerTls) -> Tls {
    Tls { rustls: server.rustls.clone(), clients: server.clients.clone() }
}

/// What is kept of what is over.
pub(super) fn keeping(config: &Config) -> Keeping {
    let hour = Duration::from_secs(60 * 60);
    let hours = |hours: u64| hour.saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX));
    Keeping {
        history: hours(config.history.delivered_hours),
        batches_max: config.history.jobs_max as u64,
        dead: hours(config.dead_letters.days.saturating_mul(24)),
        dead_max: config.dead_letters.records_max,
    }
}

/// On what terms an app uses the store.
pub(crate) fn terms(app: &AppConfig, config: &Config) -> AppTerms {
    let full_job = Occupancy::begin(app.job_users_max as u64, app.users_per_minute, clock::now());
    AppTerms { name: app.name.clone(), full_job, suppression: suppression(app, config) }
}

/// Whether an app remembers what it delivers, and for how long that counts.
pub(crate) fn suppression(app: &AppConfig, config: &Config) -> Option<Suppression> {
    let refresh_after = Duration::from_secs(app.refresh_after_hours.saturating_mul(60 * 60));
    let suppression = Suppression {
        refresh_after,
        properties_max: config.limits.properties_max,
        account: account_print(app.base_url.as_str(), values(app)),
    };
    app.suppress_unchanged.then_some(suppression)
}

pub(crate) fn lifecycle(app: &AppConfig) -> Settings {
    Settings {
        users_per_minute: app.users_per_minute,
        linger: Duration::from_millis(app.linger_ms),
        batch: BatchLimits {
            rows_max: app.job_users_max as u64,
            bytes_max: app.batch_bytes_max as u64 - upload(app).envelope_bytes(),
        },
        job_users_min: app.job_users_min as u64,
        overhead_target: app.overhead_target,
        bulk_share: app.bulk_share,
        poll_interval: (
            Duration::from_millis(app.poll_interval_min_ms),
            Duration::from_millis(app.poll_interval_max_ms),
        ),
        backoff: BackoffLimits {
            initial: Duration::from_millis(app.backoff_initial_ms),
            max: Duration::from_millis(app.backoff_max_ms),
        },
        retry_after_max: Duration::from_millis(app.retry_after_max_ms),
        held_retry: Duration::from_millis(app.held_retry_ms),
        failed_jobs_max: app.failed_jobs_max,
        partial: match app.on_partial {
            config::OnPartial::Isolate => PartialPolicy::Isolate,
            config::OnPartial::Accept => PartialPolicy::Accept,
        },
        values: values(app),
    }
}

fn values(app: &AppConfig) -> RowValues {
    match app.stringify_values {
        true => RowValues::Text,
        false => RowValues::Primitive,
    }
}

/// Of an app with an express lane; and as what its values go up.
pub(crate) fn express(app: &AppConfig) -> Option<(ExpressSettings, RowValues)> {
    let Settings { backoff, retry_after_max, held_retry, values, .. } = lifecycle(app);
    let settings = ExpressSettings {
        per_minute: app.express_per_minute,
        requests_max: app.express_requests_max,
        backoff,
        retry_after_max,
        held_retry,
    };
    app.express.then_some((settings, values))
}

fn upload(app: &AppConfig) -> Upload {
    match app.upload {
        config::Upload::File => Upload::File,
        config::Upload::Json => Upload::Json,
    }
}

pub(crate) fn upstream(app: &AppConfig) -> HttpUpstreamOptions {
    HttpUpstreamOptions {
        base_url: app.base_url.clone(),
        api_key: app.api_key.clone(),
        upload: upload(app),
        request_timeout: Duration::from_millis(app.request_timeout_ms),
        connect_timeout: Duration::from_millis(app.connect_timeout_ms),
        answer_bytes_max: app.answer_bytes_max,
    }
}
