//! Where a database is, and how it is let in.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};

use super::*;

const OFF: &str = "[store]\nengine = \"postgres\"\n[store.postgres]\ntls = \"disable\"\n";

/// A configuration with these lines about the database, and files for its password and its CA.
fn written(lines: &str) -> Written {
    let written = Written::new(&format!("{lines}\n{}", app("")));
    let password = written.0.path().join("postgres.password");
    fs::write(&password, "hush of the database \r\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let ca = CertificateParams::new(["ca".to_owned()]).unwrap();
    let ca = ca.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    fs::write(written.0.path().join("ca.crt"), ca).unwrap();
    written
}

fn refused(lines: &str, part: &str) {
    let error = written(lines).load(&[]).err().unwrap().to_string();
    assert!(error.contains(part), "{part}: {error}");
}

#[test]
fn a_database_is_read_and_its_password_is_never_shown() {
    let file = "[store]\nengine = \"postgres\"\n[store.postgres]\n\
                hosts = [\"db-a\", \"10.0.0.1:6432\", \"[::1]:7\", \"::1\", \"/run/postgresql\"]\n\
                password_file = \"postgres.password\"\nca_file = \"ca.crt\"\n";
    let (config, _) = written(file).load(&[]).unwrap();
    let postgres = &config.store.postgres;
    let hosts: Vec<_> = postgres.hosts.iter().map(|it| (it.name.as_str(), it.port)).collect();
    let expected =
        [("db-a", 5432), ("10.0.0.1", 6432), ("::1", 7), ("::1", 5432), ("/run/postgresql", 5432)];
    assert_eq!(hosts, expected);
    // Spaces at its end may be its own, unlike the line's end.
    let password = postgres.password.as_ref().unwrap().expose_secret();
    assert_eq!(password, "hush of the database ");
    assert!(postgres.rustls.is_some());
    // `load` has looked for it in what is shown.
    let effective = config.effective_toml();
    assert!(effective.contains("password_file = "), "{effective}");
    assert!(effective.contains("\"[::1]:7\""), "{effective}");
}

#[test]
fn a_variable_reaches_the_database_too() {
    let lines = OFF.to_owned() + "password_env = \"PGPASSWORD\"";
    let env = [
        ("PGPASSWORD", "hush-hush"),
        ("USERPILOT_GATEWAY__STORE__POSTGRES__HOSTS", "127.0.0.1:1,localhost"),
        ("USERPILOT_GATEWAY__STORE__POSTGRES__USER", "another"),
    ];
    let (config, _) = written(&lines).load(&env).unwrap();
    let postgres = &config.store.postgres;
    assert_eq!((postgres.hosts.len(), &*postgres.user), (2, "another"));
    assert_eq!(postgres.password.as_ref().unwrap().expose_secret(), "hush-hush");
    assert_eq!(config.store.engine, EngineKind::Postgres);
    assert!(postgres.rustls.is_none());

    let wrong = [("USERPILOT_GATEWAY__STORE__POSTGRES__HOST", "x")];
    let error = written(OFF).load(&wrong).err().unwrap().to_string();
    assert!(error.contains("did you mean USERPILOT_GATEWAY__STORE__POSTGRES__HOSTS?"), "{error}");
}

#[test]
fn what_would_be_unsafe_or_wrong_is_refused() {
    let with = |line: &str| format!("{OFF}{line}");
    refused(&with("hosts = \"db.example.com\""), "for loopback addresses and Unix sockets alone");
    refused(&with("ca_file = \"ca.crt\""), "no certificate is looked at");
    refused(&with("hosts = [\"postgres://u:hush@db/\"]"), "expected servers such as");
    refused(&with("hosts = []"), "expected servers such as");
    refused(&with("schema = \"A-b\""), "store.postgres.schema: expected 1 to 63");
    refused(&with("schema = \"pg_own\""), "without a digit or \"pg_\" first");
    refused(&with("password_env = \"NOT_THERE\""), "the environment variable NOT_THERE is not set");
    refused(&with("password_env = \"hush-1\""), "expected the name of a variable");
    refused(&with("password_file = \"nowhere\""), "cannot read the password in ");
    let both = "password_file = \"postgres.password\"\npassword_env = \"HOME\"";
    refused(&with(both), "give either this or password_file");
    refused(&with("usr = \"x\""), "store.postgres.usr: unknown key");
    let ca = "[store]\nengine = \"postgres\"\n[store.postgres]\nca_file = \"userpilot.key\"";
    refused(ca, "holds no certificate in PEM");

    let open = written(&with("password_file = \"postgres.password\""));
    let file = open.0.path().join("postgres.password");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = open.load(&[]).err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_store_is_shared_where_it_is_said_and_can_be() {
    let fleet = |more: &str| format!("{OFF}[store.fleet]\n{more}");
    let given = fleet("enabled = true\nlease_ms = 3000\nrenew_ms = 1000\n");
    let (config, _) = written(&given).load(&[]).unwrap();
    let FleetConfig { enabled, writers, lease_ms, renew_ms, poll_ms } = config.store.fleet;
    assert!(enabled);
    assert_eq!((writers, lease_ms, renew_ms, poll_ms), (4, 3_000, 1_000, 250));
    assert!(!load("", &[]).0.store.fleet.enabled);

    refused("[store.fleet]\nenabled = true", "store.fleet.enabled: only a store in PostgreSQL");
    refused(&fleet("renew_ms = 3334"), "store.fleet.renew_ms: expected at most a third");
    refused(
        &fleet("enabled = true\nwriters = 5"),
        "store.fleet.writers: store.postgres.connections",
    );
}
