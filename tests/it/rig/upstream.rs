//! A simulated Userpilot in a process of its own, which keeps its state when it is killed.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde::de::DeserializeOwned;
use userpilot_gateway::simulator::{FaultRule, Profile, Snapshot};

use super::{Process, get, http, until};

/// Where such a Userpilot lives: its process may come and go.
pub(crate) struct UpstreamSite {
    state: PathBuf,
    faults: PathBuf,
    speed: u32,
    /// Once it has listened, it does so there again.
    address: String,
}

/// The process of one.
pub(crate) struct Upstream {
    process: Process,
    url: String,
}

impl UpstreamSite {
    /// In `folder`, with these faults from each start on.
    pub(crate) fn new(folder: PathBuf, speed: u32, faults: &[FaultRule]) -> Self {
        let file = folder.join("faults.json");
        fs::write(&file, serde_json::to_vec(faults).unwrap()).unwrap();
        let address = "127.0.0.1:0".to_owned();
        Self { state: folder.join("upstream.state"), faults: file, speed, address }
    }

    /// Starts it. `seed` decides which requests the faults strike.
    pub(crate) async fn start(&mut self, seed: u64) -> Upstream {
        let mut process = self.launch(seed);
        let url = until("a simulator that listens", async || {
            // It may not have its port back at once.
            if process.ended().is_some() {
                process = self.launch(seed);
            }
            process.printed().first()?.split(' ').next_back().map(str::to_owned)
        });
        let url = url.await;
        url.strip_prefix("http://").unwrap().clone_into(&mut self.address);
        Upstream { process, url }
    }

    fn launch(&self, seed: u64) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
        command.args(["simulate-userpilot", "--listen", &self.address]);
        command.args(["--speed", &self.speed.to_string(), "--seed", &seed.to_string()]);
        command.arg("--state").arg(&self.state).arg("--faults").arg(&self.faults);
        Process::start(command.env_clear(), "")
    }
}

impl Upstream {
    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Disarms every fault.
    pub(crate) async fn clear_faults(&self) {
        let url = format!("{}/_simulator/faults", self.url);
        let answer = http().delete(url).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Its state, but for the profiles.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.page("state").await
    }

    /// Its profiles.
    pub(crate) async fn profiles(&self) -> BTreeMap<String, Profile> {
        self.page("profiles").await
    }

    async fn page<T: DeserializeOwned>(&self, page: &str) -> T {
        get(&format!("{}/_simulator/{page}", self.url)).await.json().await.unwrap()
    }
}
