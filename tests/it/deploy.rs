//! What deploy/ holds, checked with the tools that would take it. What needs an engine for
//! containers, a cluster or a Grafana is not run: deploy/README.md says so.

mod layouts;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use toml::Table;

use crate::{
    metrics,
    python::{project, python},
    rig::{Authority, Output, Process},
};

/// The least that `systemd-analyze security` may find to say about the unit, in tenths.
const EXPOSURE_MAX: u32 = 15;

/// A tool that `make prepare` has put into its folder.
fn tool(name: &str) -> PathBuf {
    let path = python().ancestors().nth(3).unwrap().join(name);
    assert!(path.exists(), "there is no {}: run `make prepare` once", path.display());
    path
}

/// Runs a program that must be content.
async fn passes(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.current_dir(project("")).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = Process::start(&mut command, "").end().await;
    assert!(output.status.success(), "{command:?}\n{}\n{}", output.stdout, output.stderr);
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn the_manifests_are_what_kubernetes_and_the_operator_take() {
    let folder = tempfile::tempdir().unwrap();
    let custom = folder.path().join("custom.json");
    let tools = tool("kubectl").parent().unwrap().to_owned();
    let arguments = ["tests/deploy/kubernetes.py", text(&tools), text(&custom)];
    let rendered = passes(&python(), &arguments).await;
    let counted = "7 manifests and 2 custom resources, 7 manifests of a fleet\n";
    assert_eq!(rendered.stdout, counted);
    let modules = tool("node_modules");
    let arguments = ["tests/deploy/custom_resources.mjs", text(&modules), text(&custom)];
    let sound = passes(Path::new("node"), &arguments).await;
    assert_eq!(sound.stdout, "ServiceMonitor is sound\nPrometheusRule is sound\n");
}

#[tokio::test]
async fn the_compose_file_keeps_to_its_specification_and_to_this_machine() {
    let binary = env!("CARGO_BIN_EXE_userpilot-gateway");
    let checked = passes(&python(), &["tests/deploy/compose.py", binary]).await;
    assert_eq!(checked.stdout, "4 services\n");
}

#[tokio::test]
async fn the_image_is_made_as_hadolint_asks_and_runs_without_rights() {
    let hadolint = python().with_file_name("hadolint");
    passes(&hadolint, &["--failure-threshold", "style", "deploy/Dockerfile"]).await;
    let file = fs::read_to_string(project("deploy/Dockerfile")).unwrap();
    let last = file.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("gcr.io/distroless/") && last.contains("\nUSER 65532:65532\n"));
    assert!(last.contains(r#"ENTRYPOINT ["/usr/bin/userpilot-gateway"]"#));
    assert!(last.contains(r#"CMD ["serve", "--config", "#));
    let ignored = fs::read_to_string(project(".dockerignore")).unwrap();
    for secret in [".git", "**/data", "**/*.key", "**/*.pem", "**/.env", "/gateway.toml"] {
        assert!(ignored.lines().any(|line| line == secret), "{secret} gets into the image");
    }
}

#[tokio::test]
async fn each_alert_tells_what_it_should_and_nothing_else() {
    let promtool = tool("prometheus/usr/bin/promtool");
    passes(&promtool, &["check", "config", "deploy/prometheus/prometheus.yml"]).await;
    passes(&promtool, &["check", "rules", "deploy/prometheus/alerts.yml"]).await;
    passes(&promtool, &["test", "rules", "deploy/prometheus/alerts_test.yml"]).await;
}

#[tokio::test]
async fn alerts_and_dashboard_name_metrics_that_there_are_and_the_runbook_knows_each_alert() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("metrics");
    fs::write(&page, metrics::page(&metrics::busy().await).await).unwrap();
    let promtool = tool("prometheus/usr/bin/promtool");
    let arguments = ["tests/deploy/metrics.py", text(&promtool), text(&page)];
    passes(&python(), &arguments).await;
}

#[tokio::test]
async fn the_unit_is_sound_and_keeps_to_itself() {
    let unit = fs::read_to_string(project("deploy/systemd/userpilot-gateway.service")).unwrap();
    let config: Table = read("deploy/systemd/gateway.toml").parse().unwrap();
    let grace_ms = config["server"]["shutdown_grace_ms"].as_integer().unwrap();
    let stop = setting(&unit, "TimeoutStopSec").trim_end_matches('s').parse::<i64>().unwrap();
    assert!(stop * 1_000 > grace_ms + 6_000, "{stop} s are too few to stop in");
    let (name, _) = setting(&unit, "LoadCredential").split_once(':').unwrap();
    assert_eq!(config["apps"][0]["api_key_credential"].as_str(), Some(name));
    let state = format!("/var/lib/{}", setting(&unit, "StateDirectory"));
    assert!(config["store"]["path"].as_str().unwrap().starts_with(&state));
    let sysusers = read("deploy/systemd/userpilot-gateway.conf");
    assert!(sysusers.contains(&format!("\nu {} ", setting(&unit, "User"))));
    // Where the package is configured, cargo-deb's script asks for it by the name that it has here.
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let names = |asset: &toml::Value| [0, 1].map(|at| asset[at].as_str().unwrap().to_owned());
    let is_ours = |[_, to]: &[String; 2]| to.starts_with("usr/lib/sysusers.d/");
    let [from, to] = assets.iter().map(names).find(is_ours).unwrap();
    assert_eq!(Path::new(&from).file_name(), Path::new(&to).file_name());

    // It would hide what clock.rs tells the machine's uptime by.
    let hides = unit.lines().any(|line| line.starts_with("ProcSubset="));
    assert!(!hides, "the gateway would not see the machine's uptime");

    // Where the package would put it, systemd would find it.
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("userpilot-gateway.service");
    let binary = env!("CARGO_BIN_EXE_userpilot-gateway");
    let moved =
        unit.replace("ExecStart=/usr/bin/userpilot-gateway", &format!("ExecStart={binary}"));
    assert_ne!(moved, unit);
    fs::write(&there, moved).unwrap();
    let analyze = Path::new("systemd-analyze");
    let verified = passes(analyze, &["verify", "--man=no", text(&there)]).await;
    assert_eq!(verified.stderr, "");
    let limit = format!("--threshold={EXPOSURE_MAX}");
    passes(analyze, &["security", "--offline=true", &limit, "--no-pager", text(&there)]).await;
}

/// The value of a setting that a unit has once.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {name}"));
    assert_eq!(values.next(), None, "{name} stands twice");
    value
}

fn read(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

#[tokio::test]
async fn the_configurations_are_taken() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("userpilot.key");
    fs::write(&key, "a-key-of-userpilot").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // What the Secret of the database holds.
    let password = keys.path().join("password");
    fs::write(&password, "a-password").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(keys.path().join("ca.crt"), Authority::new("the database's").pem()).unwrap();
    for (path, warnings) in [
        ("deploy/compose/gateway.toml", 4),
        ("deploy/kubernetes/base/gateway.toml", 1),
        ("deploy/kubernetes/fleet/gateway.toml", 1),
        ("deploy/systemd/gateway.toml", 0),
    ] {
        let config = keys.path().join("gateway.toml");
        let mounted = ["/etc/userpilot-gateway/keys", "/etc/userpilot-gateway/database"];
        let moved = mounted
            .iter()
            .fold(read(path), |config, folder| config.replace(folder, text(keys.path())));
        fs::write(&config, moved).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
        command.args(["check-config", "--config", text(&config)]).env_clear();
        command
            .env("USERPILOT_API_KEY", "a-key-of-userpilot")
            .env("CREDENTIALS_DIRECTORY", keys.path());
        let output = Process::start(&mut command, "").end().await;
        assert!(output.status.success(), "{path}: {}", output.stderr);
        // Of listeners that are open, which each of these files says itself.
        let warned = output.stderr.lines().filter(|line| line.starts_with("warning: ")).count();
        assert_eq!(warned, warnings, "{path}: {}", output.stderr);
    }
}

#[test]
fn what_the_package_is_made_of_is_there() {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut installed = Vec::new();
    for asset in deb["assets"].as_array().unwrap() {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let built = from.starts_with("target/");
        assert!(built || from.contains('*') || project(from).exists(), "{from} is not there");
        installed.push(format!("/{to}"));
    }
    for config in deb["conf-files"].as_array().unwrap() {
        assert!(installed.iter().any(|path| path == config.as_str().unwrap()), "{config}");
    }
    let scripts = project(deb["maintainer-scripts"].as_str().unwrap());
    for script in ["postinst", "prerm", "postrm"] {
        let script = fs::read_to_string(scripts.join(script)).unwrap();
        assert!(script.contains("\n#DEBHELPER#\n"), "systemd is not told: {script}");
    }
    let units = &deb["systemd-units"];
    let unit = format!("{}.service", units["unit-name"].as_str().unwrap());
    let unit = project(units["unit-scripts"].as_str().unwrap()).join(unit);
    let unit = fs::read_to_string(unit).unwrap();
    let config = deb["conf-files"][0].as_str().unwrap();
    assert_eq!(
        setting(&unit, "ExecStart"),
        format!("/usr/bin/userpilot-gateway serve --config {config}")
    );
}
