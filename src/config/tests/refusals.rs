//! What is refused, and in which words.

use super::*;

/// Each problem as it is printed, less the folder of the file.
fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let written = Written::new(text);
    let env: Vec<_> = env.iter().copied().chain([ENV]).collect();
    let folder = format!("{}/", written.0.path().display());
    match written.load(&env) {
        Err(ConfigError::Invalid(problems)) => {
            problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
        }
        other => panic!("expected problems, got {other:?}"),
    }
}

fn check(text: &str, expected: &[&str]) {
    let expected: Vec<String> =
        expected.iter().map(|problem| format!("{problem} (set by gateway.toml)")).collect();
    assert_eq!(problems(text, &[]), expected, "{text}");
}

fn check_env(variable: &str, value: &str, expected: &str) {
    assert_eq!(problems("", &[(variable, value)]), [expected]);
}

#[test]
fn a_configuration_without_a_key_says_where_one_could_be() {
    let error = Config::load_over(None, BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the configuration has a problem:\n  apps[0].api_key_env: the environment variable \
         USERPILOT_API_KEY is not set (set by the defaults)"
    );
}

#[test]
fn an_app_says_its_name_and_its_key_itself() {
    let expected = [
        "apps[0]: no API key: give api_key_file, api_key_credential or api_key_env",
        "apps[0].name: missing",
    ];
    assert_eq!(problems("[[apps]]\nlinger_ms = 1", &[]), expected);
}

#[test]
fn a_wrong_variable_is_named() {
    check_env(
        "USERPILOT_GATEWAY__STORE__PTH",
        "x",
        "USERPILOT_GATEWAY__STORE__PTH: unknown key; did you mean USERPILOT_GATEWAY__STORE__PATH?",
    );
    check_env(
        "USERPILOT_GATEWAY__APPS__0__API_KEY",
        KEY,
        "USERPILOT_GATEWAY__APPS__0__API_KEY: unknown key; \
         did you mean USERPILOT_GATEWAY__APPS__0__API_KEY_ENV?",
    );
    check_env(
        "USERPILOT_GATEWAY__APPS__1__LINGER_MS",
        "1",
        "USERPILOT_GATEWAY__APPS__1__LINGER_MS: there is no app 1: the last one is 0",
    );
    check_env(
        "USERPILOT_GATEWAY__STORE__GROUP_UPDATES_MAX",
        "many",
        "store.group_updates_max: expected a whole number \
         (set by USERPILOT_GATEWAY__STORE__GROUP_UPDATES_MAX)",
    );
    check_env(
        "USERPILOT_GATEWAY__SERVER__REFLECTION",
        "yes",
        "server.reflection: expected true or false (set by USERPILOT_GATEWAY__SERVER__REFLECTION)",
    );
}

#[test]
fn an_unknown_key_names_the_nearest() {
    check(&app("linger_sm = 1"), &["apps[0].linger_sm: unknown key; did you mean linger_ms?"]);
    check("[store]\npaht = \"x\"", &["store.paht: unknown key; did you mean path?"]);
    check("[stroe]\npath = \"x\"", &["stroe: unknown table; did you mean store?"]);
    check(
        "[store]\nlinger_ms = 1",
        &["store.linger_ms: unknown key; did you mean [[apps]] linger_ms?"],
    );
    check("grpc_listen = \"x\"", &["grpc_listen: unknown table; did you mean server.grpc_listen?"]);
    check(&app("api_key = \"hush\""), &["apps[0].api_key: unknown key; did you mean api_key_env?"]);
    check("[\"store.path\"]\nx = 1", &["store.path: unknown table; did you mean store?"]);
    // A guess that is none would lead astray.
    let none = "and none is like it; `userpilot-gateway print-default-config` shows all";
    check("[store]\ndirectory = \"x\"", &[&format!("store.directory: unknown key, {none}")]);
    check("[kubernetes]\nx = 1", &[&format!("kubernetes: unknown table, {none}")]);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    check("store = 1", &["store: expected a table"]);
    check("apps = 1", &["apps: expected [[apps]], a list of tables"]);
    check("[apps]\nname = \"a\"", &["apps: expected [[apps]], a list of tables"]);
    check("[store]\npath = 1", &["store.path: expected a text in quotes, found a whole number"]);
    check("[store]\npath = \" \"", &["store.path: empty"]);
    check(
        "[server]\nreflection = 1",
        &["server.reflection: expected true or false, found a whole number"],
    );
    check(
        "[history]\njobs_max = \"10\"",
        &["history.jobs_max: expected a whole number, found a text"],
    );
    check(
        "[history]\njobs_max = 1.5",
        &["history.jobs_max: expected a whole number, found a number with a point"],
    );
    check("[history]\njobs_max = -1", &["history.jobs_max: -1 is not in 1 to 1000000"]);
    check(
        "[store]\nengine = \"memory\"",
        &["store.engine: expected \"sled\" or \"redb\" or \"postgres\""],
    );
    check("[log]\nformat = \"xml\"", &["log.format: expected \"auto\" or \"pretty\" or \"json\""]);
    check(
        "[server]\ngrpc_listen = \"localhost:1\"",
        &["server.grpc_listen: expected an IP address and a port, \
           such as 127.0.0.1:50051 or [::]:50051"],
    );
    let filter = problems("[log]\nfilter = \"a=b=c\"", &[]);
    assert!(filter[0].starts_with("log.filter: expected a level such as info"), "{filter:?}");
}

