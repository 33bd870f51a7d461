//! What upstream holds of a subject, as it is stored.

use serde::{Deserialize, Serialize};

use super::{Damage, Stored, open, seal};
use crate::domain::delivered::Delivered;

/// What upstream holds of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// That of the app when it was written.
    pub(crate) epoch: u32,
    pub(crate) delivered: Delivered,
}

impl Stored for Remembered {
    fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let remembered: Self = open(bytes)?;
        // Its parts point to each other.
        Some(remembered).filter(|it| it.delivered.is_sound()).ok_or(Damage::Content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::sealed_for_fuzzing;

    #[test]
    fn one_whose_parts_lead_nowhere_is_damaged_rather_than_a_panic_later() {
        // An epoch, no times, and one property, which has the first time.
        let bytes = [&[0, 0, 1][..], &[7; 12], &[0]].concat();
        let read = Remembered::decode(&sealed_for_fuzzing(&bytes));
        assert_eq!(read, Err(Damage::Content));
        assert_eq!(Remembered::decode(&Remembered::default().encode()), Ok(Default::default()));
    }
}
