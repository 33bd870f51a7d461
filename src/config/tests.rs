//! What configurations bring about; `refusals` has those that are refused.

mod follows;
mod postgres;
mod properties;
mod refusals;
mod shown;
mod tls;

use std::{collections::BTreeSet, fs};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::{reference::sections, *};

const KEY: &str = "hush-4711";

/// A file in a folder of its own, beside a key file.
struct Written(TempDir);

impl Written {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        fs::write(folder.path().join("userpilot.key"), format!("{KEY}\n")).unwrap();
        Self(folder)
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let result = Config::load(Some(&self.0.path().join("gateway.toml")), env);
        let shown = match &result {
            Ok((config, warnings)) => {
                format!("{config:#?} {warnings:?} {}", config.effective_toml())
            }
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("hush"), "shows a key: {shown}");
        result
    }
}

const ENV: (&str, &str) = ("USERPILOT_API_KEY", KEY);

fn load(text: &str, env: &[(&str, &str)]) -> (Config, Vec<Warning>) {
    let env: Vec<_> = env.iter().copied().chain([ENV]).collect();
    Written::new(text).load(&env).unwrap_or_else(|error| panic!("{error}"))
}

/// An app with one more line.
fn app(line: &str) -> String {
    format!("[[apps]]\nname = \"a\"\napi_key_file = \"userpilot.key\"\n{line}\n")
}

#[test]
fn an_empty_file_and_a_key_in_the_environment_are_enough() {
    let (config, warnings) = load("", &[]);
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.apps[0].name, "production");
    assert_eq!(config.apps[0].api_key.expose_secret(), KEY);
    assert_eq!(config.apps[0].api_key_source, ApiKeySource::Env("USERPILOT_API_KEY".to_owned()));
    assert_eq!(config.server.grpc_listen, "127.0.0.1:50051".parse().unwrap());
    assert_eq!(config.store.engine, EngineKind::Sled);
    assert_eq!(config.store.pending_bytes_max, 1 << 32);
    assert_eq!(warnings, []);
}

#[test]
fn no_file_and_a_key_in_the_environment_are_enough() {
    let env = BTreeMap::from([(ENV.0.to_owned(), ENV.1.to_owned())]);
    let (config, _) = Config::load_over(None, env).unwrap();
    assert_eq!(config.apps[0].users_per_minute, 1800);
}

#[test]
fn the_example_of_the_readme_works() {
    let text = r#"
        [server]
        grpc_listen  = "127.0.0.1:50051"
        http_listen  = "127.0.0.1:8080"     # health, readiness, metrics
        admin_listen = "127.0.0.1:50052"
        [store]
        engine = "sled"
        path   = "data"
        [[apps]]
        name             = "production"
        base_url         = "https://analytex.userpilot.io"
        api_key_file     = "userpilot.key"
        users_per_minute = 1800
        linger_ms        = 1000
    "#;
    let written = Written::new(text);
    let (config, _) = written.load(&[]).unwrap();
    let key_file = written.0.path().join("userpilot.key");
    assert_eq!(config.apps[0].api_key.expose_secret(), KEY);
    assert_eq!(config.apps[0].api_key_source, ApiKeySource::File(key_file));
    assert_eq!(config.apps[0].job_users_max, 10_000);
    assert_eq!(config.store.path, PathBuf::from("data"));
}

