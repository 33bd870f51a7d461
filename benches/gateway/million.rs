//! A store in which a million users wait: memory, disk, restarts, and what it does to speed.

use std::time::Duration;

use crate::{
    gateway::{Gateway, Subject},
    load::Seen,
    report::Row,
    suite::{self, Scale, folder, line, mib, middle},
};

const RSS_MAX_GIB: f64 = 1.0;
const READY_MAX_S: f64 = 3.0;

pub fn run(subject: &Subject, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let folder = folder()?;
    let users = scale.million;
    let gateway = Gateway::start(subject, folder.path())?;
    let fill = suite::load_stream(gateway.port(), users, users, 0)?;
    let (rss, peak) = gateway.memory()?;
    let disk = gateway.disk()?;
    let stopped = gateway.stop()?;
    let gateway = Gateway::start(subject, folder.path())?;
    let restarted = gateway.ready_after;
    gateway.kill();
    let gateway = Gateway::start(subject, folder.path())?;
    let recovered = gateway.ready_after;
    let (ready_rss, _) = gateway.memory()?;

    let on_full_and_empty = throughput(subject, &gateway, scale)?;
    let (used_rss, used_peak) = gateway.memory()?;
    let used_disk = gateway.disk()?;
    gateway.stop()?;

    let gib = |bytes: u64| f64::from(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)) / 1_024.0;
    let seconds = |duration: Duration| duration.as_secs_f64();
    let mut rows = vec![
        Row::beside(format!("filling a store with {users} users, by stream"), line(&fill)),
        Row::at_most(
            "memory (RSS), all of them waiting",
            &[
                ("filled", gib(rss), RSS_MAX_GIB),
                ("after the loads below", gib(used_rss), RSS_MAX_GIB),
            ],
            "GiB",
        ),
        Row::beside(
            "memory, more of it",
            format!(
                "peak {} filled, {} when ready again, peak {} after the loads below",
                mib(peak),
                mib(ready_rss),
                mib(used_peak)
            ),
        ),
        Row::beside(
            "disk",
            format!("{} filled, {} after the loads below", mib(disk), mib(used_disk)),
        ),
        Row::at_most(
            "from start to ready",
            &[
                ("after SIGTERM", seconds(restarted), READY_MAX_S),
                ("after kill -9", seconds(recovered), READY_MAX_S),
            ],
            "s",
        ),
        Row::beside("from SIGTERM to the end", format!("{:.2} s", seconds(stopped))),
    ];
    rows.extend(on_full_and_empty);
    Ok(rows)
}

/// The same loads on `full` and on a new store, in turns.
fn throughput(subject: &Subject, full: &Gateway, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let users = scale.million;
    let updates = users / 4;
    // [unary, stream], each of [full, empty].
    let mut seen: [[Vec<Seen>; 2]; 2] = Default::default();
    for round in 0..scale.rounds {
        let first = updates * round as u64;
        let folder = folder()?;
        let empty = Gateway::start(subject, folder.path())?;
        for (side, gateway) in [full, &empty].into_iter().enumerate() {
            seen[1][side].push(suite::load_stream(gateway.port(), users, updates, first)?);
        }
        drop(empty);
        let folder = suite::folder()?;
        let empty = Gateway::start(subject, folder.path())?;
        for (side, gateway) in [full, &empty].into_iter().enumerate() {
            seen[0][side].push(suite::load_unary(gateway.port(), users, scale, round, false)?);
        }
    }
    let mut rows = Vec::new();
    for (what, [full, empty]) in ["unary", "stream"].into_iter().zip(&seen) {
        let (full, empty) = (middle(full), middle(empty));
        let ratio = full.per_second / empty.per_second;
        let name = format!("{what} on it / on an empty store");
        rows.push(Row::at_least(&name, ratio, 0.8, 0.8, ""));
        rows.push(Row::beside(format!("{what} on it; on an empty store"), {
            format!("{}; {}", line(&full), line(&empty))
        }));
    }
    Ok(rows)
}
