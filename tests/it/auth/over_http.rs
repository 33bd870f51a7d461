//! Certificates, and an issuer's keys that are fetched, at the HTTP door.

use std::fs;

use reqwest::{Certificate, Client, Identity};
use serde_json::json;
use tonic::Code;

use super::{
    AUDIENCE, Door, ISSUER, TOKEN, bearer, claims, client,
    issuer::{self, Issuer},
    knock,
};
use crate::rig::{Authority, Issued, Site, Stage, at_speed, http, until};

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
}
