//! Certificates, and an issuer's keys that are fetched, at the HTTP door.

use std::{fs, time::Duration};

use reqwest::{
    Body, Certificate, Client, Identity,
    multipart::{Form, Part},
};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use userpilot_gateway::{clock, door::token::Hash};

use super::{
    AUDIENCE, Door, ISSUER, TOKEN, bearer, claims, client,
    issuer::{self, Issuer},
    knock,
    reloads::put,
};
use crate::rig::{Authority, Issued, Site, Stage, at_speed, http, until, within};

const BILLING: &str = "spiffe://corp/billing";

/// What identifying Ada is answered; `None` where no connection comes about.
async fn identify(
    address: &str,
    gateway: &Authority,
    shown: Option<&Issued>,
    token: Option<&str>,
) -> Option<u16> {
    drop(http());
    let ca = Certificate::from_pem(gateway.pem().as_bytes()).unwrap();
    let mut builder = Client::builder().tls_certs_only([ca]);
    if let Some(Issued { cert, key }) = shown {
        let pem = format!("{cert}{key}");
        builder = builder.identity(Identity::from_pem(pem.as_bytes()).unwrap());
    }
    let url = format!("https://{address}/v1/identify");
    let mut request = builder.build().unwrap().post(url).json(&json!({"user_id": "ada"}));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Some(request.send().await.ok()?.status().as_u16())
}

#[tokio::test]
async fn a_certificate_lets_in_whom_it_names_over_http_too() {
    let (gateway, clients) = (Authority::new("the gateway's"), Authority::new("the clients'"));
    let stage = Stage::of(at_speed(100), |site| {
        fs::write(site.path("clients.crt"), clients.pem()).unwrap();
        let site = site.secured_by(&gateway).with("tls.admin", false);
        let site = site.with("tls.client_ca_file", "clients.crt");
        let site = site.with("tls.client_certificate", "optional");
        let tables = "[[clients]]\nname = \"billing\"\nsan = \"".to_owned()
            + BILLING
            + "\"\napps = [\"production\"]\n";
        site.and(&(client("crm", TOKEN, "") + &tables))
    })
    .await;
    let address = &stage.gateway.addresses.http;
    let right = clients.client(BILLING);
    let wrong_name = clients.client("spiffe://corp/billing2");
    let stranger = Authority::new("a stranger's").client(BILLING);
    for (what, shown, token, expected) in [
        ("its certificate", Some(&right), None, Some(202)),
        ("another name", Some(&wrong_name), None, Some(401)),
        ("none", None, None, Some(401)),
        ("another name with a token", Some(&wrong_name), Some(TOKEN), Some(202)),
        ("a wrong token with it", Some(&right), Some("upg_x"), Some(401)),
        ("another authority's", Some(&stranger), None, None),
    ] {
        assert_eq!(identify(address, &gateway, shown, token).await, expected, "{what}");
    }
    assert_eq!(identify(address, &clients, Some(&right), None).await, None, "whom it trusts");
}

#[tokio::test]
async fn a_key_that_the_issuer_comes_to_use_is_fetched_for_the_http_door_too() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let published = issuer::publish(old.key_set()).await;
    let url = published.url.clone();
    let stage = Stage::of(at_speed(100), |site: Site| {
        let auth = format!(
            "[auth]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{url}\"\n\
             jwks_interval_min_ms = 100\n"
        );
        site.and(&(auth + &client("crm", "upg_x", "jwt_subject = \"svc-crm\"")))
    })
    .await;
    let knock = async |issuer: &Issuer| {
        let token = issuer.token(&json!({}), &claims(json!({})));
        knock(Door::Http, &stage.gateway, bearer(&token).as_deref(), "production").await
    };
    assert_eq!(knock(&old).await, Code::Ok);
    assert_eq!(knock(&new).await, Code::Unauthenticated);
    published.replace(new.key_set());
    until("the new key to be taken", async || (knock(&new).await == Code::Ok).then_some(())).await;
    assert_eq!(knock(&old).await, Code::Unauthenticated);
    // Who decides who may send has changed: that is on record, once for each change.
    let events = until("both key sets on record", async || {
        let log = stage.gateway.log();
        let events = log.into_iter().filter(|line| line.contains("\"issuer_keys_changed\""));
        Some(events.collect::<Vec<_>>()).filter(|events| events.len() >= 2)
    })
    .await;
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, key) in events.iter().zip(["old", "new"]) {
        assert!(event.contains(ISSUER) && event.contains(&format!("\"{key}\"")), "{event}");
    }
}

#[tokio::test]
async fn a_token_is_taken_for_as_long_as_the_configuration_has_it() {
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, ""))).await;
    let config = fs::read_to_string(stage.site.config()).unwrap();
    let without = config.replace(&Hash::of(TOKEN).to_string(), &Hash::of("upg_y").to_string());
    let knock = async |door: Door| {
        knock(door, &stage.gateway, bearer(TOKEN).as_deref(), "production").await
    };
    for (config, expected) in
        [(&config, Code::Ok), (&without, Code::Unauthenticated), (&config, Code::Ok)]
    {
        if knock(Door::Http).await != expected {
            put(&stage, "gateway.toml", config).await;
        }
        for door in [Door::Grpc, Door::Http] {
            assert_eq!(knock(door).await, expected, "{door:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_ends_with_the_json_web_token_that_let_it_in() {
    const CHUNK: usize = 256;
    let issuer = Issuer::new("key-1");
    let stage = Stage::of(at_speed(100), |site: Site| {
        fs::write(site.path("jwks.json"), issuer.key_set().to_string()).unwrap();
        let auth = format!(
            "[auth]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_file = \"jwks.json\"\n\
             leeway_ms = 0\n"
        );
        site.and(&(auth + &client("crm", "upg_x", "jwt_subject = \"svc-crm\"")))
    })
    .await;
    let expires_at = clock::now().wall.plus(Duration::from_secs(3)).as_micros() / 1_000_000;
    let token = issuer.token(&json!({}), &claims(json!({ "exp": expires_at })));
    let (parts, sent) = mpsc::channel(4);
    let body = Body::wrap_stream(ReceiverStream::new(sent));
    let form = Form::new().part("file", Part::stream(body).file_name("users.ndjson"));
    let url = format!("http://{}/v1/users/bulk_identify", stage.gateway.addresses.http);
    let mut uploading = JoinSet::new();
    uploading.spawn(http().post(url).bearer_auth(&token).multipart(form).send());
    let rows = "{\"user_id\": \"ada\"}\n".repeat(CHUNK);
    parts.send(Ok::<_, std::io::Error>(rows.clone())).await.unwrap();
    until("rows that are taken", async || {
        let metrics = stage.gateway.page("/metrics").await.2;
        metrics.contains("client_accepted_updates_total{client=\"crm\"} 256\n").then_some(())
    })
    .await;
    until("the end of the token", async || {
        (clock::now().wall.as_micros() / 1_000_000 > expires_at).then_some(())
    })
    .await;
    parts.send(Ok(rows)).await.unwrap();
    drop(parts);
    let answer = within("an answer", uploading.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    let refusal: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(refusal["errors"][0]["details"]["accepted_rows"], CHUNK, "{refusal}");
}
