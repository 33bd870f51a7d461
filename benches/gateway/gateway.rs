//! The gateway under measurement: the real binary, with a configuration as in production,
//! paused, so that what is sent stays.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use userpilot_gateway::proto::{
    GetStatusRequest, PauseRequest, admin_service_client::AdminServiceClient,
};

use crate::child::Owned;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Subject {
    pub binary: PathBuf,
    pub engine: Engine,
}

/// An engine of the store, as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    Sled,
    Redb,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

#[derive(Debug)]
pub struct Gateway {
    child: Owned,
    folder: PathBuf,
    ports: Ports,
    /// From starting the process to its being ready.
    pub ready_after: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    grpc: u16,
    http: u16,
    admin: u16,
}

/// Where what is sent goes to, if anywhere.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub base_url: String,
    pub users_per_minute: u32,
}

impl Delivery {
    /// Nobody is there.
    fn nowhere() -> Self {
        Self { base_url: "http://127.0.0.1:1".to_owned(), users_per_minute: 1_800 }
    }
}

/// The key of the app.
pub const API_KEY: &str = "bench-key";

/// Linux counts processor time in these.
const TICK: Duration = Duration::from_millis(10);
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

impl Gateway {
    /// Starts it on the store in `folder`, paused, and waits until it is ready.
    pub fn start(subject: &Subject, folder: &Path) -> anyhow::Result<Self> {
        let nowhere = Delivery::nowhere();
        let gateway =
            Self::launch(subject, folder, |ports| configuration(ports, folder, &nowhere))?;
        gateway.pause()?;
        Ok(gateway)
    }

    /// The same, one that speaks TLS where it takes updates: with a certificate and a key in the folder.
    pub fn start_secured(
        subject: &Subject,
        folder: &Path,
        certificate: &str,
        key: &str,
    ) -> anyhow::Result<Self> {
        let nowhere = Delivery::nowhere();
        let tls = format!(
            "[tls]\ncert_file = \"{certificate}\"\nkey_file = \"{key}\"\nhttp = false\nadmin = false\n"
        );
        let gateway = Self::launch(subject, folder, |ports| {
            format!("{tls}{}", configuration(ports, folder, &nowhere))
        })?;
        gateway.pause()?;
        Ok(gateway)
    }

    /// The same, one that delivers, and forgets at once what it has delivered: the least of
    /// what it could keep, so that what grows is a leak.
    pub fn delivering(
        subject: &Subject,
        folder: &Path,
        delivery: &Delivery,
    ) -> anyhow::Result<Self> {
        let forgetful = "[history]\ndelivered_hours = 0\n";
        Self::launch(subject, folder, |ports| {
            format!("{forgetful}{}", configuration(ports, folder, delivery))
        })
    }

    fn launch(
        Subject { binary, engine }: &Subject,
        folder: &Path,
        configuration: impl FnOnce(Ports) -> String,
    ) -> anyhow::Result<Self> {
        let ports = Ports { grpc: free_port()?, http: free_port()?, admin: free_port()? };
        let config = folder.join("gateway.toml");
        fs::write(&config, configuration(ports))?;
        let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .env("USERPILOT_API_KEY", API_KEY)
            .env("USERPILOT_GATEWAY__STORE__ENGINE", engine.name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let child = Owned(child);
        while !is_ready(ports.http) {
            if started.elapsed() > READY_WITHIN {
                bail!("the gateway is not ready, see {}", folder.join("log").display());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let ready_after = started.elapsed();
        Ok(Self { child, folder: folder.to_owned(), ports, ready_after })
    }

    /// Nothing is delivered from here on.
    fn pause(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let address = format!("http://127.0.0.1:{}", self.ports.admin);
            let mut admin = AdminServiceClient::connect(address).await?;
            admin.pause(PauseRequest::default()).await?;
            Ok(())
        })
    }

    /// Where it takes updates.
    pub fn port(&self) -> u16 {
        self.ports.grpc
    }

    /// What it holds in memory now, and at the most so far, in bytes.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id()))?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.map(|kib| kib * 1_024).with_context(|| format!("no {key} in /proc"))
        };
        Ok((bytes("VmRSS:")?, bytes("VmHWM:")?))
    }

    /// The time that it has taken of the processor: what counts where others use it, too.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.0.id()))?;
        // The name, in parentheses, may hold anything; user and system time are 14th and 15th.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).flat_map(str::parse).collect();
        ensure!(ticks.len() == 2, "no times in /proc");
        Ok(TICK * u32::try_from(ticks.iter().sum::<u64>())?)
    }

    /// What its store takes on disk, in bytes.
    pub fn disk(&self) -> anyhow::Result<u64> {
        disk_usage(&self.folder.join("data"))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> anyhow::Result<u64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.0.id()))?.count() as u64)
    }

    /// How many records wait.
    pub fn waiting(&self) -> anyhow::Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let address = format!("http://127.0.0.1:{}", self.ports.admin);
            let mut admin = AdminServiceClient::connect(address).await?;
            let status = admin.get_status(GetStatusRequest {}).await?.into_inner().status;
            let app = status.context("no status")?.apps.pop().context("no app")?;
            Ok(app.pending_records)
        })
    }

    /// SIGTERM, as an orderly stop. Says how long it took.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let pid = self.child.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(sent.success(), "cannot send SIGTERM to process {pid}");
        while started.elapsed() < STOPPED_WITHIN {
            if let Some(status) = self.child.0.try_wait()? {
                ensure!(status.success(), "the gateway ended with {status}");
                return Ok(started.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the gateway does not stop")
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

fn configuration(ports: Ports, folder: &Path, delivery: &Delivery) -> String {
    let Delivery { base_url, users_per_minute } = delivery;
    let Ports { grpc, http, admin } = ports;
    let path = folder.join("data");
    format!(
        "[server]\n\
         grpc_listen = \"127.0.0.1:{grpc}\"\n\
         http_listen = \"127.0.0.1:{http}\"\n\
         admin_listen = \"127.0.0.1:{admin}\"\n\
         [store]\n\
         path = {path:?}\n\
         [[apps]]\n\
         name = \"bench\"\n\
         base_url = \"{base_url}\"\n\
         users_per_minute = {users_per_minute}\n\
         api_key_env = \"USERPILOT_API_KEY\"\n"
    )
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What the files in a folder take, in bytes of their blocks.
fn disk_usage(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_usage(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
