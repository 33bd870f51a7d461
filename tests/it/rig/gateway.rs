//! A gateway that serves, and how it is reached.

use std::ops::{Deref, DerefMut};

use serde::Deserialize;
use tonic::transport::{Channel, Endpoint};
use userpilot_gateway::proto::{
    AppStatus, GatewayStatus, GetStatusRequest, GetUpdateRequest, GetUpdateResponse, Job,
    ListJobsRequest, admin_service_client::AdminServiceClient,
    ingest_service_client::IngestServiceClient,
};

use super::{Process, until};

/// A gateway's process.
pub(crate) struct Gateway {
    process: Process,
    pub(crate) addresses: Addresses,
}

/// Where a gateway listens, by its own word.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) admin: String,
}

impl Gateway {
    /// The gateway that a process becomes.
    pub(crate) async fn of(mut process: Process) -> Self {
        let addresses = until("a gateway that serves", async || {
            let addresses = addresses(&process);
            let ended = process.ended();
            assert!(addresses.is_some() || ended.is_none(), "{ended:?}: {:?}", process.log());
            addresses
        });
        let addresses = addresses.await;
        Self { process, addresses }
    }

    /// Where services send updates.
    pub(crate) async fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(channel(&self.addresses.grpc).await)
    }

    /// Where operators look.
    pub(crate) async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(channel(&self.addresses.admin).await)
    }

    /// The state of everything.
    pub(crate) async fn status(&self) -> GatewayStatus {
        let status = self.admin().await.get_status(GetStatusRequest {}).await.unwrap();
        status.into_inner().status.unwrap()
    }

    /// The state of its only app.
    pub(crate) async fn app(&self) -> AppStatus {
        let [app] = self.status().await.apps.try_into().unwrap();
        app
    }

    /// Its jobs, newest first; all of them, page by page.
    pub(crate) async fn jobs(&self, page_size: i32) -> Vec<Job> {
        let mut admin = self.admin().await;
        let mut jobs = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListJobsRequest { app: String::new(), page_size, page_token };
            let page = admin.list_jobs(request).await.unwrap().into_inner();
            assert!(page.jobs.len() <= usize::try_from(page_size).unwrap());
            jobs.extend(page.jobs);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return jobs;
            }
        }
    }

    /// What became of an update.
    pub(crate) async fn update(&self, receipt: &str) -> GetUpdateResponse {
        let request = GetUpdateRequest { receipt: receipt.to_owned() };
        self.ingest().await.get_update(request).await.unwrap().into_inner()
    }

    /// A page of the HTTP door: its status, its content type and its text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String, String) {
        let answer = get(&format!("http://{}{path}", self.addresses.http)).await;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get("content-type");
        let content_type = content_type.map_or("", |value| value.to_str().unwrap()).to_owned();
        (status, content_type, answer.text().await.unwrap())
    }
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn addresses(process: &Process) -> Option<Addresses> {
    let log = process.log();
    let line = log.iter().find(|line| line.contains("\"the gateway serves\""))?;
    Some(serde_json::from_str(line).unwrap())
}

/// Asks an HTTP server.
pub(crate) async fn get(url: &str) -> reqwest::Response {
    http().get(url).send().await.unwrap()
}

/// A client for HTTP.
pub(crate) fn http() -> reqwest::Client {
    // The first test of the process installs it, and the others find it there.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

/// A connection to a gateway that listens.
pub(crate) async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Waits until nothing waits and nothing is in flight.
pub(crate) async fn settled(gateway: &Gateway) -> AppStatus {
    let mut admin = gateway.admin().await;
    until("an empty queue and no job", async || {
        let status = admin.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        let [app] = status.status.unwrap().apps.try_into().unwrap();
        let app: AppStatus = app;
        if app.pending_records > 0 || app.current_job.is_some() {
            return None;
        }
        // Rows that are being claimed wait no longer, and the status shows them a moment
        // later. The list of jobs is read from the store, and knows.
        let request = ListJobsRequest { page_size: 1, ..ListJobsRequest::default() };
        let newest = admin.list_jobs(request).await.unwrap().into_inner().jobs.pop();
        newest.is_none_or(|job| job.settled_at.is_some()).then_some(app)
    })
    .await
}
