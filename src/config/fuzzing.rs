//! Whatever stands in the file and in the environment: reading it does not panic, no key is
//! shown, and the configuration in force brings itself about again.

use std::{collections::BTreeMap, path::Path};

use super::Config;

/// In no word of ours, nor likely in a fuzzer's.
const KEY: &str = "hush-4711";
/// A folder that is not there: no name in it leads to a file.
const FILE: &str = "/nowhere/of/fuzzing/gateway.toml";

/// The file's text; after a zero byte variables, `STORE__PATH=x`, one a line.
pub(crate) fn config(input: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(input) else { return false };
    let (text, variables) = input.split_once('\0').unwrap_or((input, ""));
    if names_a_file(text) || names_a_file(variables) {
        return false;
    }
    let only_the_key = BTreeMap::from([("USERPILOT_API_KEY".to_owned(), KEY.to_owned())]);
    let mut env = only_the_key.clone();
    env.extend(variables.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((format!("USERPILOT_GATEWAY__{name}"), value.to_owned()))
    }));
    let read = |text: &str, env: &BTreeMap<_, _>| Config::read(Some((Path::new(FILE), text)), env);
    match read(text, &env) {
        Ok((config, warnings)) => {
            let effective = config.effective_toml();
            let shown = format!("{config:?} {warnings:?} {effective}");
            assert!(input.contains(KEY) || !shown.contains(KEY), "shows the key");
            let again = read(&effective, &only_the_key);
            let again = again.expect("the effective configuration reads").0;
            assert_eq!(again.effective_toml(), effective);
            true
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(input.contains(KEY) || !shown.contains(KEY), "shows the key");
            false
        }
    }
}

/// A fuzzer should open no file that it finds a name of.
fn names_a_file(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("_file") || text.contains("credential") || text.contains("_\\")
}

/// Files and variables that are taken.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let app = "[[apps]]\nname = \"a\"\napi_key_env = \"USERPILOT_API_KEY\"\n";
    let every_table = format!(
        "[server]\nhttp_listen = \"[::1]:0\"\nreflection = false\n[store]\npath = \"x\"\n\
         [limits]\nproperties_max = 7\n[history]\njobs_max = 9\n\
         [log]\nfilter = \"info,sled=warn\"\n{app}base_url = \"http://localhost:1\"\n\
         upload = \"json\"\nlinger_ms = 5\n"
    );
    let variables = "\0STORE__PATH=42\nAPPS__0__LINGER_MS=6\nSERVER__REFLECTION=true\n";
    vec![
        Vec::new(),
        app.into(),
        every_table.clone().into(),
        (every_table + variables).into(),
        variables.into(),
    ]
}
