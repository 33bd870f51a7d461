//! Listeners that others than this machine reach, and who may read what on them.

use serde_json::json;
use userpilot_gateway::door::token::Hash;

use crate::rig::{Change, Site, Stage, at_speed, http, run};

const LISTENERS: [(&str, &str); 3] =
    [("grpc_listen", "clients"), ("http_listen", "clients"), ("admin_listen", "admins")];

#[tokio::test]
async fn a_gateway_that_others_reach_does_not_start_without_credentials() {
    for (key, list) in LISTENERS {
        let site = Site::new("http://127.0.0.1:9", 1.0);
        let site = site.with(&format!("server.{key}"), "0.0.0.0:0");
        let refused = site.launch().end().await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        // It says what is wrong, and what can be done about it.
        let wrong = format!("server.{key}: 0.0.0.0:0 is not a loopback address");
        let ways = [format!("configure [[{list}]]"), "\"allow_anyone\"".to_owned()];
        for part in [wrong].iter().chain(&ways) {
            assert!(refused.stderr.contains(part), "{part}: {refused:?}");
        }
        assert!(!site.path("data").exists(), "nothing was begun");
        let config = site.config().display().to_string();
        let checked = run(&["check-config", "--config", &config], "").await;
        assert!(!checked.status.success() && checked.stderr.contains(&ways[0]), "{checked:?}");
    }
}

#[tokio::test]
async fn whoever_forces_it_is_warned_at_each_start_and_served() {
    let stage = Stage::of(at_speed(100), |site| {
        let site = site.with("server.unauthenticated", "allow_anyone");
        LISTENERS
            .iter()
            .fold(site, |site, (key, _)| site.with(&format!("server.{key}"), "0.0.0.0:0"))
    })
    .await;
    for (key, list) in LISTENERS {
        let warning = format!("without [[{list}]] whoever reaches it is let in");
        let said = stage.gateway.log().into_iter().find(|line| line.contains(key));
        assert!(said.is_some_and(|line| line.contains(&warning)), "{key}");
    }
    stage.gateway.says("server.metrics_auth: 0.0.0.0:0 is not a loopback address").await;
    let changes = [Change::new("ada", json!({"plan": "pro"}))];
    stage.sent(&changes).await;
    stage.delivers(&changes).await;
}

fn admin(name: &str, role: &str) -> String {
    let hash = Hash::of(&format!("upg_{name}"));
    format!("[[admins]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\nrole = \"{role}\"\n")
}

#[tokio::test]
async fn metrics_are_for_operators_where_it_is_said() {
    let stage = Stage::of(at_speed(100), |site| {
        let client = format!(
            "[[clients]]\nname = \"crm\"\napps = [\"production\"]\ntoken_sha256 = \"{}\"\n",
            Hash::of("upg_crm")
        );
        let tables = admin("grafana", "reader") + &admin("ada", "operator") + &client;
        site.with("server.metrics_auth", "admin").and(&tables)
    })
    .await;
    let ask = async |path: &str, authorization: Option<&str>| {
        let mut request = http().get(format!("http://{}{path}", stage.gateway.addresses.http));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.send().await.unwrap()
    };
    for right in ["Bearer upg_grafana", "Bearer upg_ada"] {
        let answer = ask("/metrics", Some(right)).await;
        assert_eq!(answer.status(), 200, "{right}");
        assert!(answer.text().await.unwrap().ends_with("# EOF\n"));
    }
    for wrong in [None, Some("Bearer upg_crm"), Some("Bearer upg_x"), Some("upg_ada")] {
        let answer = ask("/metrics", wrong).await;
        assert_eq!(answer.status(), 401, "{wrong:?}");
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        assert_eq!(answer.text().await.unwrap(), "no valid credential\n");
    }
    for around in ["/metrics/", "//metrics", "/METRICS", "/metrics%20", "/%6detrics"] {
        assert!(!ask(around, None).await.text().await.unwrap().contains("# EOF"), "{around}");
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(ask(open, None).await.status(), 200, "{open}");
    }
    // Services are known by their own tokens still.
    assert_eq!(ask("/v1/background_jobs", Some("Bearer upg_crm")).await.status(), 200);
}
