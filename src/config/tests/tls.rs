//! Certificates and keys, and what differs between two configurations.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// A certificate that is its own issuer, and its key, in PEM.
fn certificate(name: &str, until_year: i32) -> (String, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder with `tls.crt`, `tls.key` and `clients.crt`, and a file with these lines in `[tls]`.
fn written(lines: &str, until_year: i32) -> Written {
    let text = format!("[tls]\n{lines}\n{}", app(""));
    let written = Written::new(&text);
    let (cert, key) = certificate("gateway", until_year);
    let (ca, _) = certificate("clients", 2100);
    for (name, text) in [("tls.crt", cert), ("tls.key", key), ("clients.crt", ca)] {
        write(&written, name, &text);
    }
    written
}

fn write(written: &Written, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;

    let path = written.0.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const BOTH: &str = "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"";
const ALL: &str = "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"\nclient_ca_file = \"clients.crt\"\n\
     client_certificate = \"required\"";

/// Every key that may be left out is there, with the API key as a credential.
pub(super) fn with_everything() -> Config {
    let written = written(ALL, 2100);
    let path = written.0.path().join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("api_key_file", "api_key_credential")).unwrap();
    let folder = written.0.path().display().to_string();
    written.load(&[("CREDENTIALS_DIRECTORY", &folder)]).unwrap().0
}

#[test]
fn the_credential_in_force_is_written_by_its_name() {
    assert!(
        with_everything().effective_toml().contains("api_key_credential = \"userpilot.key\" #")
    );
}

#[test]
fn a_certificate_and_its_key_turn_tls_on() {
    assert!(load(&app(""), &[]).0.tls.server.is_none());
    let (config, warnings) = written(BOTH, 2100).load(&[]).unwrap();
    let server = config.tls.server.unwrap();
    assert_eq!(server.rustls.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    // 2100-01-01T00:00:00Z.
    assert_eq!(server.expires_at.as_micros(), 4_102_444_800_000_000);
    assert!(!warnings.iter().any(|warning| warning.to_string().contains("tls.")), "{warnings:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let check = |written: &Written, expected: &str| {
        let refused = written.load(&[]).unwrap_err().to_string();
        let folder = format!("{}/", written.0.path().display());
        assert!(refused.replace(&folder, "").contains(expected), "{expected}: {refused}");
    };
    let lines = |lines: &str| written(lines, 2100);
    check(&lines("cert_file = \"tls.crt\""), "tls.cert_file: give key_file, too");
    check(&lines("key_file = \"tls.key\""), "tls.key_file: give cert_file, too");
    check(
        &lines("client_certificate = \"optional\""),
        "tls.client_certificate: without cert_file and key_file no listener speaks TLS",
    );
    check(
        &lines("client_ca_file = \"clients.crt\""),
        "tls.client_ca_file: without cert_file and key_file no listener speaks TLS",
    );
    check(
        &lines(&format!("{BOTH}\nclient_ca_file = \"clients.crt\"")),
        "tls.client_ca_file: nobody is asked for a certificate: set client_certificate",
    );
    check(
        &lines(&format!("{BOTH}\nclient_certificate = \"required\"")),
        "tls.client_certificate: give client_ca_file, too",
    );
    check(
        &lines(&BOTH.replace("tls.key", "no.key")),
        "tls.key_file: cannot read no.key: No such file",
    );

    let broken = |name: &str, text: &str| {
        let written = lines(ALL);
        write(&written, name, text);
        written
    };
    let (_, other_key) = certificate("other", 2100);
    check(
        &broken("tls.key", &other_key),
        "tls.key_file: tls.key is not the key of the certificate in tls.crt",
    );
    check(&broken("tls.key", "hush"), "tls.key_file: tls.key holds no private key in PEM");
    check(
        &broken("tls.key", "-----BEGIN PRIVATE KEY hush\nhush"),
        "tls.key_file: tls.key holds no private key in PEM",
    );
    check(&broken("tls.crt", ""), "tls.cert_file: tls.crt holds no certificate in PEM");
    check(
        &broken("clients.crt", &other_key),
        "tls.client_ca_file: clients.crt holds no certificate in PEM",
    );
    let rubbish = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    check(&broken("tls.crt", rubbish), "tls.cert_file: tls.crt: ");
    check(&broken("clients.crt", rubbish), "clients.crt holds what cannot be a CA");
}

#[test]
fn a_certificate_that_has_expired_and_a_key_that_all_can_read_are_warnings() {
    use std::os::unix::fs::PermissionsExt;

    let written = written(BOTH, 2021);
    let key = written.0.path().join("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = written.load(&[]).unwrap().1;
    assert!(warnings.contains(&Warning::TlsKeyReadableByAll { path: key }), "{warnings:?}");
    let expired =
        warnings.iter().find(|warning| matches!(warning, Warning::CertificateExpired { .. }));
    let expired = expired.unwrap().to_string();
    assert!(
        expired.ends_with("has expired, on 2021-01-01T00:00:00Z; clients refuse it"),
        "{expired}"
    );
}

#[test]
fn changes_are_told_apart_by_when_they_take_effect() {
    let written = written(BOTH, 2100);
    let (old, _) = written.load(&[]).unwrap();
    let path = written.0.path().join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(written.0.path().join("second.key"), KEY).unwrap();
    let check = |text: String, live: &[&str], at_restart: &[&str]| {
        fs::write(&path, text).unwrap();
        let Changes { live: found, at_restart: later } = old.changes(&written.load(&[]).unwrap().0);
        assert_eq!(found.iter().collect::<Vec<_>>(), live);
        assert_eq!(later.iter().collect::<Vec<_>>(), at_restart);
    };
    check(text.clone(), &[], &[]);
    check(
        text.replace("userpilot.key", "second.key") + "linger_ms = 7\n[log]\nfilter = \"debug\"",
        &["apps[0].api_key_file"],
        &["apps[0].linger_ms", "log.filter"],
    );
    check(
        text.replace(BOTH, &format!("{ALL}\nmin_version = \"1.3\"\nadmin = false")),
        &["the certificates", "tls.client_ca_file", "tls.client_certificate", "tls.min_version"],
        &["tls.admin"],
    );
    check(
        text.clone() + "[apps.properties]\ndeny = [\"ssn\"]\ntypes = { a = \"date\" }\n",
        &["apps[0].properties.deny", "apps[0].properties.types.a.type"],
        &[],
    );
    let client =
        "[[clients]]\nname = \"crm\"\nsan = \"crm.corp\"\napps = [\"a\"]\nproperties = []\n";
    let admin = format!("[[admins]]\nname = \"ada\"\ntoken_sha256 = \"{}\"\n", "0".repeat(64));
    check(
        format!("{text}\n{client}{admin}[auth]\nleeway_ms = 7\n"),
        &[
            "admins[0].name",
            "admins[0].role",
            "admins[0].token_sha256",
            "auth.leeway_ms",
            "clients[0].apps",
            "clients[0].lane",
            "clients[0].name",
            "clients[0].pass_through",
            "clients[0].pending_records_max",
            "clients[0].properties",
            "clients[0].record_bytes_max",
            "clients[0].san",
            "clients[0].updates_per_second_max",
            "clients[0].weight",
        ],
        &[],
    );
    check(text.replace(BOTH, ""), &[], &["tls.cert_file", "tls.key_file"]);
    check(text.replace("name = \"a\"", "name = \"b\""), &[], &["apps[0].name"]);
    let (cert, key) = certificate("gateway", 2101);
    write(&written, "tls.crt", &cert);
    write(&written, "tls.key", &key);
    check(text, &["the certificates"], &[]);
}

#[test]
fn who_is_let_in_must_fit_the_listeners_that_stand() {
    let key = |text: &str, listen: &str| {
        let config = load(text, &[]).0;
        let mut server = config.server.clone();
        server.grpc_listen = listen.parse().unwrap();
        config.left_open(&server).into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(key("", "0.0.0.0:1"), ["server.grpc_listen"]);
    assert!(key("", "127.0.0.1:1").is_empty());
    assert!(key(&callers(), "0.0.0.0:1").is_empty());
    // Metrics for operators alone stay so, although there are none any more.
    let config = load("", &[]).0;
    let mut server = config.server.clone();
    server.metrics_auth = MetricsAuth::Admin;
    assert_eq!(config.left_open(&server)[0].key, "server.metrics_auth");
}