#[test]
fn all_problems_are_reported_together() {
    let text = "[store]\npath = 1\n[sever]\n".to_owned() + &app("linger_ms = -1\nbase_url = \"x\"");
    let problems = problems(&text, &[("USERPILOT_GATEWAY__LOG__FILTER", "")]);
    let keys: Vec<&str> = problems.iter().map(|text| text.split(": ").next().unwrap()).collect();
    assert_eq!(
        keys,
        ["apps[0].base_url", "apps[0].linger_ms", "log.filter", "sever", "store.path"]
    );
}

#[test]
fn a_base_url_is_one_that_a_key_may_be_sent_to() {
    let refused = |url: &str, why: &str| {
        check(&app(&format!("base_url = {url:?}")), &[&format!("apps[0].base_url: {why}")]);
    };
    refused(
        "http://analytex.userpilot.io",
        "expected https: plain http is for loopback addresses alone",
    );
    refused(
        "http://localhost.evil.example",
        "expected https: plain http is for loopback addresses alone",
    );
    refused("ftp://localhost", "expected https");
    refused(
        "https://u:hush@x.io",
        "credentials do not belong in a URL: use api_key_file or api_key_env",
    );
    refused(
        "https://hush@x.io",
        "credentials do not belong in a URL: use api_key_file or api_key_env",
    );
    refused("https://x.io/?a=hush", "expected a URL without ? and #");
    refused("mailto:hush", "expected https:// and a host");
    refused("analytex", "not a URL: relative URL without a base");

    for url in ["http://127.0.0.1:8089", "http://[::1]:1/a", "http://localhost:1", "https://x.io/v"]
    {
        let (config, _) = load(&app(&format!("base_url = {url:?}")), &[]);
        assert!(config.apps[0].base_url.as_str().starts_with(url));
    }
}

#[test]
fn apps_have_names_of_their_own() {
    check(&(app("") + &app("")), &["apps[1].name: another app is called \"a\" too"]);
    let long = "a".repeat(65);
    for name in ["", "A", "a b", "é", &long] {
        let text = format!("[[apps]]\nname = {name:?}\napi_key_file = \"userpilot.key\"");
        check(&text, &["apps[0].name: expected 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\""]);
    }
    assert_eq!(problems("apps = []", &[]), ["apps: expected 1 to 64 apps, found 0"]);
}

#[test]
fn a_key_comes_from_one_place() {
    check(
        &app("api_key_env = \"KEY\""),
        &[
            "apps[0].api_key_file: give only one of api_key_file, api_key_credential and api_key_env",
        ],
    );
    check(
        "[[apps]]\nname = \"a\"\napi_key_env = \"hush\"",
        &["apps[0].api_key_env: expected the name of a variable, of A-Z, 0-9 and \"_\""],
    );
    let missing = problems("[[apps]]\nname = \"a\"\napi_key_file = \"no.key\"", &[]);
    assert!(missing[0].starts_with("apps[0].api_key_file: cannot read the API key in no.key: "));
}

