//! Forms whose file never comes: what stands around it is bounded, and so is what is held of it.

use std::{fs, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use reqwest::Body;
use userpilot_gateway::proto::PauseRequest;

use super::{clients, url};
use crate::rig::{Gateway, Site, Stage, at_speed};

const MIB: usize = 1 << 20;
/// More than anybody would hold, and less than a bulk request may have.
const LONG: usize = 40 * MIB;

/// What a form that begins so, and goes on for long, is answered.
async fn sent(gateway: &Gateway, beginning: &str, on: &[u8], packed: bool) -> (u16, String) {
    let on = on.repeat(MIB / on.len());
    let parts =
        std::iter::once(beginning.as_bytes().to_vec()).chain(std::iter::repeat_n(on, LONG / MIB));
    // Over HTTP/2 an answer does not get lost, though not all was sent.
    let [_, http2] = clients();
    let request = http2.post(url(gateway, "/v1/users/bulk_identify"));
    let request = request.header("content-type", "multipart/form-data; boundary=b");
    let request = match packed {
        true => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            parts.for_each(|part| encoder.write_all(&part).unwrap());
            let packed = encoder.finish().unwrap();
            request.header("content-encoding", "gzip").body(packed)
        }
        false => {
            let parts = futures_util::stream::iter(parts.map(Ok::<_, std::io::Error>));
            request.body(Body::wrap_stream(parts))
        }
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The most memory that the process has had, in KiB.
fn resident_peak(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_form_without_a_file_takes_no_memory_and_is_refused() {
    let stage = Stage::start(100).await;
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n";
    // Once as it should be, so that all that is ever taken is.
    let (status, _) = sent(&stage.gateway, &format!("{part}\r\n"), b"x", false).await;
    assert_eq!(status, 400, "a file that does not end");
    let before = resident_peak(&stage.gateway);
    for (what, beginning, on) in [
        ("junk before the boundary", "", &b"junk"[..]),
        ("the headers of a part that do not end", part, b"x-a: b\r\n"),
        ("one header that does not end", part, b"x"),
    ] {
        for packed in [false, true] {
            let (status, body) = sent(&stage.gateway, beginning, on, packed).await;
            assert_eq!(status, 413, "{what}, packed: {packed}: {body}");
            assert!(body.contains("around its file"), "{body}");
        }
    }
    let grown = resident_peak(&stage.gateway).saturating_sub(before);
    assert!(grown < 12_000, "{grown} KiB more");
    assert_eq!(stage.gateway.app().await.pending_records, 0);
}

#[tokio::test]
async fn a_packed_file_is_unpacked_as_it_is_read() {
    let settings = |site: Site| site.with("store.cache_bytes_max", 16 << 20);
    let stage = Stage::of(at_speed(100), settings).await;
    stage.gateway.admin().await.pause(PauseRequest { app: String::new() }).await.unwrap();
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n";
    let blank = " ".repeat(MIB - 1) + "\n";
    sent(&stage.gateway, part, blank.as_bytes(), false).await;
    let before = resident_peak(&stage.gateway);
    let (status, body) = sent(&stage.gateway, part, blank.as_bytes(), true).await;
    assert_eq!(status, 400, "{body}");
    let grown = resident_peak(&stage.gateway).saturating_sub(before);
    assert!(grown < 12_000, "{grown} KiB more");
}
