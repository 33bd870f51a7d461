//! What a reload does to calls that are under way: whoever makes them is judged anew.

use std::fs;

use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};
use userpilot_gateway::{
    door::token::Hash,
    proto::{
        StreamUserUpdatesRequest, StreamUserUpdatesResponse, WatchStatusRequest,
        ingest_service_client::IngestServiceClient,
    },
};

use super::{
    ada, bearer, client,
    issuer::{AUDIENCE, ISSUER, Issuer, claims, publish},
    request,
};
use crate::rig::{Authority, Gateway, Site, Stage, at_speed, secured, until, within};

/// A stream of updates that is answered one by one.
pub(super) struct Conversation {
    updates: mpsc::Sender<StreamUserUpdatesRequest>,
    answers: Streaming<StreamUserUpdatesResponse>,
}

impl Conversation {
    pub(super) async fn begin(
        mut ingest: IngestServiceClient<Channel>,
        token: Option<&str>,
    ) -> Self {
        let (updates, sent) = mpsc::channel(1);
        let authorization = token.and_then(bearer);
        let requests = request(ReceiverStream::new(sent), authorization.as_deref());
        let answers = ingest.stream_user_updates(requests).await.unwrap().into_inner();
        let mut conversation = Self { updates, answers };
        assert_eq!(conversation.next().await, Code::Ok);
        conversation
    }

    /// What the next update is answered.
    pub(super) async fn next(&mut self) -> Code {
        let next = StreamUserUpdatesRequest { tag: 1, update: Some(ada("")), company: None };
        self.updates.send(next).await.unwrap();
        match within("an answer", self.answers.message()).await {
            Ok(answer) => answer.map_or(Code::Cancelled, |_| Code::Ok),
            Err(status) => status.code(),
        }
    }
}

async fn applied(gateway: &Gateway) -> u64 {
    let (_, _, page) = gateway.page("/metrics").await;
    let name = "userpilot_gateway_config_reloads_total{outcome=\"applied\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

/// Writes a file of the configuration, and waits until that is in force.
pub(super) async fn put(stage: &Stage, file: &str, text: &str) {
    let before = applied(&stage.gateway).await;
    fs::write(stage.site.path(file), text).unwrap();
    let is_applied = async || (applied(&stage.gateway).await > before).then_some(());
    until("the new configuration", is_applied).await;
}

fn auth(keys: &str) -> String {
    let issuer = format!("[auth]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n{keys}\n");
    issuer + &client("crm", "upg_x", "jwt_subject = \"svc-crm\"")
}

#[tokio::test]
async fn a_json_web_token_is_judged_by_the_issuer_and_the_keys_of_now() {
    let (issuer, other) = (Issuer::new("key-1"), Issuer::new("key-1"));
    let stage = Stage::of(at_speed(100), |site: Site| {
        fs::write(site.path("jwks.json"), issuer.key_set().to_string()).unwrap();
        site.and(&auth("jwks_file = \"jwks.json\""))
    })
    .await;
    let token = issuer.token(&json!({}), &claims(json!({})));
    let text = fs::read_to_string(stage.site.config()).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        text.replace(from, to)
    };
    let cases = [
        ("gateway.toml", text.clone(), changed(AUDIENCE, "others"), Code::Unauthenticated),
        ("gateway.toml", text.clone(), changed(ISSUER, "https://x"), Code::Unauthenticated),
        ("gateway.toml", text.clone(), changed("svc-crm", "svc-x"), Code::Unauthenticated),
        (
            "jwks.json",
            issuer.key_set().to_string(),
            other.key_set().to_string(),
            Code::Unauthenticated,
        ),
        ("gateway.toml", text.clone(), changed("\"crm\"", "\"crm2\""), Code::Ok),
    ];
    for (file, before, after, expected) in cases {
        let mut stream = Conversation::begin(stage.gateway.ingest().await, Some(&token)).await;
        put(&stage, file, &after).await;
        assert_eq!(stream.next().await, expected, "{after}");
        put(&stage, file, &before).await;
    }
}

