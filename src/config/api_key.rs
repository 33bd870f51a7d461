//! Reads an API key. Whatever goes wrong, no message holds any of it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use super::{ApiKeySource, Credential};

/// What Userpilot's keys look like is not documented; they are long and random. A shorter one is cut
/// off or a mistake, could be guessed, and would stand in ordinary words, out of which every quote of
/// the key is taken before they are shown.
const KEY_BYTES_MIN: usize = 8;
/// No key is longer; a log or a device given by mistake is.
const KEY_BYTES_MAX: u64 = 4096;
/// Where systemd says that the credentials of a unit are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A key, and whether every user of the machine can read the file that it came from.
pub(super) struct ApiKey {
    pub(super) key: SecretString,
    pub(super) readable_by_all: bool,
}

pub(super) fn read(
    source: &ApiKeySource,
    env: &BTreeMap<String, String>,
) -> Result<ApiKey, String> {
    match source {
        ApiKeySource::File(path) | ApiKeySource::Credential(Credential { path, .. }) => {
            let (text, readable_by_all) = read_file(path).map_err(|error| {
                format!("cannot read the API key in {}: {error}", path.display())
            })?;
            let key = check(&text, &path.display().to_string())?;
            Ok(ApiKey { key, readable_by_all })
        }
        ApiKeySource::Env(variable) => {
            let is_name =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if !variable.bytes().all(is_name) {
                // Somebody may have put the key itself here: say nothing of it.
                return Err("expected the name of a variable, of A-Z, 0-9 and \"_\"".to_owned());
            }
            let text = env
                .get(variable)
                .ok_or_else(|| format!("the environment variable {variable} is not set"))?;
            let key = check(&SecretString::from(text.as_str()), variable)?;
            Ok(ApiKey { key, readable_by_all: false })
        }
    }
}

/// The credential of that name, if this process may have any.
pub(super) fn credential(
    name: String,
    env: &BTreeMap<String, String>,
) -> Result<Credential, String> {
    if name.contains('/') || name == "." || name == ".." {
        return Err("expected the name of a credential, not a path".to_owned());
    }
    let folder = env.get(CREDENTIALS).ok_or_else(|| {
        format!(
            "the environment variable {CREDENTIALS} is not set: systemd sets it for a unit with \
             LoadCredential= or LoadCredentialEncrypted=; for a command by hand, set it to the \
             folder that has the file {name}, such as /etc/userpilot-gateway"
        )
    })?;
    let path = Path::new(folder).join(&name);
    Ok(Credential { name, path })
}

/// The text of a file that holds a key, and whether every user of the machine can read it.
pub(super) fn read_file(path: &Path) -> io::Result<(SecretString, bool)> {
    let file = File::open(path)?;
    let readable_by_all = file.metadata()?.permissions().mode() & 0o004 != 0;
    // Room for all of it at once: a text that grows would leave copies of the key behind.
    let room = usize::try_from(KEY_BYTES_MAX).unwrap_or_default() + 2;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(KEY_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok((SecretString::from(text.as_str()), readable_by_all))
}

/// The key without the white space around it, if it can stand in a header.
fn check(text: &SecretString, place: &str) -> Result<SecretString, String> {
    let key = text.expose_secret().trim();
    if key.is_empty() {
        return Err(format!("the API key in {place} is empty"));
    }
    if text.expose_secret().len() as u64 > KEY_BYTES_MAX {
        return Err(format!("the API key in {place} is over {KEY_BYTES_MAX} bytes"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "the API key in {place} holds a space, a control character or one that is not ASCII; \
             it is the key alone, without a word before it"
        ));
    }
    if key.len() < KEY_BYTES_MIN {
        return Err(format!(
            "the API key in {place} has fewer than {KEY_BYTES_MIN} characters: it is not the whole key"
        ));
    }
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refusal(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the.key");
        fs::write(&path, content).unwrap();
        let message = read(&ApiKeySource::File(path), &BTreeMap::new()).err().unwrap();
        assert!(message.contains("the.key"), "names the file: {message}");
        assert!(!message.contains("hush"), "shows the key: {message}");
        message
    }

    #[test]
    fn a_key_is_trimmed() {
        let env = BTreeMap::from([("KEY".to_owned(), " hush-711\r\n".to_owned())]);
        let key = read(&ApiKeySource::Env("KEY".to_owned()), &env).unwrap().key;
        assert_eq!(key.expose_secret(), "hush-711");
    }

    #[test]
    fn a_key_that_cannot_stand_in_a_header_is_refused_unseen() {
        assert!(refusal(b"hush\nhush").contains("control character"));
        assert!(refusal(b"Token hush").contains("a space"));
        assert!(refusal(b"hush\0").contains("control character"));
        assert!(refusal("hushé".as_bytes()).contains("not ASCII"));
        assert!(refusal(b"hush\xff").contains("cannot read"));
        assert!(refusal(b"").contains("is empty"));
        assert!(refusal(b" \n").contains("is empty"));
        for short in [&b"h"[..], b"hush-71", b"  hush-71\n"] {
            assert!(refusal(short).contains("has fewer than 8 characters"));
        }
        assert!(refusal(&b"hush".repeat(2000)).contains("over 4096 bytes"));
    }

    #[test]
    fn a_credential_is_found_where_systemd_put_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("userpilot"), "hush-711\n").unwrap();
        let env = BTreeMap::from([(CREDENTIALS.to_owned(), folder.path().display().to_string())]);
        let found = credential("userpilot".to_owned(), &env).unwrap();
        let key = read(&ApiKeySource::Credential(found), &env).unwrap().key;
        assert_eq!(key.expose_secret(), "hush-711");

        let refused = |name: &str, env| credential(name.to_owned(), env).unwrap_err();
        let nothing = BTreeMap::new();
        let message = refused("userpilot", &nothing);
        assert!(message.contains("LoadCredential="), "{message}");
        assert!(message.contains("by hand, set it to the folder that has the file userpilot"));
        assert!(refused("../userpilot", &env).contains("not a path"));
        assert!(refused("..", &env).contains("not a path"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = ApiKeySource::File("/nowhere/the.key".into());
        let message = read(&missing, &BTreeMap::new()).err().unwrap();
        assert!(message.starts_with("cannot read the API key in /nowhere/the.key: "), "{message}");
    }

    #[test]
    fn a_variable_is_named_unless_it_could_be_the_key() {
        let refusal =
            |name: &str| read(&ApiKeySource::Env(name.to_owned()), &BTreeMap::new()).err().unwrap();
        assert_eq!(refusal("MY_KEY"), "the environment variable MY_KEY is not set");
        assert!(!refusal("hush-1").contains("hush"));
    }
}
