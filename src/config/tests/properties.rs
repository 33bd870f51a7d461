//! `[apps.properties]`.

use super::*;

const RULES: &str = r#"
stringify_values = true
[apps.properties]
deny = ["ssn"]
hash = ["email"]
hash_key_file = "userpilot.key"
on_mismatch = "drop"
[apps.properties.types]
seats = "number"
"Created At" = "date"
email = { type = "string", format = "email", max_length = 200 }
"#;

/// The rules, beside a key that is long enough to hash under.
fn written(rules: &str) -> Written {
    let written = Written::new(&app(rules));
    fs::write(written.0.path().join("userpilot.key"), format!("{KEY}{KEY}\n")).unwrap();
    written
}

#[test]
fn an_app_says_what_its_properties_may_be() {
    let (config, _) = written(RULES).load(&[]).unwrap();
    let AppConfig { stringify_values, properties, .. } = &config.apps[0];
    assert!(stringify_values);
    let PropertiesConfig { deny, allow, hash, hash_key, on_mismatch, types, .. } = properties;
    assert_eq!((deny, allow, hash), (&vec!["ssn".into()], &vec![], &vec!["email".to_owned()]));
    assert_eq!(hash_key.as_ref().unwrap().expose_secret(), format!("{KEY}{KEY}"));
    assert_eq!(*on_mismatch, MismatchWord::Drop);
    let names: Vec<_> = types.keys().collect();
    assert_eq!(names, ["Created At", "email", "seats"]);
    assert_eq!(types["Created At"].kind, TypeWord::Date);
    let email = types["email"];
    assert_eq!((email.format, email.max_length), (Some(FormatWord::Email), Some(200)));
}

#[test]
fn the_rules_in_force_bring_themselves_about_again() {
    let written = written(RULES);
    let effective = written.load(&[]).unwrap().0.effective_toml();
    fs::write(written.0.path().join("gateway.toml"), &effective).unwrap();
    let again = written.load(&[]).unwrap().0;
    assert_eq!(again.effective_toml(), effective);
    assert_eq!(again.apps[0].properties.types.len(), 3, "{effective}");
}

#[test]
fn another_hash_key_in_the_same_file_is_a_change() {
    let written = written(RULES);
    let (old, _) = written.load(&[]).unwrap();
    let file = written.0.path().join("userpilot.key");
    assert!(old.files().contains(&file));
    assert_eq!(old.changes(&written.load(&[]).unwrap().0), Changes::default());
    fs::write(&file, format!("{KEY}{KEY}{KEY}\n")).unwrap();
    let changes = old.changes(&written.load(&[]).unwrap().0);
    assert_eq!(changes.live, ["the hash key of app a".to_owned()].into());
    assert!(changes.at_restart.is_empty());
}

#[test]
fn without_rules_every_property_is_let_through() {
    let (config, _) = load("", &[]);
    let PropertiesConfig { deny, allow, hash, types, on_mismatch, .. } = &config.apps[0].properties;
    assert!(deny.is_empty() && allow.is_empty() && hash.is_empty() && types.is_empty());
    assert_eq!(*on_mismatch, MismatchWord::Reject);
}

#[test]
fn a_store_key_is_64_digits_that_nobody_else_can_read() {
    use std::os::unix::fs::PermissionsExt;

    let digits = "0123456789abcdefABCDEF0123456789".repeat(2);
    let files =
        "[store]\nencryption_key_file = \"a.key\"\nold_encryption_key_files = [\"b.key\"]\n";
    let written = Written::new(&format!("{files}{}", app("")));
    let put = |name: &str, text: &str, mode| {
        let path = written.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = || written.load(&[]).unwrap_err().to_string();
    put("a.key", &digits, 0o600);
    assert!(refused().contains("store.old_encryption_key_files: cannot read the key in"));
    put("b.key", &digits[1..], 0o600);
    assert!(refused().contains("is not 64 hexadecimal digits"));
    put("b.key", &digits, 0o604);
    assert!(refused().contains("every user of this machine can read"));
    put("b.key", &format!("{digits}\n"), 0o600);
    let (config, _) = written.load(&[]).unwrap();
    let key = config.store.encryption.key.as_ref().unwrap().expose_secret();
    assert_eq!(key[..3], [0x01, 0x23, 0x45]);
    let shown = format!("{config:?} {}", config.effective_toml());
    assert!(!shown.contains("0123") && shown.contains("b.key\"]"), "{shown}");
}

fn check(rules: &str, expected: &str) {
    let error = written(&format!("[apps.properties]\n{rules}")).load(&[]).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn rules_that_do_not_make_sense_are_refused() {
    check("denny = []", "apps[0].properties.denny: unknown key; did you mean deny?");
    check("deny = \"ssn\"", "apps[0].properties.deny: expected a list of texts, found a text");
    check("deny = [1]", "expected a text in quotes");
    check("on_mismatch = \"ignore\"", "expected \"reject\" or \"drop\" or \"warn\"");
    check("types = { a = \"text\" }", "\"a\": expected \"string\" or \"number\"");
    check("types = { a = { format = \"url\" } }", "\"a\": type is missing");
    check("types = { a = { type = \"number\", max_length = 1 } }", "are for strings");
    check("types = { a = { type = \"string\", max_length = 0 } }", "max_length: 0 is not in");
    check("types = { a = { type = \"string\", size = 1 } }", "unknown key \"size\"");
    check("types = { a = \"date\", \" A\" = \"date\" }", "are the same but for case and spaces");
    check("hash = [\"email\"]", "needs hash_key_file");
    check("hash_key_file = \"nowhere\"", "cannot read the hash key in");
    check("hash_key_file = \"gateway.toml\"\nhash = 1", "expected a list of texts");
    let short = Written::new(&app("[apps.properties]\nhash_key_file = \"userpilot.key\""));
    let error = short.load(&[]).unwrap_err().to_string();
    assert!(error.contains("is under 16 bytes"), "{error}");
    let error = Written::new("[properties]\ndeny = []").load(&[ENV]).unwrap_err().to_string();
    assert!(error.contains("unknown table"), "{error}");
}
