//! An uploaded file that is kept while it is checked: without a name, for the gateway's user alone,
//! and encrypted under a key that nobody but its request holds, so that nothing of it can be read
//! from the disk, then or later.
//!
//! It is written in pieces, each sealed by AES-256-GCM with its number as the nonce: the key is
//! used for this one file, from its beginning to its end.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt as _, path::Path};

use axum::body::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::watch,
};

use super::{
    error::{ApiError, too_much_spooled},
    room::{Held, NoRoom},
};
use crate::{
    domain::space::{self as disk, Space},
    door::refusal::Refusal,
    intake::NotAccepted,
};

const PIECE_BYTES: usize = 1 << 16;
const TAG_BYTES: usize = 16;

/// An uploaded file that is gone with its request.
pub(super) struct Spool {
    file: File,
    key: LessSafeKey,
    /// What does not make a whole piece yet.
    piece: Vec<u8>,
    /// The number of the next piece.
    next: u64,
    space: watch::Receiver<Space>,
    held: Held,
}

impl Spool {
    /// An empty one, in `folder`, for as long as the disk has room and `held` takes its bytes.
    pub(super) async fn new(
        folder: &Path,
        space: watch::Receiver<Space>,
        held: Held,
    ) -> Result<Self, ApiError> {
        has_room(&space)?;
        let folder = folder.to_owned();
        let file = tokio::task::spawn_blocking(move || {
            let file = tempfile::tempfile_in(folder)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        });
        let file = file.await.map_err(|_| ApiError::store())?.map_err(cannot_spool)?;
        let key = UnboundKey::new(&AES_256_GCM, &rand::random::<[u8; 32]>());
        let key = LessSafeKey::new(key.map_err(|_| ApiError::store())?);
        Ok(Self { file: File::from_std(file), key, piece: Vec::new(), next: 0, space, held })
    }

    /// Keeps more of the file.
    pub(super) async fn keep(&mut self, mut bytes: &[u8]) -> Result<(), ApiError> {
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.piece.len();
            let (part, rest) = bytes.split_at(bytes.len().min(room));
            self.piece.extend_from_slice(part);
            bytes = rest;
            if self.piece.len() == PIECE_BYTES {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// From now on it is read, from its beginning.
    pub(super) async fn rewind(&mut self) -> Result<(), ApiError> {
        if !self.piece.is_empty() {
            self.write().await?;
        }
        self.file.flush().await.map_err(cannot_spool)?;
        self.file.rewind().await.map_err(cannot_spool)?;
        self.next = 0;
        Ok(())
    }

    /// The next piece.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let mut piece = Vec::new();
        let of_file = &mut self.file;
        let mut sealed = of_file.take((PIECE_BYTES + TAG_BYTES) as u64);
        sealed.read_to_end(&mut piece).await.map_err(cannot_spool)?;
        if piece.is_empty() {
            return Ok(None);
        }
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::empty(), &mut piece);
        let length = opened.map_err(|_| cannot_spool(io::ErrorKind::InvalidData.into()))?.len();
        piece.truncate(length);
        Ok(Some(piece.into()))
    }

    async fn write(&mut self) -> Result<(), ApiError> {
        has_room(&self.space)?;
        self.held.take(self.piece.len()).map_err(|NoRoom| too_much_spooled())?;
        let nonce = self.nonce();
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut self.piece);
        sealed.map_err(|_| ApiError::store())?;
        self.file.write_all(&self.piece).await.map_err(cannot_spool)?;
        self.piece.clear();
        Ok(())
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..size_of::<u64>()].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A file that is only to be checked takes no disk from what is accepted.
fn has_room(space: &watch::Receiver<Space>) -> Result<(), ApiError> {
    match space.borrow().room {
        disk::Room::Enough => Ok(()),
        disk::Room::Low => Err(Refusal::from(NotAccepted::DiskLow).into()),
    }
}

fn cannot_spool(error: io::Error) -> ApiError {
    tracing::warn!(%error, "an uploaded file cannot be kept while it is checked");
    ApiError::unavailable("the file cannot be kept while it is checked")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use super::{super::room::Room, *};
    use crate::door::caller::Client;

    async fn spool(text: &[u8], chunk: usize) -> (Spool, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let held = Room::new(usize::MAX >> 4, 0).held_by(&Client::default());
        let (_, space) = watch::channel(Space::default());
        let mut spool = Spool::new(folder.path(), space, held).await.unwrap();
        for part in text.chunks(chunk) {
            spool.keep(part).await.unwrap();
        }
        spool.rewind().await.unwrap();
        (spool, folder)
    }

    #[tokio::test]
    async fn what_is_kept_reads_back() {
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7] {
            let text: Vec<u8> = (b'a'..=b'w').cycle().take(length).collect();
            for chunk in [1_000, PIECE_BYTES, 5 * PIECE_BYTES] {
                let (mut spool, _folder) = spool(&text, chunk).await;
                let mut found = Vec::new();
                while let Some(piece) = spool.chunk().await.unwrap() {
                    found.extend_from_slice(&piece);
                }
                assert!(found == text, "{length} bytes in chunks of {chunk}");
            }
        }
    }

    #[tokio::test]
    async fn on_disk_it_is_nobodys_to_read() {
        let text =
            b"{\"user_id\": \"ada\", \"metadata\": {\"ssn\": \"078-05-1120\"}}\n".repeat(3_000);
        let (spool, folder) = spool(&text, 5_000).await;
        let on_disk = fs::read(format!("/proc/self/fd/{}", spool.file.as_raw_fd())).unwrap();
        assert!(on_disk.len() > text.len());
        for word in ["078-05-1120", "metadata", "user_id"] {
            let found = on_disk.windows(word.len()).any(|part| part == word.as_bytes());
            assert!(!found, "{word} is on disk");
        }
        let about = spool.file.metadata().await.unwrap();
        assert_eq!((about.mode() & 0o777, about.nlink()), (0o600, 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_piece_that_was_changed_is_not_taken() {
        let (mut spool, _folder) = spool(b"one line\n", 100).await;
        fs::write(
            format!("/proc/self/fd/{}", spool.file.as_raw_fd()),
            "another line, as long as that",
        )
        .unwrap();
        assert!(spool.chunk().await.is_err());
    }
    /// What keeping two pieces' worth is answered, where so much is there for it.
    async fn kept(bytes_max: usize, low_after: Option<usize>) -> Result<(), ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let held = Room::new(bytes_max, 0).held_by(&Client::default());
        let (disk, space) = watch::channel(Space::default());
        let full = Space { room: disk::Room::Low, free_bytes: Some(1) };
        let low = || assert_ne!(disk.send_replace(full), full);
        if low_after == Some(0) {
            low();
        }
        let mut spool = Spool::new(folder.path(), space, held).await?;
        for nth in 1..=2 {
            spool.keep(&[b'x'; PIECE_BYTES]).await?;
            if low_after == Some(nth) {
                low();
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_file_is_kept_while_there_is_room_for_it() {
        assert!(kept(2 * PIECE_BYTES, None).await.is_ok());
        for (bytes_max, low_after, words) in [
            (2 * PIECE_BYTES - 1, None, "http.spooled_bytes_max"),
            (2 * PIECE_BYTES, Some(0), "store.free_bytes_min"),
            (2 * PIECE_BYTES, Some(1), "store.free_bytes_min"),
        ] {
            let refusal = format!("{:?}", kept(bytes_max, low_after).await.unwrap_err());
            assert!(refusal.contains("429") && refusal.contains(words), "{refusal}");
            assert!(refusal.contains("retry_after: Some("), "{refusal}");
        }
    }
}