#[test]
fn a_key_that_is_too_short_to_be_one_is_refused_by_the_app_and_the_setting_that_names_it() {
    let text = app("") + "[[apps]]\nname = \"b\"\napi_key_env = \"B_KEY\"\n";
    let expected = "apps[1].api_key_env: the API key in B_KEY has fewer than 8 characters: it is \
                    not the whole key (set by gateway.toml)";
    assert_eq!(problems(&text, &[("B_KEY", "hush-71")]), [expected]);
}

#[test]
fn what_one_key_allows_another_lets_through() {
    let refused = |text: &str, expected: &str| assert_eq!(problems(text, &[]), [expected]);
    refused(
        &app("poll_interval_min_ms = 20000"),
        "apps[0].poll_interval_max_ms: expected at least poll_interval_min_ms, which is 20000",
    );
    refused(
        &app("backoff_initial_ms = 70000"),
        "apps[0].backoff_max_ms: expected at least backoff_initial_ms, which is 70000",
    );
    refused(
        &app("connect_timeout_ms = 200000"),
        "apps[0].connect_timeout_ms: expected at most request_timeout_ms, which is 120000",
    );
    refused(
        &app("batch_bytes_max = 2048"),
        "apps[0].batch_bytes_max: expected at least limits.record_bytes_max, which is 65536",
    );
    refused(
        "[intake]\nwaiting_bytes_max = 2048",
        "intake.waiting_bytes_max: expected at least server.request_bytes_max, which is 4194304",
    );
    refused(
        "[intake]\nwaiting_updates_max = 1",
        "intake.waiting_updates_max: expected at least limits.updates_per_request_max, which is 1000",
    );
    refused(
        "[server]\nhttp_listen = \"127.0.0.1:50051\"",
        "server.http_listen: another listener has 127.0.0.1:50051 already",
    );
}

#[test]
fn every_documented_range_is_the_one_in_force() {
    let check = |section: &str, key: &str, value: f64, fits: bool| {
        let variable = match section {
            "apps" | "clients" => {
                let (list, key) = (section.to_uppercase(), key.to_uppercase());
                format!("USERPILOT_GATEWAY__{list}__0__{key}")
            }
            name => format!("USERPILOT_GATEWAY__{}__{}", name.to_uppercase(), key.to_uppercase()),
        };
        let file = if section == "clients" { callers() } else { String::new() };
        let text = match Written::new(&file).load(&[ENV, (&variable, &value.to_string())]) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let refused = text.contains(&format!("{key}: {value} is not in "));
        assert_eq!(refused, !fits, "{section}.{key} = {value}: {text}");
    };
    let (mut ranges, mut fractions) = (0, 0);
    for section in sections() {
        for key in &section.keys {
            let Some((least, greatest)) = key.range else { continue };
            let is_whole = !key.default.as_ref().is_some_and(|default| default.contains('.'));
            let step = if is_whole { 1.0 } else { 0.000_1 };
            check(&section.name, &key.name, least - step, false);
            check(&section.name, &key.name, least, true);
            check(&section.name, &key.name, greatest, true);
            check(&section.name, &key.name, greatest + step, false);
            ranges += 1;
            fractions += usize::from(!is_whole);
        }
    }
    assert!(ranges > 25 && fractions > 1, "{ranges}, {fractions}");
}

