//! An issuer of JSON web tokens: good ones, and every kind of bad one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(super) const ISSUER: &str = "https://login.corp.example";
pub(super) const AUDIENCE: &str = "userpilot-gateway";

/// An issuer with one key, of P-256.
pub(super) struct Issuer {
    kid: &'static str,
    key: EcdsaKeyPair,
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
    pub(super) fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self { kid, key }
    }

    /// What it publishes.
    pub(super) fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y},
        ]})
    }

    /// A token that is signed with ES256, whatever its `header` says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let mut full = json!({"typ": "JWT", "alg": "ES256", "kid": self.kid});
        full.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        let message = format!("{}.{}", part(&full), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// One without a signature.
    pub(super) fn unsigned(&self, algorithm: &str) -> String {
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": self.kid});
        format!("{}.{}.", part(&header), part(&claims(json!({}))))
    }

    /// One that takes the public key for a shared secret.
    pub(super) fn hmac(&self) -> String {
        let header = json!({"typ": "JWT", "alg": "HS256", "kid": self.kid});
        let message = format!("{}.{}", part(&header), part(&claims(json!({}))));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.key.public_key().as_ref());
        let signature = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
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
