//! Walking over all of a store, and reading keys back.

use super::{
    engine::{Engine, EngineError, Entries, Transaction},
    keys,
};
use crate::domain::update::{AppId, Sequence};

/// Records may be large.
const CHUNK: usize = 256;
/// Longer than any key.
const KEY_BYTES: usize = 2_048;

/// What kind of entry a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    App,
    Batch,
    Course,
    Delivery,
    InFlight,
    Forgotten,
    Head,
    Job,
    JobPage,
    Dead,
    DeadOf,
    Name,
    Lease,
    PagesDamaged,
    Page,
    Pending,
    Rescue,
    Held,
    Quarantine,
    /// A note of the engine's own.
    Engine,
}

impl Kind {
    /// All kinds, in the order of their keys.
    pub(super) const ALL: [Self; 20] = [
        Self::App,
        Self::Batch,
        Self::Course,
        Self::Delivery,
        Self::InFlight,
        Self::Forgotten,
        Self::Head,
        Self::Job,
        Self::JobPage,
        Self::Dead,
        Self::DeadOf,
        Self::Name,
        Self::Lease,
        Self::PagesDamaged,
        Self::Page,
        Self::Pending,
        Self::Rescue,
        Self::Held,
        Self::Quarantine,
        Self::Engine,
    ];

    /// The byte that its keys begin with.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::App => b'a',
            Self::Batch => b'b',
            Self::Course => b'c',
            Self::Delivery => b'd',
            Self::InFlight => b'f',
            Self::Forgotten => b'g',
            Self::Head => b'h',
            Self::Job => b'j',
            Self::JobPage => b'k',
            Self::Dead => b'l',
            Self::DeadOf => b'm',
            Self::Name => b'n',
            Self::Lease => b'o',
            Self::PagesDamaged => b'p',
            Self::Page => b'q',
            Self::Pending => b'r',
            Self::Rescue => b'u',
            Self::Held => b'v',
            Self::Quarantine => b'x',
            Self::Engine => 0xff,
        }
    }

    /// The kind of a key; `None` if this program knows none.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| Some(&kind.byte()) == key.first())
    }

    /// What operators call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::App => "app state",
            Self::Batch => "batch",
            Self::Course => "course of a stripe",
            Self::Delivery => "delivery",
            Self::InFlight => "record in flight",
            Self::Forgotten => "forgotten subject",
            Self::Head => "head",
            Self::Job => "virtual job",
            Self::JobPage => "page of a virtual job",
            Self::Dead => "dead letter",
            Self::DeadOf => "index of dead letters",
            Self::Name => "name",
            Self::Lease => "lease",
            Self::PagesDamaged => "pages to be made anew",
            Self::Page => "page of the queue",
            Self::Pending => "pending record",
            Self::Rescue => "state made anew",
            Self::Held => "memory of a subject's values",
            Self::Quarantine => "entry set aside",
            Self::Engine => "the engine's own",
        }
    }
}

/// A way through the entries of a store, in key order, some at a time.
#[derive(Debug)]
pub(super) struct Walk {
    from: Vec<u8>,
    end: Vec<u8>,
}

impl Walk {
    /// Through all entries.
    pub(super) fn through_all() -> Self {
        Self { from: Vec::new(), end: vec![0xff; KEY_BYTES] }
    }

    /// Through the entries of one kind.
    pub(super) fn through(kind: Kind) -> Self {
        let mut end = vec![kind.byte()];
        end.resize(KEY_BYTES, 0xff);
        Self { from: vec![kind.byte()], end }
    }

    /// The next entries; none at the end.
    pub(super) async fn next<E: Engine>(
        &mut self,
        engine: &E,
    ) -> Result<Entries<<E::Transaction as Transaction>::Value>, EngineError> {
        let mut transaction = engine.begin().await?;
        let entries = transaction.scan(self.from.clone()..=self.end.clone(), CHUNK).await?;
        if let Some((last, _)) = entries.last() {
            self.from = keys::after(last.clone());
        }
        Ok(entries)
    }
}

/// The app that a key belongs to; not of heads, names and what is set aside.
pub(super) fn app_of(key: &[u8]) -> Option<AppId> {
    Some(AppId(u16::from_be_bytes(key.get(1..3)?.try_into().ok()?)))
}

/// The number that a key ends with: a page's first sequence, a delivery's last.
pub(super) fn sequence_of(key: &[u8]) -> Option<Sequence> {
    key.last_chunk().map(|number| Sequence::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        time::Timestamp,
        update::{ClientId, Lane, Subject, SubjectKind},
    };

    #[test]
    fn every_key_tells_its_kind_and_its_app() {
        let (app, subject) = (AppId(7), Subject::user("u"));
        for (key, kind) in [
            (keys::app(app), Kind::App),
            (keys::batch(app, 1), Kind::Batch),
            (keys::course::course(app, 3), Kind::Course),
            (keys::course::lease(app), Kind::Lease),
            (keys::delivery(app, &subject, 1), Kind::Delivery),
            (keys::in_flight(app, &subject), Kind::InFlight),
            (keys::dead(app, Timestamp::default(), 1), Kind::Dead),
            (keys::dead_of(app, &[], Timestamp::default(), 1), Kind::DeadOf),
            (keys::forgotten(app, 1, b"u"), Kind::Forgotten),
            (keys::pages_damaged(app), Kind::PagesDamaged),
            (keys::page(app, (SubjectKind::Company, Lane::Bulk), ClientId(1), 9), Kind::Page),
            (keys::pending(app, &subject), Kind::Pending),
            (keys::rescue(app), Kind::Rescue),
            (keys::held_of(app, &[]), Kind::Held),
        ] {
            assert_eq!((Kind::of(&key), app_of(&key)), (Some(kind), Some(app)));
        }
        assert_eq!(Kind::of(keys::HEAD), Some(Kind::Head));
        assert_eq!(Kind::of(&keys::name(keys::NameSpace::App, "a")), Some(Kind::Name));
        assert_eq!(Kind::of(&keys::quarantine(b"r", 1)), Some(Kind::Quarantine));
        assert_eq!((Kind::of(b"?"), Kind::of(b"")), (None, None));
        let page = keys::page(app, (SubjectKind::Company, Lane::Bulk), ClientId(1), 9);
        assert_eq!(sequence_of(&page), Some(9));
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.byte()));
    }
}
