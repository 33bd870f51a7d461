//! What TLS takes: the same loads on a gateway that speaks it and on one that does not, in turns.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, SanType};

use crate::{
    child,
    compare::Side,
    gateway::{Gateway, Subject},
    report::Row,
    suite::{Scale, folder, line, middle, stream_arguments, unary_arguments},
    workload::USERS,
};

/// What the gateway shows, and what the load trusts: a certificate that has signed itself.
const CERTIFICATE: &str = "tls.crt";

pub fn run(subject: &Subject, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (plain_folder, tls_folder) = (folder()?, folder()?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
    let certificate = tls_folder.path().join(CERTIFICATE);
    fs::write(&certificate, params.self_signed(&key)?.pem())?;
    fs::write(tls_folder.path().join("tls.key"), key.serialize_pem())?;
    let gateways = [
        Gateway::start(subject, plain_folder.path())?,
        Gateway::start_secured(subject, tls_folder.path(), CERTIFICATE, "tls.key")?,
    ];
    // [unary, stream], each of [in clear, by TLS].
    let mut sides: [[Side; 2]; 2] = Default::default();
    for round in 0..scale.rounds {
        // Who comes second finds the disk and the caches otherwise than who comes first.
        let turn = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in turn {
            let arguments = |port| unary_arguments(port, USERS, scale, round);
            take(&mut sides[0][side], &gateways[side], side, &certificate, arguments)?;
        }
        for side in turn {
            let updates = USERS * scale.stream_turns;
            let arguments = |port| stream_arguments(port, USERS, updates, 0);
            take(&mut sides[1][side], &gateways[side], side, &certificate, arguments)?;
        }
    }
    for gateway in gateways {
        gateway.stop()?;
    }
    let mut rows = Vec::new();
    for (what, [plain, tls]) in ["unary", "stream"].into_iter().zip(&sides) {
        let (in_clear, by_tls) = (middle(&plain.seen), middle(&tls.seen));
        let ratio = by_tls.per_second / in_clear.per_second;
        let processor = format!("{:.1}; {:.1} µs", tls.micros(), plain.micros());
        rows.push(Row::beside(format!("{what} by TLS / in clear"), format!("**{ratio:.2}**")));
        let seen = format!("{}; {}", line(&by_tls), line(&in_clear));
        rows.push(Row::beside(format!("{what} by TLS; in clear"), seen));
        rows.push(Row::beside(format!("{what}, processor an update, by TLS; in clear"), processor));
    }
    Ok(rows)
}

fn take(
    taken: &mut Side,
    gateway: &Gateway,
    side: usize,
    certificate: &Path,
    arguments: impl FnOnce(u16) -> Vec<String>,
) -> anyhow::Result<()> {
    taken.take(gateway, |port| {
        let mut arguments = arguments(port);
        if side == 1 {
            arguments.extend(["--ca-file".to_owned(), certificate.display().to_string()]);
        }
        child::role(&arguments)
    })
}
