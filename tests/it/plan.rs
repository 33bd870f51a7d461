//! Capacity questions, as their askers run them.

use std::fs;

use serde_json::json;

use crate::rig::run;

#[tokio::test]
async fn a_backfill_and_an_outage_are_answered_with_a_table_and_a_chart() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("plan.html");
    let line = "plan --backfill 9000 --outage 0s..10m --hours 1 --users-per-minute 3600 --chart";
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.push(chart.to_str().unwrap());
    let output = run(&arguments, "").await;
    assert!(output.status.success(), "{output:?}");
    // 9,000 users at sixty a second take two and a half minutes, and there was nobody for ten.
    for expected in
        ["60.0 min in virtual time", "9000 sent", "bulk lane", "The backlog is drained at 1"]
    {
        assert!(output.stdout.contains(expected), "{expected}: {}", output.stdout);
    }
    let page = fs::read_to_string(&chart).unwrap();
    assert!(page.contains("<svg") && page.contains("The backlog is drained at"), "{page}");

    arguments.extend(["--output", "json"]);
    let output = run(&arguments, "").await;
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let drained = report["drained_at_s"].as_f64().unwrap();
    assert!((750.0..840.0).contains(&drained), "{drained}");
    assert_eq!(report["rows"], 9_000);
}

#[tokio::test]
async fn a_trace_is_replayed_under_the_configured_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (config, trace) = (folder.path().join("gateway.toml"), folder.path().join("trace.ndjson"));
    let key = folder.path().join("key");
    fs::write(&key, "a-secret-key").unwrap();
    let app = "name = \"crm\"\napi_key_file = \"key\"\nlinger_ms = 5000\n";
    fs::write(&config, format!("[[apps]]\n{app}")).unwrap();
    let lines = r#"{"at": "2026-11-24T08:00:00Z", "user_id": "ada", "client": "crm"}
{"at": "2026-11-24T08:00:04Z", "user_id": "ada", "client": "billing", "lane": "bulk"}
"#;
    fs::write(&trace, lines).unwrap();
    let (config, trace) = (config.to_str().unwrap(), trace.to_str().unwrap());
    let arguments = ["plan", "--config", config, "--trace", trace, "--output", "json"];
    let output = run(&arguments, "").await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.lines().count(), 1, "a document a line");
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    // They lingered for five seconds, and so became one row.
    assert_eq!((&report["accepted_updates"], &report["rows"]), (&2.into(), &1.into()));

    // What a client is called in a trace does not steer the terminal.
    let line = |client: &str| json!({"at": 1.0, "user_id": "1", "client": client}).to_string();
    fs::write(trace, line("eve\u{1b}]0;owned\u{7}") + "\n" + &line("web") + "\n").unwrap();
    let shown = run(&["plan", "--config", config, "--trace", trace], "").await;
    assert!(shown.stdout.contains("eve\\u{1b}]0;owned\\u{7} (interactive)"), "{shown:?}");
    assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
    fs::write(trace, "{\"at\": 1}\n").unwrap();
    let output = run(&arguments, "").await;
    assert!(!output.status.success());
    assert!(output.stderr.contains("line 1: missing field `user_id`"), "{output:?}");
    let nothing = run(&["plan"], "").await;
    assert!(nothing.stderr.contains("say what comes with --updates-per-second"), "{nothing:?}");
}
