//! JSON web tokens of every algorithm, and every kind of bad one, over both doors.

use std::fs;

use serde_json::{Value, json};
use tonic::Code;
use userpilot_gateway::clock;

use super::{
    Door, bearer, client,
    issuer::{AUDIENCE, ISSUER, Issuer, claims, publish},
    knock,
    signing::SigningKey,
};
use crate::rig::{Site, Stage, at_speed, until};

fn auth(lines: &str) -> String {
    let auth = format!("[auth]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n{lines}\n");
    auth + &client("crm", "upg_x", "jwt_subject = \"svc-crm\"")
}

/// The bad tokens of an issuer, by what is wrong with them.
fn bad(issuer: &Issuer, stranger: &Issuer) -> Vec<(&'static str, String)> {
    let now = clock::now().wall.as_micros() / 1_000_000;
    let with = |change: Value| issuer.token(&json!({}), &claims(change));
    let headed = |header: Value| issuer.token(&header, &claims(json!({})));
    let good = with(json!({}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other = with(json!({"sub": "svc-admin"}));
    let others_claims = other.split('.').nth(1).unwrap();
    let mut bad = vec![
        ("expired long ago", with(json!({"exp": 1_700_000_000}))),
        ("expired a moment ago", with(json!({"exp": now - 2}))),
        ("no expiry", with(json!({"exp": null}))),
        ("an expiry that is no number", with(json!({"exp": "4000000000"}))),
        ("not valid yet", with(json!({"nbf": now + 60}))),
        ("wrong audience", with(json!({"aud": "others"}))),
        ("wrong audiences", with(json!({"aud": ["others", "userpilot"]}))),
        ("no audience", with(json!({"aud": null}))),
        ("wrong issuer", with(json!({"iss": "https://evil"}))),
        ("an issuer that begins as the right one", with(json!({"iss": format!("{ISSUER}.evil")}))),
        ("no issuer", with(json!({"iss": null}))),
        ("unknown subject", with(json!({"sub": "svc-x"}))),
        ("no subject", with(json!({"sub": null}))),
        ("unknown kid", headed(json!({"kid": "key-of-nobody"}))),
        ("its signature cut off", format!("{message}.")),
        ("a signature of other claims", format!("{header}.{others_claims}.{signature}")),
        ("alg=none", issuer.unsigned("none")),
        ("alg=None", issuer.unsigned("None")),
        ("a stranger's key of the same name", stranger.token(&json!({}), &claims(json!({})))),
    ];
    let hmacs = issuer.hmacs().into_iter();
    bad.extend(hmacs.map(|token| ("a public key as the secret of HS256", token)));
    // What is signed by one algorithm, and says that it is by another.
    let lies = SigningKey::ALGORITHMS.into_iter().chain(["HS256", "HS384", "HS512"]);
    let lies = lies.filter(|algorithm| *algorithm != issuer.algorithm());
    bad.extend(lies.map(|algorithm| ("another algorithm", headed(json!({"alg": algorithm})))));
    bad
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_taken_and_every_bad_one_is_refused() {
    const KIDS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let issuers: Vec<_> = KIDS
        .into_iter()
        .zip(SigningKey::ALGORITHMS)
        .map(|(kid, algorithm)| Issuer::signing(kid, algorithm))
        .collect();
    let shared = json!({"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0"});
    let keys: Vec<_> = issuers.iter().map(Issuer::jwk).chain([shared]).collect();
    let algorithms = json!(SigningKey::ALGORITHMS);
    let stage = Stage::of(at_speed(100), |site: Site| {
        fs::write(site.path("jwks.json"), json!({"keys": keys}).to_string()).unwrap();
        site.and(&auth(&format!(
            "jwks_file = \"jwks.json\"\nleeway_ms = 0\nalgorithms = {algorithms}"
        )))
    })
    .await;
    let check = async |what: &str, token: &str, expected: Code| {
        for door in [Door::Grpc, Door::Http] {
            let found = knock(door, &stage.gateway, bearer(token).as_deref(), "production").await;
            assert_eq!(found, expected, "{door:?}: {what}");
        }
    };
    for (issuer, kid) in issuers.iter().zip(KIDS) {
        let algorithm = issuer.algorithm();
        let good = issuer.token(&json!({}), &claims(json!({})));
        check(algorithm, &good, Code::Ok).await;
        let among = issuer.token(&json!({}), &claims(json!({"aud": ["x", AUDIENCE]})));
        check(algorithm, &among, Code::Ok).await;
        // RSA has one key here, which signs for all: a stranger's is of another kind.
        let stranger = Issuer::signing(kid, if algorithm == "ES256" { "ES256" } else { "EdDSA" });
        for (what, token) in bad(issuer, &stranger) {
            check(&format!("{algorithm}: {what}"), &token, Code::Unauthenticated).await;
        }
        // The key is right, and the signature, too: but the key is said to be for another.
        let is_rsa = |algorithm: &str| algorithm.starts_with(['R', 'P']);
        let others = SigningKey::ALGORITHMS.into_iter().filter(|it| is_rsa(it) && *it != algorithm);
        for other in others.filter(|_| is_rsa(algorithm)) {
            let token = Issuer::signing(kid, other).token(&json!({}), &claims(json!({})));
            check(&format!("{other} by {algorithm}'s"), &token, Code::Unauthenticated).await;
        }
    }
    let secret = Issuer::new("shared").signed_by_secret(b"secret");
    check("a shared secret of the key set", &secret, Code::Unauthenticated).await;
}

#[tokio::test]
async fn an_algorithm_that_is_not_configured_is_not_taken() {
    let issuers = SigningKey::ALGORITHMS.map(|algorithm| Issuer::signing(algorithm, algorithm));
    let keys: Vec<_> = issuers.iter().map(Issuer::jwk).collect();
    let stage = Stage::of(at_speed(100), |site: Site| {
        fs::write(site.path("jwks.json"), json!({"keys": keys}).to_string()).unwrap();
        site.and(&auth("jwks_file = \"jwks.json\""))
    })
    .await;
    for issuer in issuers {
        let token = issuer.token(&json!({}), &claims(json!({})));
        let found = knock(Door::Grpc, &stage.gateway, bearer(&token).as_deref(), "").await;
        let is_default = ["RS256", "ES256", "EdDSA"].contains(&issuer.algorithm());
        let expected = if is_default { Code::Ok } else { Code::Unauthenticated };
        assert_eq!(found, expected, "{}", issuer.algorithm());
    }
}

#[tokio::test]
async fn a_key_that_the_issuer_comes_to_use_is_fetched_and_not_too_often() {
    const INTERVAL_MS: u64 = 500;
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let published = publish(old.key_set()).await;
    let url = published.url.clone();
    let stage = Stage::of(at_speed(100), |site: Site| {
        site.and(&auth(&format!("jwks_url = \"{url}\"\njwks_interval_min_ms = {INTERVAL_MS}")))
    })
    .await;
    let knock = async |issuer: &Issuer| {
        let token = issuer.token(&json!({}), &claims(json!({})));
        knock(Door::Grpc, &stage.gateway, bearer(&token).as_deref(), "").await
    };
    assert_eq!(knock(&old).await, Code::Ok);
    assert_eq!(knock(&new).await, Code::Unauthenticated);
    published.replace(new.key_set());
    until("the new key to be taken", async || (knock(&new).await == Code::Ok).then_some(())).await;
    assert_eq!(knock(&old).await, Code::Unauthenticated);
    // However many ask for keys that there are not, the issuer is asked now and then.
    let (before, from) = (published.asked(), clock::now().instant);
    let mut knocks = 0;
    while published.asked() < before + 2 {
        assert_eq!(knock(&old).await, Code::Unauthenticated);
        knocks += 1;
    }
    let took = clock::now().instant.since(from);
    // The first of the two may have been due at once.
    assert!(took.as_millis() >= u128::from(INTERVAL_MS), "{took:?} and {knocks} knocks");
    assert!(knocks > 10, "{knocks}");
}