#[test]
fn who_may_call_is_said_without_doubt() {
    let refused = |text: String, expected: &[&str]| {
        let found = problems(&text, &[]);
        let found: Vec<_> =
            found.iter().map(|it| it.trim_end_matches(" (set by gateway.toml)")).collect();
        assert_eq!(found, expected, "{text}");
    };
    let client = |name: &str, lines: &str| format!("[[clients]]\nname = \"{name}\"\n{lines}\n");
    let token = format!("token_sha256 = \"{HASH}\"\napps = \"a\"");
    refused(
        app("") + &client("b", "lane = \"slow\""),
        &[
            "clients[0]: no credential: give token_sha256, san or jwt_subject",
            "clients[0].apps: expected the apps that it may use",
            "clients[0].lane: expected \"interactive\" or \"bulk\"",
        ],
    );
    refused(
        app("") + &client("b", "token_sha256 = \"hush\"\napps = [\"a\", \"c\"]"),
        &[
            "clients[0].apps: no app is called \"c\"",
            "clients[0].token_sha256: expected the 64 hex digits of a SHA-256, as \
             `userpilot-gateway token new` prints them",
        ],
    );
    refused(
        app("") + &client("b", &token) + &client("b", &token),
        &[
            "clients[1].name: another one has the same",
            "clients[1].token_sha256: another one has the same",
        ],
    );
    refused(
        app("pass_through = [\"POST /v1/track\"]")
            + &client("b", &(token.clone() + "\npass_through = \"POST /v1/track\""))
            + &client("c", "san = \"c\"\napps = \"a\"\npass_through = [\"POST /v1/goals\", \"x\"]"),
        &[
            "clients[1].pass_through: \"POST /v1/goals\": none of its apps has it in pass_through",
            "clients[1].pass_through: \"x\": expected a method and a path, such as \"POST \
             /v1/track\"",
        ],
    );
    refused(
        app("") + &client("anyone", &token),
        &["clients[0].name: is what callers without a credential are called"],
    );
    refused(
        app("") + &client("b", "jwt_subject = \"x\"\napps = \"a\""),
        &["clients[0].jwt_subject: means nothing without auth.issuer"],
    );
    refused("[[admins]]\nname = \"a\"".into(), &["admins[0]: no credential: give token_sha256"]);
    let auth = |lines: &str| format!("[auth]\n{lines}\n");
    refused(
        auth("jwks_url = \"https://x.io\""),
        &["auth.jwks_url: means nothing without auth.issuer"],
    );
    refused(
        auth("issuer = \"i\"\njwks_url = \"https://x.io\""),
        &["auth.issuer: needs auth.audience: other services' tokens are no use"],
    );
    refused(
        auth("issuer = \"i\"\naudience = \"a\""),
        &["auth.issuer: needs either auth.jwks_file or auth.jwks_url"],
    );
    for algorithm in ["HS256", "none"] {
        let known = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";
        refused(
            auth(&format!("algorithms = [\"{algorithm}\"]")),
            &[&format!("auth.algorithms: expected some of {known}")],
        );
    }
}

#[test]
fn a_listener_that_others_reach_asks_who_calls() {
    for (key, list) in
        [("grpc_listen", "clients"), ("http_listen", "clients"), ("admin_listen", "admins")]
    {
        let text = format!("[server]\n{key} = \"0.0.0.0:1\"\n");
        assert_eq!(
            problems(&text, &[]),
            [format!(
                "server.{key}: 0.0.0.0:1 is not a loopback address, and without [[{list}]] no \
                 credential is asked for: configure [[{list}]], or set server.unauthenticated = \
                 \"allow_anyone\" to let in whoever reaches it"
            )]
        );
        let (_, warnings) = load(&(text + &callers()), &[]);
        assert!(!warnings.iter().any(|it| matches!(it, Warning::Open { .. })), "{warnings:?}");
    }
}

#[test]
fn metrics_that_nobody_could_read_are_refused() {
    let text = "[server]\nmetrics_auth = \"admin\"\n";
    assert_eq!(
        problems(text, &[]),
        ["server.metrics_auth: \"admin\" without [[admins]] lets nobody read the metrics: \
             configure [[admins]], or set it to \"none\""]
    );
    load(&(text.to_owned() + &callers()), &[]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Config::load(Some(Path::new("/nowhere/g.toml")), std::iter::empty());
    let message = missing.unwrap_err().to_string();
    assert!(
        message.starts_with("cannot read the configuration file /nowhere/g.toml: "),
        "{message}"
    );

    let syntax = |text: &str, place: &str| {
        let message = Written::new(text).load(&[]).unwrap_err().to_string();
        assert!(message.contains(&format!("gateway.toml is not TOML: {place}: ")), "{message}");
    };
    syntax("[store]\n  path = hush", "line 2, column 10");
    syntax("[store]\npath = \"hush\"\npath = \"hush\"", "line 3, column 1");
    syntax("[store]\ncache_bytes_max = 99999999999999999999", "line 2, column 19");
}
