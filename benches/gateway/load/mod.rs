//! The load generator: a process apart, with several connections.

pub mod paced;
pub mod stream;
pub mod unary;

use std::{fs, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longer ones count as this long.
const MICROS_MAX: u64 = 100_000_000;

/// What a load saw.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub answers: u64,
    /// Answers that were errors. They do not count as answers.
    pub errors: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Seen {
    fn new(latencies: &[Duration], errors: u64, took: Duration) -> Self {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, MICROS_MAX, 3).expect("good bounds");
        for latency in latencies {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds, not of years")]
        let ms = |micros: u64| micros as f64 / 1e3;
        #[expect(clippy::cast_precision_loss, reason = "a count of some millions")]
        let answers = latencies.len() as f64;
        Self {
            answers: latencies.len() as u64,
            errors,
            per_second: answers / took.as_secs_f64(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// Where to send, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// The server's port on the loopback interface.
    #[arg(long)]
    port: u16,
    #[arg(long)]
    connections: usize,
    /// How many users the updates are about.
    #[arg(long)]
    users: u64,
    /// Speaks TLS with the server, which shows a certificate for localhost that this one vouches for.
    #[arg(long)]
    ca_file: Option<PathBuf>,
}

impl Target {
    async fn connect(&self) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        let tls = match &self.ca_file {
            Some(file) => {
                drop(rustls::crypto::ring::default_provider().install_default());
                let ca = Certificate::from_pem(fs::read(file)?);
                Some(ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost"))
            }
            None => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        for _ in 0..self.connections {
            let mut endpoint =
                Endpoint::from_shared(format!("{scheme}://127.0.0.1:{}", self.port))?
                    .initial_stream_window_size(1 << 20)
                    .initial_connection_window_size(4 << 20)
                    .connect_timeout(Duration::from_secs(5))
                    .timeout(Duration::from_secs(60));
            if let Some(tls) = &tls {
                endpoint = endpoint.tls_config(tls.clone())?;
            }
            channels.push(endpoint.connect().await?);
        }
        Ok(channels)
    }
}
