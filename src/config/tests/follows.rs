//! What is wrong is said where it is wrong, and not again of what refers to it.

use super::*;

fn report(text: &str) -> String {
    Written::new(text).load(&[]).unwrap_err().to_string()
}

#[test]
fn an_app_that_is_wrong_is_there_all_the_same() {
    let hash = "0".repeat(64);
    let client = format!(
        "[[clients]]\nname = \"b\"\ntoken_sha256 = \"{hash}\"\napps = [\"a\"]\n\
         pass_through = [\"POST /v1/track\"]\n"
    );
    let missing = "[[apps]]\nname = \"a\"\napi_key_env = \"NOT_THERE\"\n\
                   pass_through = [\"POST /v1/track\"]\n";
    let report = report(&(missing.to_owned() + &client));
    assert!(report.contains("the environment variable NOT_THERE is not set"), "{report}");
    assert!(!report.contains("clients[0]"), "{report}");
}

#[test]
fn an_issuers_address_is_not_told_where_an_api_key_belongs() {
    let auth = "[auth]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"https://x:hush@y.io\"\n";
    let report = report(&(app("") + auth));
    assert!(report.contains("auth.jwks_url: credentials do not belong in a URL"), "{report}");
    assert!(!report.contains("api_key"), "{report}");
}
