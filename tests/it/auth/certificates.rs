//! Clients that are known by a name in their certificate, and what a reload does to those who are
//! connected.

use std::fs;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use userpilot_gateway::proto::{
    StreamUserUpdatesRequest, UpdateUserRequest, ingest_service_client::IngestServiceClient,
};

use super::{TOKEN, ada, bearer, client, request};
use crate::rig::{Authority, Issued, Stage, at_speed, secured, until, within};

const BILLING: &str = "spiffe://corp/billing";

fn billing() -> String {
    format!("[[clients]]\nname = \"billing\"\nsan = \"{BILLING}\"\napps = [\"production\"]\n")
}

/// With a client that is known by its certificate, and one that is known by its token.
async fn stage(gateway: &Authority, clients: &Authority) -> Stage {
    Stage::of(at_speed(100), |site| {
        fs::write(site.path("clients.crt"), clients.pem()).unwrap();
        let site = site.secured_by(gateway).with_plain_admin();
        let site = site.with("tls.client_ca_file", "clients.crt");
        let site = site.with("tls.client_certificate", "optional");
        site.and(&(client("crm", TOKEN, "") + &billing()))
    })
    .await
}

/// What one update of Ada is answered; `None` where no connection comes about.
async fn knock(
    stage: &Stage,
    gateway: &Authority,
    shown: Option<&Issued>,
    token: Option<&str>,
) -> Option<Code> {
    let channel = secured(&stage.gateway.addresses.grpc, &[gateway], shown).await.ok()?;
    Some(ask(channel, token).await)
}

async fn ask(channel: Channel, token: Option<&str>) -> Code {
    let message = UpdateUserRequest { update: Some(ada("")) };
    let authorization = token.and_then(bearer);
    let request = request(message, authorization.as_deref());
    let answer = IngestServiceClient::new(channel).update_user(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_certificate_lets_in_whom_it_names() {
    let (gateway, clients) = (Authority::new("the gateway's"), Authority::new("the clients'"));
    let stage = stage(&gateway, &clients).await;
    let right = clients.client(BILLING);
    let wrong_name = clients.client("spiffe://corp/billing2");
    let stranger = Authority::new("a stranger's").client(BILLING);
    let cases = [
        ("its certificate", Some(&right), None, Code::Ok),
        ("another name", Some(&wrong_name), None, Code::Unauthenticated),
        ("none", None, None, Code::Unauthenticated),
        ("another name with a token", Some(&wrong_name), Some(TOKEN), Code::Ok),
        ("a wrong token with it", Some(&right), Some("upg_x"), Code::Unauthenticated),
    ];
    for (what, shown, token, expected) in cases {
        assert_eq!(knock(&stage, &gateway, shown, token).await, Some(expected), "{what}");
    }
    // The handshake fails: with TLS 1.3 the client learns of it with its first request at the
    // latest.
    let refused = knock(&stage, &gateway, Some(&stranger), None).await;
    assert!(!matches!(refused, Some(Code::Ok | Code::Unauthenticated)), "{refused:?}");
    let said = stage.gateway.says("tls_handshake_failed").await;
    assert!(said.contains("127.0.0.1:") && said.contains("\"audit\""), "{said}");
}

#[tokio::test]
async fn who_is_taken_out_ends_with_the_reload() {
    let (gateway, clients) = (Authority::new("the gateway's"), Authority::new("the clients'"));
    let stage = stage(&gateway, &clients).await;
    let right = clients.client(BILLING);
    let address = &stage.gateway.addresses.grpc;
    let channel = secured(address, &[&gateway], Some(&right)).await.unwrap();
    let (updates, sent) = mpsc::channel(4);
    let next = |tag| StreamUserUpdatesRequest { tag, update: Some(ada("")), company: None };
    updates.send(next(1)).await.unwrap();
    let requests = ReceiverStream::new(sent);
    let answers = IngestServiceClient::new(channel.clone()).stream_user_updates(requests).await;
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(within("an answer", answers.message()).await.unwrap().unwrap().tag, 1);

    let config = stage.site.config();
    let text = fs::read_to_string(&config).unwrap();
    let mut without: toml::Table = text.parse().unwrap();
    let list = without["clients"].as_array_mut().unwrap();
    list.retain(|client| client["name"].as_str() != Some("billing"));
    assert_eq!(list.len(), 1);
    fs::write(&config, toml::to_string(&without).unwrap()).unwrap();
    stage.gateway.hang_up();
    stage.gateway.says("\"config_reloaded\"").await;

    // The connection stands: the next call on it is refused, and the stream ends.
    assert_eq!(ask(channel.clone(), None).await, Code::Unauthenticated);
    updates.send(next(2)).await.unwrap();
    let end = within("the end of the stream", answers.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert_eq!(knock(&stage, &gateway, None, Some(TOKEN)).await, Some(Code::Ok));

    // And back again.
    fs::write(&config, text).unwrap();
    stage.gateway.hang_up();
    until("to be let in again", async || {
        (ask(channel.clone(), None).await == Code::Ok).then_some(())
    })
    .await;
}
