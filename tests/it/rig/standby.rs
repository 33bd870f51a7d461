//! A server that follows another one's, takes over from it, or is gone all at once.

use std::{fs, process::Command};

use super::postgres::{Cluster, folder_of_servers, program};

impl Cluster {
    /// A server that follows this one, and can be read from.
    pub(crate) fn standby(&self) -> Self {
        let folder = folder_of_servers();
        let mut copy = program("pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream"]);
        copy.args(["--no-sync", "--username=postgres", "--port", &self.port.to_string()]);
        copy.arg("--host").arg(self.socket()).arg("--pgdata").arg(folder.path().join("data"));
        let copied = copy.output().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::of(folder, self.settings.clone())
    }

    /// From the next look at its settings on, no commit is answered before a standby has it.
    pub(crate) fn waits_for_a_standby(&self) {
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Whether a standby follows it that its commits wait for.
    pub(crate) fn is_followed(&self) -> bool {
        let followers = "SELECT count(*) FROM pg_stat_replication \
                         WHERE state = 'streaming' AND sync_state = 'sync'";
        self.sql("postgres", followers) == "1"
    }

    /// Makes a primary of a standby.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote()"), "t");
    }

    /// SIGKILL, to the server and to every process of it: as though its power had gone.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        let id = server.id();
        let all = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let lock = fs::read_to_string(self.socket().join("data/postmaster.pid")).unwrap();
        let kill = format!("kill -KILL {id} {all}");
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        server.wait().unwrap();
        // What it shared with its processes outlives them. Its key and its id are on one line.
        let shared = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).unwrap();
        Command::new("ipcrm").args(["-m", shared]).status().unwrap();
    }
}
