//! The simulated Userpilot over real sockets, asked by a client that knows only HTTP.

mod faults;
mod rules;

use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use userpilot_gateway::simulator::{FaultRule, RunningSimulator, Simulator, SimulatorConfig};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

struct Stage {
    simulator: RunningSimulator,
    client: Client,
}

/// A simulator whose minutes pass in 60 ms: 30 rows a millisecond.
fn fast() -> SimulatorConfig {
    SimulatorConfig {
        speed: 1_000.0,
        fixed_cost: Duration::from_secs(20),
        ..SimulatorConfig::default()
    }
}

/// A simulator whose jobs do not end while a test looks.
fn slow() -> SimulatorConfig {
    SimulatorConfig { fixed_cost: Duration::from_secs(3_600), ..SimulatorConfig::default() }
}

impl Stage {
    async fn start(config: SimulatorConfig) -> Self {
        // The first test of the process installs it, and the others find it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { simulator: Simulator::start(config).await.unwrap(), client }
    }

    async fn faulty(config: SimulatorConfig, rules: Value) -> Self {
        let faults: Vec<FaultRule> = serde_json::from_value(rules).unwrap();
        Self::start(SimulatorConfig { faults, ..config }).await
    }

    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.simulator.url()))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.bare(Method::GET, path).header("Authorization", "Token simulated-key")
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.bare(Method::POST, path).header("Authorization", "Token simulated-key")
    }

    fn users(&self, body: &Value) -> RequestBuilder {
        self.post("/v1/users/bulk_identify").json(body)
    }

    fn one_user(&self) -> RequestBuilder {
        self.users(&json!({"users": [{"user_id": "ada", "metadata": {"plan": "paid"}}]}))
    }

    fn file(&self, name: &str, content: impl Into<Vec<u8>>) -> RequestBuilder {
        let part = Part::bytes(content.into()).file_name(name.to_owned());
        self.post("/v1/users/bulk_identify").multipart(Form::new().part("file", part))
    }

    async fn job(&self, id: &str) -> Response {
        let path = format!("/v1/background_jobs/{}", id.replace(':', "%3A"));
        self.get(&path).send().await.unwrap()
    }

    /// The job once it is over.
    async fn ended(&self, id: &str) -> Value {
        self.seen(id, |job| job["status"] == "completed" || job["status"] == "failed").await
    }

    async fn seen(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = now();
        loop {
            let job = json_of(self.job(id).await).await;
            if wanted(&job) {
                return job;
            }
            assert!(started.elapsed() < DEADLINE, "still {job}");
        }
    }

    async fn listed(&self) -> Vec<Value> {
        let list = json_of(self.get("/v1/background_jobs").send().await.unwrap()).await;
        list.as_array().unwrap().clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline against a real server is real time")]
fn now() -> Instant {
    Instant::now()
}

async fn json_of(response: Response) -> Value {
    response.json().await.unwrap()
}

async fn accepted(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert!(response.headers().contains_key("x-request-id"));
    json_of(response).await
}

/// The message of an error of the documented shape.
async fn refused(request: RequestBuilder, status: u16) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), status);
    assert!(response.headers().contains_key("x-request-id"));
    let body = json_of(response).await;
    let error = &body["errors"][0];
    assert!(error["error"].is_string() && error["error_code"].is_string(), "{body}");
    error["message"].as_str().unwrap().to_owned()
}

fn id_of(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}
