//! Reading the numbers of names. They are given in order, so that of one whose number is damaged
//! it is the one that no other name has.

use super::{
    engine::{Engine, EngineError, Transaction},
    keys::{self, NameSpace},
    records::{Damage, Stored},
};

/// A name of an app or a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The entry's key.
    pub(super) key: Vec<u8>,
    /// The name itself.
    pub(super) text: String,
    /// Its number; `None` where that cannot be told.
    pub(super) number: Option<u16>,
    /// How its entry is damaged, if it is.
    pub(super) damage: Option<Damage>,
}

/// All names of a space.
pub(super) async fn names<E: Engine>(
    engine: &E,
    space: NameSpace,
) -> Result<Vec<Name>, EngineError> {
    names_in(&mut engine.begin().await?, space).await
}

/// All names of a space, as a transaction sees them.
pub(super) async fn names_in(
    transaction: &mut impl Transaction,
    space: NameSpace,
) -> Result<Vec<Name>, EngineError> {
    let entries = transaction.scan(keys::names(space), usize::from(u16::MAX)).await?;
    let prefix = keys::name(space, "").len();
    let name = |(key, bytes): &(Vec<u8>, _)| {
        let read = u16::decode(AsRef::<[u8]>::as_ref(bytes));
        let text = String::from_utf8_lossy(&key[prefix..]).into_owned();
        Name { key: key.clone(), text, number: read.ok(), damage: read.err() }
    };
    let mut names: Vec<Name> = entries.iter().map(name).collect();
    let all = u16::try_from(names.len()).unwrap_or(u16::MAX);
    let has = |number: &u16| names.iter().any(|name| name.number == Some(*number));
    let free: Vec<u16> = (0..all).filter(|number| !has(number)).collect();
    let mut unread = names.iter_mut().filter(|name| name.number.is_none());
    if let (Some(name), None, [number]) = (unread.next(), unread.next(), &*free) {
        name.number = Some(*number);
    }
    Ok(names)
}
