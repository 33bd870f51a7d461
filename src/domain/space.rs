//! The disk: whether it has room for more updates, and whether a store is worth writing anew.

/// Whether there is room for more updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// There is.
    #[default]
    Enough,
    /// Less is free than shall stay so.
    Low,
}

impl Room {
    /// What it is once `free_bytes` are free. Room that was low is enough only once a sixteenth
    /// more is free, so that the two do not take turns by the second.
    #[must_use]
    pub fn judge(self, free_bytes: u64, free_bytes_min: u64) -> Self {
        let least = match self {
            Self::Enough => free_bytes_min,
            Self::Low => free_bytes_min.saturating_add(free_bytes_min / 16),
        };
        if free_bytes < least { Self::Low } else { Self::Enough }
    }
}

/// The file system of a store, as it was seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What it comes to.
    pub room: Room,
    /// The free bytes, where they are known.
    pub free_bytes: Option<u64>,
}

impl Space {
    /// What it is once so many bytes are free. Where that is not known, nothing changes.
    #[must_use]
    pub fn seen(self, free_bytes: Option<u64>, free_bytes_min: u64) -> Self {
        let room = match free_bytes {
            Some(free_bytes) => self.room.judge(free_bytes, free_bytes_min),
            None => self.room,
        };
        Self { room, free_bytes }
    }
}

/// What is known of a store before it serves.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Whether nothing waits and nothing is in flight.
    pub empty: bool,
    /// The bytes of its keys and values.
    pub live_bytes: u64,
    /// What its files take.
    pub disk_bytes: u64,
    /// What is free beside them.
    pub free_bytes: u64,
}

/// A store that is written anew takes up to this many times its live bytes.
const FRESH_FACTOR: u64 = 4;

impl Footprint {
    /// Whether it pays to write the store anew: what is in the way of accepting is short, and
    /// most of a large file comes back. Both stores are on the disk for a while.
    pub fn is_worth_a_rebuild(&self, rebuild_bytes_min: u64, free_bytes_min: u64) -> bool {
        let fresh_bytes = self.live_bytes.saturating_mul(FRESH_FACTOR);
        let large = rebuild_bytes_min > 0 && self.disk_bytes >= rebuild_bytes_min;
        let gain = fresh_bytes <= self.disk_bytes / 2;
        let room = self.free_bytes >= free_bytes_min.saturating_add(fresh_bytes);
        self.empty && large && gain && room
    }
}

/// Why a file system is a bad place for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It is in memory.
    Memory,
    /// It is on another machine.
    Network,
    /// Copies on write, on which the store was not tested.
    CopyOnWrite,
}

impl Concern {
    /// What Linux's number of a file system (`f_type` of statfs(2)) says about it: its name, and
    /// why it is a bad place, where it is one that is known to be.
    pub fn of(magic: u64) -> Option<(&'static str, Self)> {
        Some(match magic {
            0x0102_1994 => ("tmpfs", Self::Memory),
            0x8584_58f6 => ("ramfs", Self::Memory),
            0x6969 => ("nfs", Self::Network),
            0x517b => ("smb", Self::Network),
            0xff53_4d42 => ("cifs", Self::Network),
            0xfe53_4d42 => ("smb2", Self::Network),
            0x00c3_6400 => ("ceph", Self::Network),
            0x0102_1997 => ("9p", Self::Network),
            0x5346_414f => ("afs", Self::Network),
            0x6573_5546 => ("fuse", Self::Network),
            0x9123_683e => ("btrfs", Self::CopyOnWrite),
            _ => return None,
        })
    }

    /// What to expect of it.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Memory => "it is in memory, and what is accepted is lost with the machine",
            Self::Network => {
                "it may be on another machine, and its locks and flushes may not hold; use a \
                 local ext4 or xfs"
            }
            Self::CopyOnWrite => "the store has not been tested on it; use ext4 or xfs",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(was: Room, free_bytes: u64, expected: Room) {
        assert_eq!(was.judge(free_bytes, 1_600), expected, "{was:?} {free_bytes}");
    }

    #[test]
    fn room_that_was_low_is_enough_only_a_little_above_the_watermark() {
        check(Room::Enough, 1_600, Room::Enough);
        check(Room::Enough, 1_599, Room::Low);
        check(Room::Low, 1_600, Room::Low);
        check(Room::Low, 1_699, Room::Low);
        check(Room::Low, 1_700, Room::Enough);
    }

    #[test]
    fn a_watermark_of_zero_is_none() {
        for was in [Room::Enough, Room::Low] {
            assert_eq!(was.judge(0, 0), Room::Enough);
        }
    }

    proptest! {
        #[test]
        fn a_judgement_stands_while_nothing_changes(free: u64, min: u64, low: bool) {
            let first = if low { Room::Low } else { Room::Enough }.judge(free, min);
            prop_assert_eq!(first.judge(free, min), first);
        }
    }

    const LARGE: Footprint =
        Footprint { empty: true, live_bytes: 10, disk_bytes: 1_000, free_bytes: 10_000 };

    #[test]
    fn an_empty_store_is_written_anew_where_most_of_a_large_file_comes_back() {
        assert!(LARGE.is_worth_a_rebuild(1_000, 500));
        for poor in [
            Footprint { empty: false, ..LARGE },
            Footprint { disk_bytes: 999, ..LARGE },
            Footprint { live_bytes: 126, ..LARGE },
            Footprint { free_bytes: 539, ..LARGE },
        ] {
            assert!(!poor.is_worth_a_rebuild(1_000, 500), "{poor:?}");
        }
        assert!(!LARGE.is_worth_a_rebuild(0, 500));
    }

    #[test]
    fn a_file_system_that_is_tested_is_of_no_concern() {
        // ext4, and xfs.
        assert_eq!((Concern::of(0xef53), Concern::of(0x5846_5342)), (None, None));
        assert_eq!(Concern::of(0x0102_1994), Some(("tmpfs", Concern::Memory)));
    }

    #[test]
    fn a_file_system_that_may_lose_the_store_is_told() {
        for (concern, magics) in [
            (Concern::Memory, &[0x0102_1994, 0x8584_58f6][..]),
            (
                Concern::Network,
                &[
                    0x6969,
                    0x517b,
                    0xff53_4d42,
                    0xfe53_4d42,
                    0x00c3_6400,
                    0x0102_1997,
                    0x5346_414f,
                    0x6573_5546,
                ],
            ),
            (Concern::CopyOnWrite, &[0x9123_683e]),
        ] {
            for magic in magics {
                let (name, of) = Concern::of(*magic).expect("it is known");
                assert_eq!(of, concern, "{name}");
            }
        }
        let advice = |concern: Concern| concern.explanation().contains("ext4");
        assert!(advice(Concern::Network) && advice(Concern::CopyOnWrite));
        assert!(Concern::Memory.explanation().contains("lost"));
    }

    #[test]
    fn while_nothing_is_known_of_the_disk_its_room_stays_what_it_was() {
        let low = Space::default().seen(Some(5), 10);
        assert_eq!(low, Space { room: Room::Low, free_bytes: Some(5) });
        assert_eq!(low.seen(None, 10), Space { room: Room::Low, free_bytes: None });
        assert_eq!(low.seen(Some(11), 10).room, Room::Enough);
    }
}
