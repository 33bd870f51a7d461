//! Values that are encrypted on disk: a wrapper around an engine. Keys stay in clear, since their
//! order is what the queue lives on; they hold the ids of users and companies.
//!
//! A sealed value is a mark, the id of the key that it is sealed under, 28 random bytes, and the
//! AES-256-GCM of the value with the entry's key as associated data: a value that is moved to
//! another key does not open. The first 16 of the random bytes make a key of its own for the
//! value (HMAC-SHA-256 of them under the store's key), the other 12 are the nonce. So a nonce
//! comes back under the same key with a probability that can be forgotten, however many values
//! are written, and after a store was copied back, where a counter would begin again.
//!
//! A note in the store names the keys that its values may be sealed under. Without these the
//! store does not open: nothing that merely lacks its key is ever taken for damaged.

mod transaction;

use std::{collections::BTreeSet, fmt, sync::Arc};

use futures_util::FutureExt as _;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use self::transaction::{SealedTransaction, open};
use super::{Engine, EngineError, Sharing, Transaction};
use crate::{domain::time::Timestamp, store::keys};

/// The first byte of a sealed value. Those in clear begin with their version, which is small.
const MARK: u8 = 0xea;
const ID_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + ID_BYTES + SALT_BYTES + NONCE_LEN;
const TAG_BYTES: usize = 16;

/// By how much a sealed value is longer.
pub const SEAL_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Where the note stands, among the engine's own entries.
const NOTE_KEY: &[u8] = &[0xff, b's'];
/// In the note, it stands for values in clear.
const CLEAR: KeyId = KeyId([0; ID_BYTES]);
const CHUNK: usize = 256;

/// What names a key, and says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key that values are sealed under. Its text shows nothing of it.
#[derive(Clone, Debug)]
pub struct StoreKey {
    id: KeyId,
    derive: hmac::Key,
}

