//! Who is no operator's browser: other web pages, and whoever comes where no log-in is asked for.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Browser, OPERATOR, stage, url};
use crate::rig::{Stage, http};

#[tokio::test]
async fn where_no_credential_is_asked_for_whoever_comes_is_an_operator() {
    let stage = Stage::start(100).await;
    let anyone = Browser::visit(&stage.gateway).await;
    let session = anyone.get("/console/api/session").send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    let expected =
        json!({"name": "anyone", "role": "operator", "csrf": anyone.csrf, "login_required": false});
    assert_eq!(session, expected);
    anyone.ask("Pause", json!({})).await;
    assert!(stage.gateway.app().await.paused);
    // Even so, a page needs the session's token.
    let bare = anyone.bare(Method::POST, "/console/api/rpc/Resume").send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_name_that_leads_here_is_not_let_in_where_no_credential_is_asked_for() {
    let stage = Stage::start(100).await;
    let anyone = Browser::visit(&stage.gateway).await;
    let port = stage.gateway.addresses.admin.rsplit(':').next().unwrap();
    let rebound = format!("evil.example:{port}");
    for path in ["/", "/console/", "/console/api/session", "/console/api/events"] {
        let answer = anyone.get(path).header("host", &rebound).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    let pause = anyone.post("/console/api/rpc/Pause").header("host", &rebound).json(&json!({}));
    assert_eq!(pause.send().await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
    let own = format!("localhost:{port}");
    let answer = anyone.get("/console/").header("host", own).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!stage.gateway.app().await.paused);

    // Where one is asked for, a gateway may have any name.
    let guarded = stage_with_admins().await;
    let ada = Browser::log_in(&guarded.gateway, OPERATOR).await;
    // A session's cookie is of one port.
    let port = guarded.gateway.addresses.admin.rsplit(':').next().unwrap();
    let named = format!("gateway.example:{port}");
    let answer = ada.get("/console/api/session").header("host", named);
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
}

async fn stage_with_admins() -> Stage {
    stage().await
}

#[tokio::test]
async fn what_pages_of_other_origins_send_is_refused() {
    let stage = stage().await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let own = url(&stage.gateway, "");
    let pause = || ada.post("/console/api/rpc/Pause").json(&json!({}));
    for (header, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
    ] {
        let answer = pause().header(header, value).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{header}: {value}");
        let login = http().post(url(&stage.gateway, "/console/api/login"));
        let login = login.header(header, value).json(&json!({"token": OPERATOR}));
        assert_eq!(login.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    assert!(!stage.gateway_is_paused(&ada).await);
    let answer = pause().header("origin", &own).header("sec-fetch-site", "same-origin");
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
    assert!(stage.gateway_is_paused(&ada).await);
    // A link to the console may stand anywhere; what it leads to asks for a log-in.
    let page = ada.get("/console/").header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
}

#[tokio::test]
async fn no_web_page_calls_the_service_itself() {
    let stage = Stage::start(100).await;
    let call = || {
        let path = "/userpilot_gateway.v1.AdminService/Pause";
        let call = http().post(url(&stage.gateway, path));
        call.header("content-type", "application/grpc").body(vec![0; 5])
    };
    for (header, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")] {
        let answer = call().header(header, value).send().await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "7", "permission denied");
    }
    assert!(!stage.gateway.app().await.paused);
    call().send().await.unwrap().text().await.unwrap();
    assert!(stage.gateway.app().await.paused, "the call is one");
}

#[tokio::test]
async fn every_answer_tells_browsers_what_to_keep_to() {
    let stage = stage().await;
    let get = async |path: &str| http().get(url(&stage.gateway, path)).send().await.unwrap();
    for (path, status, caching) in [
        ("/console/", 200, "no-cache"),
        ("/console/jobs/00000000000000aa-0-7?app=production", 200, "no-cache"),
        ("/console/none.js", 404, "no-store"),
        ("/console/api/session", 401, "no-store"),
        ("/console/api/none", 404, "no-store"),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for part in ["default-src 'self'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), caching, "{path}");
    }
    let page = get("/console/").await;
    let tag = page.headers()["etag"].clone();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let again = http().get(url(&stage.gateway, "/console/")).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    // The client has followed the way to the page.
    for path in ["/", "/console"] {
        assert_eq!(get(path).await.url().path(), "/console/");
    }
}

#[tokio::test]
async fn a_console_that_is_off_is_not_there() {
    let stage = Stage::of(crate::rig::at_speed(100), |site| site.with("console.enabled", false));
    let stage = stage.await;
    let answer = http().get(url(&stage.gateway, "/console/")).send().await.unwrap();
    // As any path that is no method's.
    assert_eq!(answer.headers()["grpc-status"], "12");
    assert!(stage.gateway.status().await.ready);
}
