//! A transaction whose values are sealed on their way in, and opened on their way out.

use std::{ops::RangeInclusive, sync::Arc};

use super::{Reading, SEAL_BYTES, Shared, is_engines_own};
use crate::{
    domain::time::Timestamp,
    store::engine::{ENTRY_BYTES_MAX, EngineError, Entries, Transaction, check_entry},
};

/// A transaction over a [`SealedEngine`].
#[derive(Debug)]
pub struct SealedTransaction<T> {
    pub(super) inner: T,
    pub(super) shared: Arc<Shared>,
    /// Why a value could not be sealed: then nothing is committed.
    pub(super) failed: Option<EngineError>,
}

/// A value as the engine lends it, or opened.
#[derive(Debug)]
pub enum Opened<V> {
    /// It was in clear.
    Lent(V),
    /// It was sealed.
    Clear(Vec<u8>),
}

impl<V: AsRef<[u8]>> AsRef<[u8]> for Opened<V> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Lent(value) => value.as_ref(),
            Self::Clear(value) => value,
        }
    }
}

pub(super) fn open<V: AsRef<[u8]>>(shared: &Shared, key: &[u8], value: V) -> Opened<V> {
    if is_engines_own(key) {
        return Opened::Lent(value);
    }
    match shared.read(key, value.as_ref()) {
        Reading::Clear => Opened::Lent(value),
        Reading::Opened(clear) => Opened::Clear(clear),
        // Too short for any value: whoever reads it finds it damaged, and sets it aside.
        Reading::Damaged => Opened::Clear(vec![0]),
    }
}

impl<T: Transaction> Transaction for SealedTransaction<T> {
    type Value = Opened<T::Value>;

    async fn get(&mut self, key: &[u8]) -> Result<Option<Self::Value>, EngineError> {
        let value = self.inner.get(key).await?;
        Ok(value.map(|value| open(&self.shared, key, value)))
    }

    async fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Self::Value>, EngineError> {
        let entries = self.inner.scan(range, limit).await?;
        let open = |(key, value): (Vec<u8>, T::Value)| {
            let value = open(&self.shared, &key, value);
            (key, value)
        };
        Ok(entries.into_iter().map(open).collect())
    }

    async fn prefetch(&mut self, keys: &[Vec<u8>]) -> Result<(), EngineError> {
        self.inner.prefetch(keys).await
    }

    fn time(&self) -> Option<Timestamp> {
        self.inner.time()
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        if is_engines_own(key) {
            return self.inner.put(key, value);
        }
        let bytes = key.len() + value.len();
        let sealed = check_entry(bytes, ENTRY_BYTES_MAX - SEAL_BYTES);
        match sealed.and_then(|()| self.shared.seal(key, value)) {
            Ok(sealed) => self.inner.put(key, sealed),
            Err(error) => self.failed = Some(error),
        }
    }

    fn delete(&mut self, key: &[u8]) {
        self.inner.delete(key);
    }

    async fn commit(self) -> Result<(), EngineError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.inner.commit().await,
        }
    }
}