#[tokio::test]
async fn a_key_that_the_issuer_publishes_no_more_ends_the_streams_of_its_tokens() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let published = publish(old.key_set()).await;
    let keys = format!(
        "jwks_url = \"{}\"\njwks_age_max_ms = 1000\njwks_interval_min_ms = 100",
        published.url
    );
    let stage = Stage::of(at_speed(100), |site: Site| site.and(&auth(&keys))).await;
    let token = old.token(&json!({}), &claims(json!({})));
    let mut stream = Conversation::begin(stage.gateway.ingest().await, Some(&token)).await;
    published.replace(new.key_set());
    let end = until("the end of the stream", async || {
        Some(stream.next().await).filter(|code| *code != Code::Ok)
    })
    .await;
    assert_eq!(end, Code::Unauthenticated);
}

#[tokio::test]
async fn a_ca_that_is_taken_out_is_believed_on_no_connection_any_more() {
    let gateway = Authority::new("the gateway's");
    let [old, new] = ["the old one", "the new one"].map(Authority::new);
    let san = "spiffe://corp/billing";
    let stage = Stage::of(at_speed(100), |site: Site| {
        fs::write(site.path("clients.crt"), old.pem() + &new.pem()).unwrap();
        let site = site.secured_by(&gateway).with_plain_admin();
        let site = site.with("tls.client_ca_file", "clients.crt");
        let site = site.with("tls.client_certificate", "required");
        let billing =
            format!("[[clients]]\nname = \"billing\"\nsan = \"{san}\"\napps = [\"production\"]\n");
        site.and(&(billing + &client("crm", "upg_x", "")))
    })
    .await;
    let connect = async |by: &Authority| {
        let shown = by.client(san);
        let channel = secured(&stage.gateway.addresses.grpc, &[&gateway], Some(&shown)).await;
        IngestServiceClient::new(channel.unwrap())
    };
    let (with_old, with_new) = (connect(&old).await, connect(&new).await);
    let mut revoked = Conversation::begin(with_old.clone(), None).await;
    let mut kept = Conversation::begin(with_new.clone(), None).await;
    put(&stage, "clients.crt", &new.pem()).await;

    assert_eq!(revoked.next().await, Code::Unauthenticated);
    assert_eq!(kept.next().await, Code::Ok);
    // The connection is closed, so that a token is of no use on it either, and no other comes
    // about.
    until("the end of the connection", async || {
        let message = request(Default::default(), bearer("upg_x").as_deref());
        let answer = with_old.clone().update_users(message).await;
        answer.is_err().then_some(())
    })
    .await;
    let message = request(Default::default(), None);
    assert!(with_new.clone().update_users(message).await.is_ok());
}

#[tokio::test]
async fn a_watch_ends_with_the_rights_of_whoever_watches() {
    let admin = |name: &str, role: &str| {
        let hash = Hash::of(&format!("upg_{name}"));
        format!("[[admins]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\nrole = \"{role}\"\n")
    };
    let tables = admin("ada", "reader") + &admin("bob", "reader") + &admin("cyd", "operator");
    let stage = Stage::of(at_speed(100), |site| site.and(&tables)).await;
    let mut operators = stage.gateway.admin().await;
    let mut watch = async |token: &str| {
        // The next status would come long after the test.
        let interval = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        let watch = request(WatchStatusRequest { interval }, bearer(token).as_deref());
        let mut statuses = operators.watch_status(watch).await.unwrap().into_inner();
        assert!(within("a status", statuses.message()).await.unwrap().is_some());
        statuses
    };
    let (mut revoked, mut kept) = (watch("upg_ada").await, watch("upg_bob").await);
    let mut lowered = watch("upg_cyd").await;
    let text = fs::read_to_string(stage.site.config()).unwrap();
    let text = text.replace("\"operator\"", "\"reader\"");
    let hash = |name: &str| Hash::of(&format!("upg_{name}")).to_string();
    put(&stage, "gateway.toml", &text.replace(&hash("ada"), &hash("eve"))).await;
    let end = within("the end of the watch", revoked.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert_eq!(end.message(), "no valid credential");
    // Whoever may see less from now on is not told more, and may watch anew.
    let end = within("the end of the operator's watch", lowered.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    drop(watch("upg_cyd").await);
    // Whoever is still one goes on watching.
    stage.gateway.terminate();
    let end = within("the end of the gateway", kept.message()).await;
    assert!(end.is_ok_and(|status| status.is_none()));
}