#[test]
fn apps_take_what_they_leave_out_from_the_defaults_and_nothing_from_each_other() {
    let text = app("linger_ms = 5")
        + "[[apps]]\nname = \"b\"\napi_key_env = \"B_KEY\"\nusers_per_minute = 7\n";
    let (config, _) = load(&text, &[("B_KEY", "hush-b-key")]);
    assert_eq!((config.apps[0].linger_ms, config.apps[0].users_per_minute), (5, 1800));
    assert_eq!((config.apps[1].linger_ms, config.apps[1].users_per_minute), (1000, 7));
    assert_eq!(config.apps[1].api_key.expose_secret(), "hush-b-key");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[store]\npath = \"a\"\n".to_owned() + &app("linger_ms = 5");
    let (config, _) = load(
        &text,
        &[
            ("USERPILOT_GATEWAY__STORE__PATH", "42"),
            ("USERPILOT_GATEWAY__STORE__ENGINE", "redb"),
            ("USERPILOT_GATEWAY__STORE__GROUP_UPDATES_MAX", "16"),
            ("USERPILOT_GATEWAY__SERVER__REFLECTION", "false"),
            ("USERPILOT_GATEWAY__SERVER__HTTP_LISTEN", "[::1]:0"),
            ("USERPILOT_GATEWAY__LOG__FORMAT", "json"),
            ("USERPILOT_GATEWAY__APPS__0__LINGER_MS", "6"),
            ("USERPILOT_GATEWAY__APPS__0__UPLOAD", "json"),
            ("USERPILOT_GATEWAY_SERVICE_HOST", "not ours: one underscore"),
        ],
    );
    assert_eq!(config.store.path, PathBuf::from("42"));
    assert_eq!(config.store.engine, EngineKind::Redb);
    assert_eq!(config.store.group_updates_max, 16);
    assert!(!config.server.reflection);
    assert_eq!(config.server.http_listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!((config.apps[0].linger_ms, config.apps[0].upload), (6, Upload::Json));
}

#[test]
fn the_environment_reaches_the_app_of_the_defaults() {
    let (config, _) = load("", &[("USERPILOT_GATEWAY__APPS__0__API_KEY_FILE", "userpilot.key")]);
    assert!(matches!(config.apps[0].api_key_source, ApiKeySource::File(_)));
}

const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Everything that may be said about who calls.
fn callers() -> String {
    format!(
        "[auth]\nissuer = \"https://login.example\"\naudience = \"gateway\"\n\
         jwks_url = \"https://login.example/jwks\"\n\
         {}[[clients]]\nname = \"billing\"\ntoken_sha256 = [\"{HASH}\"]\nsan = \"billing.corp\"\n\
         jwt_subject = \"svc-billing\"\napps = \"a\"\nproperties = [\"plan\"]\n\
         [[admins]]\nname = \"ada\"\ntoken_sha256 = \"{}\"\nrole = \"operator\"\n",
        app(""),
        HASH.to_uppercase()
    )
}

#[test]
fn clients_and_admins_are_read_and_take_the_rest_from_the_defaults() {
    let variable = ("USERPILOT_GATEWAY__CLIENTS__0__PROPERTIES", "plan, mrr");
    let (config, _) = load(&callers(), &[variable]);
    let ([client], [admin]) = (&*config.clients, &*config.admins) else { panic!("{config:?}") };
    assert_eq!(
        (&*client.name, &*client.apps, &*client.san),
        ("billing", &["a".to_owned()][..], &["billing.corp".to_owned()][..])
    );
    assert_eq!(client.token_sha256, [HASH]);
    assert_eq!((client.lane, client.updates_per_second_max), (ClientLane::Interactive, 0));
    assert_eq!(client.properties, Some(vec!["plan".to_owned(), "mrr".to_owned()]));
    assert_eq!((&*admin.token_sha256, admin.role), (&[HASH.to_owned()][..], AdminRole::Operator));
    let issuer = config.auth.issuer.as_ref().unwrap();
    assert!(matches!(&issuer.keys, JwksSource::Url(url) if url.path() == "/jwks"));
    assert_eq!((issuer.audience.as_str(), config.auth.leeway_ms), ("gateway", 60_000));
    assert!(load("", &[]).0.clients.is_empty());
}

#[test]
fn the_default_file_and_the_configuration_have_the_same_keys() {
    let mut documented = BTreeSet::new();
    for section in sections() {
        documented.extend(section.keys.iter().map(|key| format!("{}.{}", section.name, key.name)));
    }
    // Keys that only stand there where somebody gives them.
    let below = ["apps.properties", "store.postgres", "store.fleet"];
    held_in_comments(&mut documented);
    let file = load(&app(""), &[]).0.effective_toml();
    let env = load("", &[]).0.effective_toml();
    let credential = tls::with_everything().effective_toml();
    let written = Written::new(
        &callers().replace("jwks_url = \"https://login.example/jwks\"", "jwks_file = \"keys\""),
    );
    fs::write(written.0.path().join("keys"), "{\"keys\": []}").unwrap();
    let with_file = written.load(&[]).unwrap().0.effective_toml();
    let mut held = BTreeSet::new();
    for text in [file, env, credential, with_file, load(&callers(), &[]).0.effective_toml()] {
        for (section, table) in text.parse::<toml::Table>().unwrap() {
            let table = table.get(0).unwrap_or(&table).as_table().unwrap();
            let names = table.keys().map(|key| format!("{section}.{key}"));
            held.extend(names.filter(|name| !below.contains(&&**name)));
            for below in below {
                let nested = below.strip_prefix(&format!("{section}."));
                let nested = nested.and_then(|key| table.get(key)?.as_table());
                let nested = nested.into_iter().flat_map(toml::Table::keys);
                held.extend(nested.map(|key| format!("{below}.{key}")));
            }
        }
    }
    assert_eq!(documented, held);
}

fn held_in_comments(documented: &mut BTreeSet<String>) {
    let in_comments = [
        "store.encryption_key_file",
        "store.postgres.password_file",
        "store.postgres.password_env",
        "store.postgres.ca_file",
        "apps.properties.hash_key_file",
    ];
    for key in in_comments {
        assert!(documented.remove(key), "{key} is not documented");
    }
}

#[test]
fn the_effective_configuration_brings_itself_about() {
    let text = "[log]\nfilter = \"info,sled=\\\"warn\\\"\"\n".to_owned() + &app("linger_ms = 5");
    let (config, _) = load("[store]\npath = \"a \\\"b\\\" \\n\"", &[]);
    assert_eq!(load(&config.effective_toml(), &[]).0.effective_toml(), config.effective_toml());

    let effective = load(&callers(), &[]).0.effective_toml();
    let again = effective.replace("api_key_file = ", "api_key_env = \"USERPILOT_API_KEY\" # ");
    assert!(load(&again, &[]).0.effective_toml().contains("[[admins]]\nname = \"ada\""));

    // The key file must outlive its folder's first reading.
    let written = Written::new(&text.replace("=\\\"warn\\\"", "=warn"));
    let (config, _) = written.load(&[]).unwrap();
    let effective = config.effective_toml();
    assert!(effective.contains("userpilot.key\" # the key read from there: <redacted>\n"));
    assert_eq!(load(&effective, &[]).0.effective_toml(), effective);
}

#[test]
fn the_compiled_in_file_given_as_a_file_changes_nothing() {
    assert_eq!(load(DEFAULT_TOML, &[]).0.effective_toml(), load("", &[]).0.effective_toml());
}

#[test]
fn what_should_not_stay_so_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;

    let written = Written::new(&app(""));
    let path = written.0.path().join("userpilot.key");
    let warnings = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        written.load(&[]).unwrap().1
    };
    assert_eq!(warnings(0o600), []);
    let expected = Warning::KeyFileReadableByAll { app: "a".to_owned(), path: path.clone() };
    assert_eq!(warnings(0o604), [expected]);

    let open = "[server]\nadmin_listen = \"0.0.0.0:1\"\nunauthenticated = \"allow_anyone\"\n";
    let (listen, list) = ("0.0.0.0:1".parse().unwrap(), "admins".to_owned());
    let expected = Warning::Open { key: "server.admin_listen", listen, list };
    assert_eq!(load(open, &[]).1, [expected]);
    let text = callers() + "[server]\nhttp_listen = \"0.0.0.0:1\"\n";
    let warns = |text: &str| load(text, &[]).1.contains(&Warning::OpenMetrics { listen });
    assert!(warns(&text) && !warns(&(text + "metrics_auth = \"admin\"\n")));
    let admin = format!("[[admins]]\nname = \"a\"\ntoken_sha256 = \"{HASH}\"\n");
    assert_eq!(load(&(open.to_owned() + &admin), &[]).1, []);
}

