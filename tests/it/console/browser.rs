//! The console in Chromium: tests/console/real.mjs, with a gateway and a simulated Userpilot that are
//! processes of their own.

use std::process::Command;

use super::{OPERATOR, READER, admin, url};
use crate::{
    python::project,
    rig::{Process, Site, UpstreamSite, until},
};

const SPEED: u32 = 100;

#[tokio::test]
async fn a_browser_finds_its_way_through_a_real_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = UpstreamSite::new(folder.path().to_owned(), SPEED, &[]).start(7).await;
    let tables = admin("grafana", READER, "reader") + &admin("ada", OPERATOR, "operator");
    let site = Site::new(upstream.url(), f64::from(SPEED)).and(&tables);
    let gateway = site.serve().await;

    let mut command = Command::new("node");
    command.arg("--test-reporter=tap").arg(project("tests/console/real.mjs"));
    command.env("CONSOLE_URL", url(&gateway, "")).env("CONSOLE_TOKEN", OPERATOR);
    command.env("CONSOLE_READER_TOKEN", READER).env("SIMULATOR_URL", upstream.url());
    command.env("GATEWAY_URL", format!("http://{}", gateway.addresses.http));
    let mut browser = Process::start(&mut command, "");
    // Each step has a deadline, and not all of them together: a browser is slow beside other tests.
    let mut heard = 0;
    while browser.ended().is_none() {
        heard = until("the browser's next step", async || {
            let lines = browser.printed().len();
            (lines > heard || browser.ended().is_some()).then_some(lines)
        })
        .await;
    }
    let output = browser.end().await;
    assert!(output.status.success(), "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("# pass 13\n# fail 0\n"), "{}", output.stdout);
    let state = upstream.snapshot().await;
    assert_eq!(state.violations, []);
}
