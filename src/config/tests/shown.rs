//! The configuration in force, as it is shown.

use super::*;

#[test]
fn what_tokens_are_known_by_is_not_shown() {
    let (config, _) = load(&callers(), &[]);
    assert!(config.effective_toml().contains(HASH));
    let shown = config.shown_toml();
    let digits = shown.split(|char: char| !char.is_ascii_hexdigit());
    assert!(digits.into_iter().all(|digits| digits.len() < 32), "{shown}");
    let table: toml::Table = shown.parse().unwrap();
    let hash = |list: &str| table[list][0]["token_sha256"].as_str();
    assert_eq!([hash("clients"), hash("admins")], [Some("[redacted]"); 2]);
}

#[test]
fn what_waits_for_a_restart_is_not_in_force() {
    let (started, _) = load(&(app("linger_ms = 20") + "[server]\nconnections_max = 7\n"), &[]);
    let (new, _) =
        load(&(app("linger_ms = 21\n[apps.properties]\ndeny = [\"ssn\"]") + &admin("linus")), &[]);
    let in_force = started.with_live(&new);
    assert_eq!(started.changes(&in_force).at_restart, BTreeSet::new());
    assert_eq!(in_force.changes(&new).live, BTreeSet::new());
    assert_eq!((in_force.apps[0].linger_ms, in_force.server.connections_max), (20, 7));
    assert_eq!(in_force.apps[0].properties.deny, ["ssn"]);
    assert_eq!(in_force.admins[0].name, "linus");
}

fn admin(name: &str) -> String {
    format!("[[admins]]\nname = \"{name}\"\ntoken_sha256 = \"{HASH}\"\n")
}
