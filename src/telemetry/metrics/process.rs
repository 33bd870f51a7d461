//! What the process takes of its machine, by the names that every client library of Prometheus gives
//! it; and of which version it is.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{PREFIX, observed::one};

#[derive(Debug)]
pub(super) struct Process;

/// What the system tells of the process.
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: Option<usize>,
    fds_max: Option<u64>,
    started_at: Option<f64>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which version runs: always 1";
        let name = format!("{PREFIX}_build_info");
        let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_i64).encode(family.encode_family(&version)?)?;

        let Some(figures) = figures() else { return Ok(()) };
        let help = "Time of processors that the process has used, its own and the system's for it";
        let cpu = ConstCounter::new(figures.cpu_seconds);
        one(&mut encoder, "process_cpu_seconds", help, &cpu)?;
        let bytes = ConstGauge::new(i64::try_from(figures.resident_bytes).unwrap_or(i64::MAX));
        let help = "Memory that the process holds";
        one(&mut encoder, "process_resident_memory_bytes", help, &bytes)?;
        if let Some(count) = figures.open_fds {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            let help = "Files and connections that the process has open";
            one(&mut encoder, "process_open_fds", help, &count)?;
        }
        if let Some(max) = figures.fds_max {
            let max = ConstGauge::new(i64::try_from(max).unwrap_or(i64::MAX));
            one(&mut encoder, "process_max_fds", "As many it may have open", &max)?;
        }
        if let Some(at) = figures.started_at {
            let help = "When the process started, by its machine's clock";
            one(&mut encoder, "process_start_time_seconds", help, &ConstGauge::new(at))?;
        }
        Ok(())
    }
}

/// Reads `/proc`. What is hidden is left out.
#[cfg(target_os = "linux")]
fn figures() -> Option<Figures> {
    use std::sync::LazyLock;

    use procfs::process::{LimitValue, Process};

    // Of the machine's start; it moves a little with each correction of the clock.
    static BOOTED_AT: LazyLock<Option<u64>> = LazyLock::new(|| procfs::boot_time_secs().ok());
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let limits = process.limits().ok();
    let fds_max = limits.and_then(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(max) => Some(max),
        LimitValue::Unlimited => None,
    });
    Some(Figures {
        cpu_seconds: seconds(stat.utime + stat.stime),
        resident_bytes: stat.rss * procfs::page_size(),
        open_fds: process.fd_count().ok(),
        fds_max,
        started_at: BOOTED_AT.map(|booted_at| booted_at as f64 + seconds(stat.starttime)),
    })
}

/// Only Linux is asked.
#[cfg(not(target_os = "linux"))]
fn figures() -> Option<Figures> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{clock, domain::time::Timestamp};

    #[test]
    fn linux_tells_what_the_process_takes() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 1 << 20, "{}", figures.resident_bytes);
        assert!((0.0..3_600.0).contains(&figures.cpu_seconds), "{}", figures.cpu_seconds);
        let (open, max) = (figures.open_fds.unwrap(), figures.fds_max.unwrap());
        assert!((3..=max).contains(&(open as u64)), "{open} of {max}");
        let now = clock::now().wall.since(Timestamp::default()).as_secs_f64();
        let started_at = figures.started_at.unwrap();
        assert!((now - 3_600.0..=now + 2.0).contains(&started_at), "{started_at}, now {now}");
    }
}
