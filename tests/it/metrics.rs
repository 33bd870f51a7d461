//! The page of metrics: its names stay as docs/metrics.md has them, Prometheus' own tool finds
//! nothing wrong with it, and a real Prometheus scrapes it.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, net::TcpListener, process::Command};

use futures_util::StreamExt as _;
use serde_json::json;
use userpilot_gateway::{
    proto::{
        Lane, StreamUserUpdatesRequest, UpdateUserRequest, UpdateUsersRequest,
        ingest_service_client::IngestServiceClient,
    },
    simulator::PoisonMode,
};

use crate::{
    python::project,
    rig::{Authority, Change, Process, Stage, at_speed, get, secured, settled, until},
};

/// A program of Prometheus', as `make prepare` has unpacked it.
fn of_prometheus(name: &str) -> Command {
    Command::new(project("target/tools/prometheus/usr/bin").join(name))
}

/// What the client's token is.
const TOKEN: &str = "hush";

/// The client that sends, and what becomes of a property that is not wanted.
fn tables() -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
    let hash = hash.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    format!(
        "[[clients]]\nname = \"billing\"\ntoken_sha256 = \"{hash}\"\napps = [\"production\"]\n\
         pending_records_max = 1000\nupdates_per_second_max = 1000\n"
    )
}

/// A gateway to which everything has happened that has a metric: some metrics are not there before.
pub(crate) async fn busy() -> Stage {
    let authority = Authority::new("the gateway's");
    let rules: toml::Table = "deny = [\"ssn\"]\non_mismatch = \"drop\"".parse().unwrap();
    let stage = Stage::of(at_speed(100), |site| {
        let site = site.and(&tables()).with("app.express", true).with("app.properties", rules);
        site.secured_by(&authority).with_plain_admin()
    })
    .await;
    let channel = secured(&stage.gateway.addresses.grpc, &[&authority], None).await.unwrap();
    let mut ingest = IngestServiceClient::new(channel);
    let mut send = async |updates: &[(&str, Lane)]| {
        let update = |(user, lane): &(&str, Lane)| {
            let mut update =
                Change::new(*user, json!({ "plan": "pro", "ssn": "078-05-1120" })).update();
            update.set_lane(*lane);
            update
        };
        let updates = updates.iter().map(update).collect();
        let mut request = tonic::Request::new(UpdateUsersRequest { updates });
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        ingest.update_users(request).await.unwrap();
        settled(&stage.gateway).await;
    };
    send(&[("ada", Lane::Express)]).await;
    stage.simulator.poison(vec!["eve".to_owned()], PoisonMode::RejectBatch);
    send(&[("bob", Lane::Interactive), ("cleo", Lane::Bulk), ("eve", Lane::Bulk)]).await;
    stage.gateway.hang_up();
    let fresh =
        |lane: &str| format!("freshness_seconds_count{{app=\"production\",lane=\"{lane}\"}} 1\n");
    let mut told = ["express", "interactive", "bulk"].map(fresh).to_vec();
    told.push("express_freshness_seconds_count{app=\"production\"} 1\n".to_owned());
    told.push("config_reloads_total{outcome=\"applied\"} 1\n".to_owned());
    told.push("group_commit_size_updates_sum 4.0\n".to_owned());
    told.push("client_updates_per_second_max{client=\"billing\"} 1000\n".to_owned());
    until("all of its metrics", async || {
        let page = page(&stage).await;
        told.iter().all(|line| page.contains(line)).then_some(())
    })
    .await;
    stage
}

