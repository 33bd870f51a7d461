//! An issuer of JSON web tokens: good ones, and every kind of bad one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::signing::SigningKey;

pub(super) const ISSUER: &str = "https://login.corp.example";
pub(super) const AUDIENCE: &str = "userpilot-gateway";

/// An issuer with one key.
pub(super) struct Issuer {
    kid: &'static str,
    key: SigningKey,
}

/// The claims of a good token for the subject svc-crm, but for what `change` says; null leaves
/// one out.
pub(super) fn claims(change: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "svc-crm", "exp": 4_000_000_000_u64, "nbf": 0,
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

impl Issuer {
    /// One that signs with ES256.
    pub(super) fn new(kid: &'static str) -> Self {
        Self::signing(kid, "ES256")
    }

    pub(super) fn signing(kid: &'static str, algorithm: &'static str) -> Self {
        Self { kid, key: SigningKey::new(algorithm) }
    }

    /// What it publishes.
    pub(super) fn key_set(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    pub(super) fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        let more = json!({"use": "sig", "alg": self.key.algorithm(), "kid": self.kid});
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    /// A token that is signed with its algorithm, whatever its `header` says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let mut full = json!({"typ": "JWT", "alg": self.key.algorithm(), "kid": self.kid});
        full.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        let message = format!("{}.{}", part(&full), part(claims));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// One without a signature.
    pub(super) fn unsigned(&self, algorithm: &str) -> String {
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": self.kid});
        format!("{}.{}.", part(&header), part(&claims(json!({}))))
    }

    /// Some that take what is public of its key for a shared secret: its bytes, and its text in the
    /// key set.
    pub(super) fn hmacs(&self) -> Vec<String> {
        let secrets = [self.key.public(), self.jwk().to_string().into_bytes()];
        secrets.iter().map(|secret| self.signed_by_secret(secret)).collect()
    }

    /// One by HS256.
    pub(super) fn signed_by_secret(&self, secret: &[u8]) -> String {
        let header = json!({"typ": "JWT", "alg": "HS256", "kid": self.kid});
        let message = format!("{}.{}", part(&header), part(&claims(json!({}))));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signature = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        self.key.algorithm()
    }
}

/// A key set that can be fetched.
pub(super) struct Published {
    pub(super) url: String,
    keys: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl Published {
    pub(super) fn replace(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys.to_string();
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

pub(super) async fn publish(keys: Value) -> Published {
    let keys = Arc::new(Mutex::new(keys.to_string()));
    let asked = Arc::new(AtomicU64::new(0));
    let (held, counted) = (keys.clone(), asked.clone());
    let answer = move || async move {
        counted.fetch_add(1, Relaxed);
        held.lock().unwrap().clone()
    };
    let router = Router::new().route("/jwks", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Published { url, keys, asked, _serving: serving }
}
