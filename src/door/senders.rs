//! Who is to be answered.

use super::refusal::Refusal;
use crate::domain::update::{AppId, Subject, Update};

/// What is remembered of an update to answer it.
pub(super) struct Sender {
    pub(super) app: AppId,
    pub(super) subject: Subject,
}

/// Who sent what, for the answers; or why it is refused.
pub(super) type Senders = Vec<Result<Sender, Refusal>>;

/// Splits updates into the good ones and who is to be answered.
pub(super) fn split(
    updates: impl Iterator<Item = Result<Update, Refusal>>,
) -> (Vec<Update>, Senders) {
    let mut good = Vec::with_capacity(updates.size_hint().0);
    let senders = updates.map(|update| {
        let update = update?;
        let sender = Sender { app: update.app, subject: update.subject.clone() };
        good.push(update);
        Ok(sender)
    });
    let senders = senders.collect();
    (good, senders)
}