impl StoreKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut of = digest::Context::new(&digest::SHA256);
        of.update(b"userpilot-gateway store key id");
        of.update(bytes);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&of.finish().as_ref()[..ID_BYTES]);
        Self { id: KeyId(id), derive: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key of one value, as long as AES-256 wants it.
    fn of_value(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let derived = hmac::sign(&self.derive, salt);
        UnboundKey::new(&AES_256_GCM, derived.as_ref()).map(LessSafeKey::new).ok()
    }

    fn seal(&self, random: &SystemRandom, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(value.len() + SEAL_BYTES);
        sealed.push(MARK);
        sealed.extend(self.id.0);
        let mut drawn = [0; SALT_BYTES + NONCE_LEN];
        random.fill(&mut drawn).ok()?;
        sealed.extend(drawn);
        let (salt, nonce) = drawn.split_at(SALT_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        sealed.extend(value);
        let text = &mut sealed[HEADER_BYTES..];
        let tag = self.of_value(salt)?.seal_in_place_separate_tag(nonce, Aad::from(key), text);
        sealed.extend(tag.ok()?.as_ref());
        Some(sealed)
    }

    /// The value, unless it was damaged, or belongs to another key of the store.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (header, text) = sealed.split_at_checked(HEADER_BYTES)?;
        let (salt, nonce) = header[1 + ID_BYTES..].split_at(SALT_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length =
            self.of_value(salt)?.open_in_place(nonce, Aad::from(key), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// The keys of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreKeys {
    /// What values are sealed under from now on; in clear where there is none.
    pub active: Option<StoreKey>,
    /// What older values may be sealed under.
    pub old: Vec<StoreKey>,
}

impl StoreKeys {
    fn of(&self, id: KeyId) -> Option<&StoreKey> {
        self.active.iter().chain(&self.old).find(|key| key.id == id)
    }

    /// What values get from now on.
    fn active_id(&self) -> KeyId {
        self.active.as_ref().map_or(CLEAR, StoreKey::id)
    }
}

/// An engine whose values are sealed, if there is a key for it.
#[derive(Clone, Debug)]
pub struct SealedEngine<E> {
    engine: E,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keys: StoreKeys,
    /// What the note says: the keys that values may be sealed under.
    known: BTreeSet<KeyId>,
    random: SystemRandom,
}

/// What rewriting a store has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that were rewritten.
    pub rewritten: u64,
    /// Values that were as they should be.
    pub kept: u64,
    /// Values that do not open: damaged. They stay as they are.
    pub damaged: u64,
}

impl<E: Engine> SealedEngine<E> {
    /// Wraps an embedded engine, if the keys are there that its values are sealed under. `path` is
    /// where it is, for words.
    pub fn open(engine: E, keys: StoreKeys, path: &str) -> Result<Self, EngineError> {
        now_or_failed(Self::wrap(engine, keys, path))
    }

    /// The same for any engine.
    pub async fn wrap(engine: E, keys: StoreKeys, path: &str) -> Result<Self, EngineError> {
        let refused = |reason| EngineError::Open { path: path.to_owned(), reason };
        let mut known = read_note(&engine).await?;
        if let Some(missing) = known.iter().find(|id| **id != CLEAR && keys.of(**id).is_none()) {
            return Err(refused(format!(
                "its values are encrypted under the key {missing}, which neither \
                 store.encryption_key_file nor store.old_encryption_key_files holds. Nothing was \
                 changed"
            )));
        }
        // A store in clear needs no note to say so.
        if known.insert(keys.active_id()) && known != BTreeSet::from([CLEAR]) {
            write_note(&engine, &known).await?;
        }
        let random = SystemRandom::new();
        Ok(Self { engine, shared: Arc::new(Shared { keys, known, random }) })
    }

    fn sealed(&self, inner: E::Transaction) -> SealedTransaction<E::Transaction> {
        SealedTransaction { inner, shared: self.shared.clone(), failed: None }
    }

    /// Whether some values are not as new ones are: in clear, or under an old key.
    pub fn is_mixed(&self) -> bool {
        self.shared.known.len() > 1
    }

    /// Rewrites every value that is not as new ones are. Nobody else may write meanwhile. What
    /// is interrupted goes on from where it was.
    pub async fn reseal(&mut self) -> Result<Resealed, EngineError> {
        if self.engine.sharing() != Sharing::Alone {
            let why = "values of a store that several gateways write to cannot be rewritten";
            return Err(EngineError::Failed(why.to_owned()));
        }
        let Shared { keys, .. } = &*self.shared;
        let active = keys.active_id();
        let mut done = Resealed::default();
        let mut from = Vec::new();
        loop {
            let mut transaction = self.engine.begin().await?;
            let entries = transaction.scan(from..=vec![ENGINE_FROM], CHUNK).await?;
            let Some((last, _)) = entries.last() else { break };
            from = keys::after(last.clone());
            for (key, value) in &entries {
                let value = value.as_ref();
                if id_of(value) == active {
                    done.kept += 1;
                    continue;
                }
                let clear = match self.shared.read(key, value) {
                    Reading::Clear => value.to_vec(),
                    Reading::Opened(clear) => clear,
                    Reading::Damaged => {
                        done.damaged += 1;
                        continue;
                    }
                };
                transaction.put(key, self.shared.seal(key, clear)?);
                done.rewritten += 1;
            }
            transaction.commit().await?;
        }
        if done.damaged == 0 {
            let known = BTreeSet::from([active]);
            write_note(&self.engine, &known).await?;
            let Shared { keys, random, .. } = &*self.shared;
            let (keys, random) = (keys.clone(), random.clone());
            self.shared = Arc::new(Shared { keys, known, random });
        }
        Ok(done)
    }
}

/// Keys from here on are engines' own, and stay as they are.
const ENGINE_FROM: u8 = 0xf0;

fn is_engines_own(key: &[u8]) -> bool {
    key.first().is_some_and(|first| *first >= ENGINE_FROM)
}

/// Under which key a value is sealed.
fn id_of(value: &[u8]) -> KeyId {
    match value.split_first() {
        Some((&MARK, rest)) => rest.first_chunk().map_or(CLEAR, |id| KeyId(*id)),
        Some(_) | None => CLEAR,
    }
}

/// What a stored value is.
enum Reading {
    /// In clear.
    Clear,
    /// Sealed; this is the value.
    Opened(Vec<u8>),
    /// Sealed, and it does not open.
    Damaged,
}

impl Shared {
    fn read(&self, key: &[u8], value: &[u8]) -> Reading {
        let id = id_of(value);
        if id == CLEAR {
            // Where all are sealed, nobody of ours has written one in clear.
            return if self.known.contains(&CLEAR) { Reading::Clear } else { Reading::Damaged };
        }
        // The note has named all keys: where there is none, the id itself is damaged.
        let opened = self.keys.of(id).and_then(|with| with.open(key, value));
        opened.map_or(Reading::Damaged, Reading::Opened)
    }

    fn seal(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        let Some(active) = &self.keys.active else { return Ok(value) };
        let sealed = active.seal(&self.random, key, &value);
        sealed.ok_or_else(|| EngineError::Failed("a value cannot be encrypted".to_owned()))
    }
}

/// The keys that values may be sealed under. A store without a note is in clear, unless it has
/// no values yet.
async fn read_note(engine: &impl Engine) -> Result<BTreeSet<KeyId>, EngineError> {
    let mut transaction = engine.begin().await?;
    if let Some(note) = transaction.get(NOTE_KEY).await? {
        let (ids, _) = note.as_ref().as_chunks();
        return Ok(ids.iter().map(|id| KeyId(*id)).collect());
    }
    let is_new = transaction.scan(Vec::new()..=vec![ENGINE_FROM], 1).await?.is_empty();
    Ok(if is_new { BTreeSet::new() } else { BTreeSet::from([CLEAR]) })
}

async fn write_note(engine: &impl Engine, ids: &BTreeSet<KeyId>) -> Result<(), EngineError> {
    let mut transaction = engine.begin().await?;
    transaction.put(NOTE_KEY, ids.iter().flat_map(|id| id.0).collect());
    transaction.commit().await
}

/// Embedded engines answer at once; whoever opens one waits for it in a thread anyway.
fn now_or_failed<T>(
    future: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let answer = future.now_or_never();
    answer.unwrap_or_else(|| Err(EngineError::Failed("the engine does not answer".to_owned())))
}

impl<E: Engine> Engine for SealedEngine<E> {
    type Transaction = SealedTransaction<E::Transaction>;

    async fn begin(&self) -> Result<Self::Transaction, EngineError> {
        Ok(self.sealed(self.engine.begin().await?))
    }

    fn sharing(&self) -> Sharing {
        self.engine.sharing()
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> Result<Self::Transaction, EngineError> {
        Ok(self.sealed(self.engine.begin_locked(locks, reads).await?))
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        let shared = &self.shared;
        let value = if is_engines_own(key) { value } else { shared.seal(key, value)? };
        let found = self.engine.put_if_absent(key, value).await?;
        Ok(open(shared, key, found).as_ref().to_vec())
    }

    async fn time(&self) -> Result<Option<Timestamp>, EngineError> {
        self.engine.time().await
    }

    async fn lost(&self) -> EngineError {
        self.engine.lost().await
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn name(&self) -> &'static str {
        self.engine.name()
    }
}
