//! Who the server is, and which of several is taken.

use std::{net::TcpListener, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Trusts it alone.
fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_known_by_its_certificate_and_the_first_that_takes_writes_is_used() {
    let ca = authority("ours");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap().pem();
    let key = key.serialize_pem();
    // Nobody comes in without TLS.
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let files = [("server.crt", &*certificate), ("server.key", &*key), ("pg_hba.conf", rules)];
    let mut database = Database::of(Cluster::start_with(&files, &["ssl=on"]));
    let plain = database.options(SHARED);
    let refused = PostgresEngine::open(&plain).await.err().unwrap().to_string();
    assert!(refused.contains("no encryption"), "{refused}");

    let tls = PostgresOptions { tls: Some(trusting(&ca)), ..plain };
    let engine = PostgresEngine::open(&tls).await.unwrap();
    put(&engine, b"r1", b"x").await.unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'gateway'";
    assert_eq!(database.sql(encrypted), "t");
    drop(engine);

    // Another authority, another name, another password: what would fail again is not tried again.
    let [server] = &tls.hosts[..] else { panic!("one host") };
    let localhost = Host { name: "localhost".to_owned(), ..server.clone() };
    let wrong = [
        (
            PostgresOptions { tls: Some(trusting(&authority("theirs"))), ..tls.clone() },
            "UnknownIssuer",
        ),
        (PostgresOptions { hosts: vec![localhost], ..tls.clone() }, "not valid for name"),
        (
            PostgresOptions { password: Some(SecretString::from("hush-too")), ..tls.clone() },
            "28P01",
        ),
        (PostgresOptions { password: None, ..tls.clone() }, "password missing"),
    ];
    for (options, part) in wrong {
        let error = PostgresEngine::open(&options).await.err().unwrap();
        assert!(matches!(error, EngineError::Open { .. }), "{part}: {error}");
        let shown = format!("{error} {error:?} {options:?}");
        assert!(shown.contains(part) && !shown.contains("hush"), "{part}: {shown}");
    }
    assert!(!database.cluster.log().contains("hush"), "{}", database.cluster.log());

    // A server that is not there, one that never answers, and one that only reads come first.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let readers = Database::of(Cluster::start_with(&files, &["ssl=on"]));
    readers.sql("ALTER DATABASE store SET default_transaction_read_only = on");
    let at = |port| Host { port, ..server.clone() };
    let hosts = vec![
        at(closed),
        at(silent.local_addr().unwrap().port()),
        at(readers.cluster.port),
        server.clone(),
    ];
    let connect_timeout = Duration::from_secs(2);
    let several = PostgresOptions { hosts, connect_timeout, ..tls.clone() };
    let engine = PostgresEngine::open(&several).await.unwrap();
    assert_eq!(get(&engine, b"r1").await.unwrap().as_deref(), Some(&b"x"[..]));
    drop(engine);
    database.cluster.stop();
    let error = PostgresEngine::open(&several).await.err().unwrap();
    assert!(matches!(error, EngineError::Away(_)), "{error}");
    assert!(error.to_string().contains("does not allow writes"), "{error}");
}
