//! Fetches an issuer's keys.

use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, redirect};

use super::jwt::FetchOptions;

/// The issuer's keys as it publishes them; or what went wrong, in words.
pub(super) async fn fetch(options: &FetchOptions) -> Result<JwkSet, String> {
    let words = |error: reqwest::Error| error.without_url().to_string();
    let client = Client::builder()
        .user_agent(concat!("userpilot-gateway/", env!("CARGO_PKG_VERSION")))
        // Whoever answers decides who may send updates: that is the configured host alone.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(options.timeout)
        .build()
        .map_err(words)?;
    let answer = client.get(options.url.clone()).send().await.map_err(words)?;
    let mut answer = answer.error_for_status().map_err(words)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > options.bytes_max {
            return Err(format!("the answer is over auth.jwks_bytes_max ({})", options.bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| format!("not a JSON web key set: {error}"))
}
