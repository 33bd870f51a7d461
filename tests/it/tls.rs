//! TLS, as clients meet it.

use std::{fs, io::Write as _, net::TcpStream};

use reqwest::{Certificate, Version};
use serde_json::json;
use userpilot_gateway::proto::{
    GetStatusRequest, UpdateUserRequest, UpdateUserResponse,
    admin_service_client::AdminServiceClient, ingest_service_client::IngestServiceClient,
};

use crate::rig::{Authority, Change, Issued, Stage, at_speed, http, run, secured};

async fn send(
    address: &str,
    authority: &Authority,
    client: Option<&Issued>,
) -> Result<UpdateUserResponse, String> {
    // The client of TLS 1.3 has finished before its certificate is looked at: a refusal comes
    // with the connection or with the first call.
    let channel =
        secured(address, &[authority], client).await.map_err(|error| error.to_string())?;
    let update = Some(Change::new("ada", json!({"plan": "pro"})).update());
    let answer = IngestServiceClient::new(channel).update_user(UpdateUserRequest { update }).await;
    answer.map(tonic::Response::into_inner).map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_listener_speaks_tls_and_nothing_else() {
    let authority = Authority::new("the gateway's");
    let simulator = at_speed(100);
    let simulator = userpilot_gateway::simulator::Simulator::start(simulator).await.unwrap();
    let site = crate::rig::Site::new(&simulator.url(), 100.0).secured_by(&authority);
    let gateway = site.serve().await;
    let addresses = &gateway.addresses;
    send(&addresses.grpc, &authority, None).await.unwrap();
    let admin = secured(&addresses.admin, &[&authority], None).await.unwrap();
    AdminServiceClient::new(admin).get_status(GetStatusRequest {}).await.unwrap();

    // Whoever trusts somebody else does not trust it.
    assert!(send(&addresses.grpc, &Authority::new("another"), None).await.is_err());

    drop(http());
    let ca = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = || reqwest::Client::builder().tls_certs_only([ca.clone()]).no_proxy();
    let url = format!("https://{}/readyz", addresses.http);
    let answer = client().build().unwrap().get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let answer = client().http1_only().build().unwrap().get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
    assert!(client().build().unwrap().get(url.replace("https", "http")).send().await.is_err());
    let mut plain = TcpStream::connect(&addresses.grpc).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    gateway.says("a TLS handshake failed").await;
}

#[tokio::test]
async fn clients_show_the_certificate_that_is_asked_for() {
    let authority = Authority::new("the gateway's");
    let clients = Authority::new("the clients'");
    let billing = clients.client("spiffe://corp/billing");
    let stranger = Authority::new("a stranger's").client("spiffe://corp/billing");
    for (policy, without) in [("optional", true), ("required", false)] {
        let stage = Stage::of(at_speed(100), |site| {
            fs::write(site.path("clients.crt"), clients.pem()).unwrap();
            let site = site.secured_by(&authority).with_plain_admin();
            let site = site.with("tls.client_ca_file", "clients.crt");
            site.with("tls.client_certificate", policy)
        })
        .await;
        let grpc = &stage.gateway.addresses.grpc;
        send(grpc, &authority, Some(&billing)).await.unwrap();
        assert!(send(grpc, &authority, Some(&stranger)).await.is_err(), "{policy}");
        assert_eq!(send(grpc, &authority, None).await.is_ok(), without, "{policy}");
    }
}

#[tokio::test]
async fn commands_reach_a_gateway_over_tls_or_say_what_to_do() {
    let authority = Authority::new("the gateway's");
    let clients = Authority::new("the clients'");
    let Issued { cert, key } = clients.client("spiffe://corp/operator");
    let stage = Stage::of(at_speed(100), |site| {
        fs::write(site.path("clients.crt"), clients.pem()).unwrap();
        fs::write(site.path("me.crt"), cert).unwrap();
        fs::write(site.path("me.key"), key).unwrap();
        let site = site.secured_by(&authority).with_plain_admin();
        let site = site.with("tls.client_ca_file", "clients.crt");
        site.with("tls.client_certificate", "required")
    })
    .await;
    let path = |name: &str| stage.site.path(name).display().to_string();
    let (ca, cert, key) = (path("ca.crt"), path("me.crt"), path("me.key"));
    let grpc = &stage.gateway.addresses.grpc;
    let (secure, plain) = (format!("https://{grpc}"), format!("http://{grpc}"));
    let send = async |address: &str, more: &[&str]| {
        let what = ["send", "--user-id", "ada", "--set", "plan=pro", "--address", address];
        run(&[&what, more].concat(), "").await
    };
    let mine = ["--client-cert-file", &cert, "--client-key-file", &key];
    let sent = send(&secure, &[&["--ca-file", &ca], &mine[..]].concat()).await;
    assert!(sent.status.success(), "{sent:?}");

    let check = async |address: &str, more: &[&str], expected: &str| {
        let refused = send(address, more).await;
        assert!(!refused.status.success() && refused.stderr.contains(expected), "{refused:?}");
    };
    check(&secure, &mine, "name the file of its CA with --ca-file").await;
    check(&secure, &["--ca-file", &ca], "--client-cert-file and --client-key-file").await;
    check(&plain, &[], "one that speaks TLS has an https:// address").await;
    check(&plain, &["--ca-file", &ca], "is not an https:// address").await;
    check(&secure, &["--ca-file", "nowhere.crt"], "cannot read nowhere.crt").await;
    let admin = format!("https://{}", stage.gateway.addresses.admin);
    for command in ["status", "jobs"] {
        let refused = run(&[command, "--address", &admin, "--ca-file", &ca], "").await;
        assert!(refused.stderr.contains("use an http:// address"), "{refused:?}");
    }
}