#[test]
fn a_credential_that_lets_nobody_in_is_a_warning() {
    let client =
        |line: &str| format!("[[clients]]\nname = \"crm\"\napps = [\"production\"]\n{line}\n");
    let san = client("san = \"spiffe://corp/crm\"");
    assert_eq!(load(&san, &[]).1, [Warning::IdleSan { client: "crm".to_owned() }]);
    let token = client(&format!("token_sha256 = \"{HASH}\""));
    assert_eq!(load(&token, &[]).1, []);
    let issuer = "[auth]\nissuer = \"https://a\"\naudience = \"b\"\njwks_url = \"https://a/c\"\n";
    assert_eq!(load(&(issuer.to_owned() + &token), &[]).1, [Warning::IdleIssuer]);
    let subject = client("jwt_subject = \"crm\"");
    assert_eq!(load(&(issuer.to_owned() + &subject), &[]).1, []);
}

#[test]
fn a_path_that_is_not_utf_8_can_be_shown() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let written = Written::new("");
    let folder = written.0.path().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("gateway.toml"), app("")).unwrap();
    fs::write(folder.join("userpilot.key"), KEY).unwrap();
    let (config, _) =
        Config::load_over(Some(&folder.join("gateway.toml")), BTreeMap::new()).unwrap();
    assert!(config.effective_toml().contains("userpilot.key\""));
}
