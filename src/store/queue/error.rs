//! What may go wrong in the queue.

use super::FORMAT;
use crate::store::{engine::EngineError, records::Damage};

/// What went wrong in the queue. After any of these nothing that was in memory is trusted:
/// the process ends, and the next one serves what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An entry that everything depends on does not decode.
    #[error(
        "damaged in the store: {what} ({damage}). `store check` tells how much is, and `store \
         export` saves what can be read, to be imported into a new directory; or restore a copy \
         of the directory"
    )]
    Damaged {
        /// Which entry, or entries.
        what: String,
        /// How.
        damage: Damage,
    },
    /// A batch was damaged while it was under way. A start rescues its rows.
    #[error(
        "damaged in the store: batch {number} of app {app:?} ({damage}). Start again: its rows go \
         back into the queue then; and see to the disk"
    )]
    DamagedBatch {
        /// The app's name.
        app: String,
        /// The batch's number.
        number: u64,
        /// How.
        damage: Damage,
    },
    /// Another version of this program wrote the store.
    #[error(
        "the store has format {found}, this program reads format {FORMAT}: go back to the version \
         that wrote it, and let what waits be delivered; or take it over: `store export` of the \
         version that wrote it, and `store import` of this one into a new directory"
    )]
    Format {
        /// The format that was found.
        found: u32,
    },
    /// Another version of this program wrote an entry.
    #[error(
        "the store has entries of another version of this program (value version {version}): \
         go back to that version"
    )]
    Version {
        /// The entry's version.
        version: u8,
    },
    /// The store belongs to one gateway, or several share it, and this one was told otherwise.
    #[error(
        "the store is {found}, and this gateway is set up for one that is {wanted}: `store export` \
         and `store import` move what waits into another one"
    )]
    Sharing {
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// Others write to the store as well, and one of them delivers the app now.
    #[error("app {app:?} is delivered by another replica by now")]
    LeaseLost {
        /// The app's name.
        app: String,
    },
    /// The driver asked for something that its batch is not ready for.
    #[error("batch {number} is not there to be {asked}")]
    NoSuchBatch {
        /// The batch's number.
        number: u64,
        /// What was asked.
        asked: &'static str,
    },
}

impl StoreError {
    /// Whether it passes by itself, and leaves what is stored as good as it was: whoever reads all
    /// anew may go on.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::LeaseLost { .. }
            | Self::Engine(EngineError::Away(_) | EngineError::Unknown(_)) => true,
            Self::Engine(
                EngineError::InUse { .. } | EngineError::Open { .. } | EngineError::Failed(_),
            )
            | Self::Damaged { .. }
            | Self::DamagedBatch { .. }
            | Self::Format { .. }
            | Self::Version { .. }
            | Self::Sharing { .. }
            | Self::NoSuchBatch { .. } => false,
        }
    }

    pub(super) fn unreadable(what: impl Into<String>, damage: Damage) -> Self {
        let what = what.into();
        match damage {
            Damage::Version(version) => Self::Version { version },
            Damage::Short | Damage::Checksum | Damage::Content => Self::Damaged { what, damage },
        }
    }
}