pub(crate) async fn page(stage: &Stage) -> String {
    let url = format!("http://{}/metrics", stage.gateway.addresses.http);
    get(&url).await.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_door_method_and_code() {
    let stage = Stage::start(100).await;
    let addresses = stage.gateway.addresses.clone();
    let mut ingest = stage.gateway.ingest().await;
    for (user, is_good) in [("ada", true), ("", false), ("bob", true)] {
        let update = Some(Change::new(user, json!({ "plan": "pro" })).update());
        let answer = ingest.update_user(UpdateUserRequest { update }).await;
        assert_eq!(answer.is_ok(), is_good, "{answer:?}");
    }
    let message = |tag| {
        let update = Change::new(format!("user-{tag}"), json!({ "plan": "pro" })).update();
        StreamUserUpdatesRequest { tag, update: Some(update), company: None }
    };
    let sent = tokio_stream::iter((1..=3).map(message));
    let answers = ingest.stream_user_updates(sent).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 3);
    let identify = json!({ "user_id": "cyd", "metadata": {} });
    for (path, code) in [("/v1/identify", 202_u16), ("/apps/production/v1/identify", 202)] {
        let url = format!("http://{}{path}", addresses.http);
        let answer = crate::rig::http().post(url).json(&identify).send().await.unwrap();
        assert_eq!(answer.status(), code);
    }
    assert_eq!(get(&format!("http://{}/nowhere", addresses.http)).await.status(), 404);
    settled(&stage.gateway).await;
    let counted = |of: &str, count| format!("request_duration_seconds_count{{{of}}} {count}\n");
    let told = [
        counted(r#"door="grpc",method="UpdateUser",code="OK""#, 2),
        counted(r#"door="grpc",method="UpdateUser",code="INVALID_ARGUMENT""#, 1),
        counted(r#"door="grpc",method="StreamUserUpdates",code="OK""#, 1),
        counted(r#"door="http",method="/v1/identify",code="202""#, 2),
        counted(r#"door="http",method="other",code="404""#, 1),
    ];
    let is_told = async || {
        let page = page(&stage).await;
        let asked = page.contains(r#"count{door="admin",method="GetStatus",code="OK"}"#);
        (asked && told.iter().all(|line| page.contains(line))).then_some(())
    };
    until("all of its requests", is_told).await;
}

/// A family of the page: its type, its unit, its help, and the labels of its samples.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    unit: String,
    help: String,
    labels: Vec<String>,
}

/// The families, by name.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (word, name) = (words.next().unwrap(), words.next());
            let (Some(name), Some(text)) = (name, words.next()) else { continue };
            let family = families.entry(name.to_owned()).or_default();
            match word {
                "HELP" => family.help = text.trim_end_matches('.').to_owned(),
                "TYPE" => family.kind = text.to_owned(),
                "UNIT" => family.unit = text.to_owned(),
                other => panic!("{other}: {line}"),
            }
        } else if let Some((name, rest)) = line.split_once('{') {
            let of = families.iter_mut().filter(|(family, _)| name.starts_with(&***family));
            let (_, family) = of.max_by_key(|(family, _)| family.len()).unwrap();
            let labels = rest.split_once('}').unwrap().0.split(',');
            for label in labels.filter_map(|label| Some(label.split_once('=')?.0)) {
                if label != "le" && !family.labels.iter().any(|known| known == label) {
                    family.labels.push(label.to_owned());
                }
            }
        }
    }
    families
}

fn markdown(families: &BTreeMap<String, Family>) -> String {
    let mut table = "| name | type | labels | what it is |\n|---|---|---|---|\n".to_owned();
    for (name, Family { kind, unit: _, help, labels }) in families {
        let total = if kind == "counter" { "_total" } else { "" };
        let labels = labels.join(", ");
        writeln!(table, "| `{name}{total}` | {kind} | {labels} | {help} |").unwrap();
    }
    table
}

const BEGIN: &str = "<!-- made of a running gateway: UPDATE_DOCS=1 -->\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_are_those_that_are_documented() {
    let page = page(&busy().await).await;
    let made = markdown(&families(&page));
    let path = project("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, documented) = text.split_once(BEGIN).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}")).unwrap();
        return;
    }
    assert_eq!(documented, made, "UPDATE_DOCS=1 renews docs/metrics.md");
}

