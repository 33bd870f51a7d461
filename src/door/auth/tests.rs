//! Who is let in, and who is not any more.

use http::{HeaderValue, header::AUTHORIZATION};
use rcgen::SanType;
use tokio::sync::watch;

use super::*;
use crate::{
    domain::update::{AppId, ClientId},
    door::{
        peer::testing::{self, Ca, trusting},
        rate::Rate,
        tls::Tls,
    },
};

const GRPC: (Door, Schemes) = (Door::Grpc, Schemes::Bearer);

const FROM: (Door, Option<SocketAddr>) = (Door::Grpc, None);

fn grant(name: &str, tokens: &[&str]) -> Grant {
    let client = Client {
        id: ClientId(7),
        name: name.to_owned(),
        is_configured: true,
        apps: [("production".to_owned(), AppId(0))].into(),
        rate: Rate::new(5).map(Arc::new),
        ..Client::default()
    };
    let tokens = tokens.iter().map(|token| Hash::of(token)).collect();
    Grant { client, tokens, sans: vec![format!("spiffe://corp/{name}")], subjects: Vec::new() }
}

fn access(grants: Vec<Grant>) -> Access {
    Access { grants, ..Access::default() }
}

fn headers(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

/// Of a request by a connection for which a certificate with these names was shown, and what
/// changes whom to trust.
fn connected(ca: &Ca, sans: &[&str]) -> (Extensions, watch::Sender<Tls>) {
    let names = sans.iter().map(|san| SanType::URI((*san).try_into().unwrap())).collect();
    let (peer, in_force) = testing::peer(Some(&[ca.issue(names)]), trusting(&[ca], false));
    let mut extensions = Extensions::new();
    extensions.insert(peer);
    (extensions, in_force)
}

fn certificate(sans: &[&str]) -> Extensions {
    connected(&Ca::new(), sans).0
}

fn name(callers: &Callers, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
    match callers.admit_at_once(headers, extensions, GRPC).unwrap() {
        Ok(caller) => Some(caller.client().name.clone()),
        Err(Refusal::Unauthenticated) => None,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_token_or_a_name_in_a_certificate_tells_who_calls() {
    let callers =
        Callers::new(access(vec![grant("billing", &["old", "new"]), grant("crm", &["c"])]));
    let nothing = Extensions::new();
    let check = |headers: &HeaderMap, extensions: &Extensions, expected: Option<&str>| {
        assert_eq!(name(&callers, headers, extensions).as_deref(), expected);
    };
    check(&headers("old"), &nothing, Some("billing"));
    check(&headers("new"), &nothing, Some("billing"));
    check(&headers("c"), &nothing, Some("crm"));
    for wrong in ["", "d", "cc", "OLD", &Hash::of("c").to_string()] {
        check(&headers(wrong), &nothing, None);
    }
    check(&HeaderMap::new(), &nothing, None);
    check(&HeaderMap::new(), &certificate(&["a", "spiffe://corp/crm"]), Some("crm"));
    check(&HeaderMap::new(), &certificate(&["spiffe://corp/other"]), None);
    check(&HeaderMap::new(), &certificate(&[]), None);
    // A wrong token is not made good by a certificate.
    check(&headers("d"), &certificate(&["spiffe://corp/crm"]), None);
    assert_eq!(callers.failures(), 9);
}

#[test]
fn where_nobody_is_configured_whoever_calls_is_let_in_only_if_told() {
    let anyone = Client::anyone(ClientId(0), BTreeMap::new());
    let open = Callers::new(Access { anyone: Some(anyone), ..Access::default() });
    assert_eq!(name(&open, &HeaderMap::new(), &Extensions::new()).as_deref(), Some("anyone"));
    let shut = Callers::new(Access::default());
    assert_eq!(name(&shut, &HeaderMap::new(), &Extensions::new()), None);
}

#[tokio::test]
async fn a_reload_revokes_and_changes_even_whoever_streams() {
    let now = Timestamp::default();
    let callers = Callers::new(access(vec![grant("billing", &["old"]), grant("crm", &["c"])]));
    let admit = |token| callers.admit_at_once(&headers(token), &Extensions::new(), GRPC).unwrap();
    let (billing, crm) = (admit("old").unwrap(), admit("c").unwrap());
    crm.client().tally.count::<()>(&Err(Refusal::Unauthenticated));
    assert!(callers.renew(&billing, now, FROM).await.is_ok());

    let mut narrower = grant("crm", &["c"]);
    narrower.client.apps.clear();
    callers.replace(access(vec![grant("billing", &["new"]), narrower]));
    // The old token is not taken any more: neither by a request, nor by a stream.
    assert!(admit("old").is_err() && admit("new").is_ok());
    let before = callers.failures();
    assert_eq!(callers.renew(&billing, now, FROM).await.unwrap_err(), Refusal::Unauthenticated);
    assert_eq!(callers.failures(), before + 1);
    // Who is still there goes on with what it may do now, and with what was counted of it.
    let renewed = callers.renew(&crm, now, FROM).await.unwrap();
    assert!(renewed.client().apps.is_empty());
    assert_eq!(renewed.client().tally.refused(crate::door::refusal::Reason::PermissionDenied), 1);
    let rate = |caller: &Caller| Arc::as_ptr(caller.client().rate.as_ref().unwrap());
    assert_eq!(rate(&renewed), rate(&crm), "a reload gives nobody a fresh second");

    callers.replace(Access::default());
    assert!(callers.renew(&renewed, now, FROM).await.is_err());
}

#[tokio::test]
async fn who_streams_by_a_certificate_ends_with_the_ca_of_it() {
    let (now, ca, other) = (Timestamp::default(), Ca::new(), Ca::new());
    let callers = Callers::new(access(vec![grant("billing", &[])]));
    let (extensions, in_force) = connected(&ca, &["spiffe://corp/billing"]);
    let billing = callers.admit_at_once(&HeaderMap::new(), &extensions, GRPC).unwrap().unwrap();
    let check = async |cas: &[&Ca], expected: bool| {
        in_force.send_replace(trusting(cas, false));
        assert_eq!(callers.renew(&billing, now, FROM).await.is_ok(), expected);
        assert_eq!(name(&callers, &HeaderMap::new(), &extensions).is_some(), expected);
    };
    check(&[&ca, &other], true).await;
    check(&[&other], false).await;
    check(&[&ca], true).await;
    // The same after a reload of the clients, too.
    callers.replace(access(vec![grant("billing", &["t"])]));
    check(&[&ca, &other], true).await;
    check(&[&other], false).await;
}
