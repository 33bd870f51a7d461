//! Randomness that a seed decides: the same seed gives the same ids and the same faults.

/// A `SplitMix64` generator.
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A stream of its own for each `purpose`, so that one never shifts another.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self { state: seed ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03) }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// True with the given probability; 0 is never and 1 is always.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        const STEPS: f64 = (1_u64 << 53) as f64;
        ((self.next() >> 11) as f64 / STEPS) < probability
    }

    /// `bulk:jobs:NX-ac54070e:<uuid>`: the documented form, colons and all.
    pub(super) fn job_id(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "bulk:jobs:NX-ac54070e:{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0x0fff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff,
        )
    }

    /// Twenty letters and digits, as in `GEDdGIKmRewi6ZIAEYcB`.
    pub(super) fn request_id(&mut self) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..20)
            .map(|_| {
                let at = usize::try_from(self.next() % 62).unwrap_or_default();
                char::from(LETTERS[at])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_job_ids() {
        let ids = |seed| {
            let mut random = Random::new(seed, 1);
            [random.job_id(), random.job_id()]
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
        assert_ne!(ids(7)[0], ids(7)[1]);
    }

    #[test]
    fn a_job_id_is_a_prefix_with_colons_and_a_uuid() {
        let id = Random::new(0, 0).job_id();
        let uuid = id.strip_prefix("bulk:jobs:NX-ac54070e:").unwrap();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn certainty_and_impossibility_are_exact() {
        let mut random = Random::new(3, 0);
        assert!((0..1000).all(|_| random.chance(1.0)));
        assert!(!(0..1000).any(|_| random.chance(0.0)));
        let half = (0..1000).filter(|_| random.chance(0.5)).count();
        assert!((400..600).contains(&half), "{half} of 1000");
    }
}
