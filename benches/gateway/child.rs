//! Children: other roles of this binary, and the gateway. Each is ended by who started it.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use serde::{Serialize, de::DeserializeOwned};

/// A child that is killed when it is dropped.
#[derive(Debug)]
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Where it has ended by itself, so much the better.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a role to its end, and reads what it reports.
pub fn role<T: DeserializeOwned>(arguments: &[String]) -> anyhow::Result<T> {
    let mut child = start(arguments)?;
    let mut text = String::new();
    let stdout = child.0.stdout.take().context("no standard output")?;
    BufReader::new(stdout).read_to_string(&mut text)?;
    let status = child.0.wait()?;
    ensure!(status.success(), "{} failed: {status}", arguments.join(" "));
    serde_json::from_str(&text).with_context(|| format!("{} reported {text}", arguments.join(" ")))
}

/// What a role reports to [`role`].
pub fn report(report: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

/// The echo server, and its port.
pub fn echo() -> anyhow::Result<(Owned, u16)> {
    let mut child = start(&["echo".to_owned()])?;
    let mut line = String::new();
    let stdout = child.0.stdout.take().context("no standard output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    Ok((child, line.trim().parse().context("the echo server's port")?))
}

fn start(arguments: &[String]) -> anyhow::Result<Owned> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(Owned(command.spawn()?))
}