/// Labels, their values and units: what stands in the code beside the names of metrics.
const OTHER_WORDS: &[&str] = &[
    "app",
    "applied",
    "client",
    "dead",
    "delivered",
    "gateway",
    "kind",
    "lane",
    "linux",
    "other",
    "outcome",
    "reason",
    "refused",
    "requeued",
    "split",
    "state",
    "unknown",
    "userpilot_gateway",
    "version",
    "whose",
];

#[test]
fn every_name_of_a_metric_in_the_code_is_documented() {
    let documented = fs::read_to_string(project("docs/metrics.md")).unwrap();
    let is_documented = |name: &str| {
        let prefix = if name.starts_with("process_") { "" } else { "userpilot_gateway_" };
        ["", "_total", "_seconds"]
            .iter()
            .any(|unit| documented.contains(&format!("\n| `{prefix}{name}{unit}` |")))
    };
    let mut files =
        vec![project("src/telemetry/metrics.rs"), project("src/telemetry/properties.rs")];
    for entry in fs::read_dir(project("src/telemetry/metrics")).unwrap() {
        files.push(entry.unwrap().path());
    }
    let (mut names, mut unknown) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for word in text.split('"').skip(1).step_by(2).filter(|word| is_word(word)) {
            match is_documented(word) {
                true => names += 1,
                false if OTHER_WORDS.contains(&word) => {}
                false => unknown.push(word.to_owned()),
            }
        }
    }
    assert!(unknown.is_empty(), "neither in docs/metrics.md nor a known label: {unknown:?}");
    assert!(names > 55, "{names}: the names are not found where they are looked for");
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_wrong_with_the_page() {
    let page = page(&busy().await).await;
    // It reads the older format, in which a counter's family is called as its sample.
    let mut older = String::new();
    let counters: Vec<String> = families(&page)
        .into_iter()
        .filter(|(_, family)| family.kind == "counter")
        .map(|(name, _)| name)
        .collect();
    for line in page.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF") {
        let mut words: Vec<&str> = line.splitn(4, ' ').collect();
        let total;
        if line.starts_with("# ") && counters.iter().any(|counter| counter == words[2]) {
            total = format!("{}_total", words[2]);
            words[2] = &total;
        }
        writeln!(older, "{}", words.join(" ")).unwrap();
    }
    let output =
        Process::start(of_prometheus("promtool").args(["check", "metrics"]), &older).end().await;
    assert!(output.status.success(), "{output:?}\n{older}");
    assert_eq!((&*output.stdout, &*output.stderr), ("", ""), "{older}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_scrapes_it() {
    let stage = busy().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let target = &stage.gateway.addresses.http;
    let text = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\n\
         scrape_configs:\n- job_name: gateway\n  static_configs: [{{targets: ['{target}']}}]\n"
    );
    fs::write(&config, text).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = of_prometheus("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={free}"));
    let mut prometheus = Process::start(&mut command, "");
    let value = async |query: &str| {
        let url = reqwest::Url::parse_with_params(
            &format!("http://{free}/api/v1/query"),
            &[("query", query)],
        );
        let answer = crate::rig::http().get(url.unwrap()).send().await.ok()?;
        let answer: serde_json::Value = answer.json().await.ok()?;
        let value = answer.pointer("/data/result/0/value/1")?.as_str()?.to_owned();
        Some(value)
    };
    let query = "userpilot_gateway_accepted_updates_total{app=\"production\"}";
    let accepted = until("a scrape", async || value(query).await).await;
    assert_eq!(accepted, "4");
    let of =
        "histogram_quantile(0.99, userpilot_gateway_freshness_seconds_bucket{lane=\"bulk\"}) > 0";
    until("freshness", async || value(of).await).await;
    assert_eq!(value("up").await.as_deref(), Some("1"));
    prometheus.kill();
}
