//! Power loss: what was acknowledged is on the disk when the power goes, at any moment, also
//! while the store is being opened after the last time.
//!
//! A process works on a store, under a shim (`shim.c`) that knows what a disk would hold. The
//! shim kills the process at one of the calls that write; of what was not flushed then,
//! nothing survives, or 10, 50 or 90 % of the pages. The survivor is opened and compared,
//! byte for byte, with a queue in memory that has done all acknowledged ops; then the next
//! round goes on with it.
//!
//! Where it may, a test does the same with a real ext4 on a loop device, shut down in the midst
//! of the work: there the kernel itself drops what was not flushed.
//!
//! `POWER_CUTS` says how many cuts each test makes, `POWER_SEED` the first database's seed.
//! A loss is printed with its seed. Timing is not in the seed's hands, since sled has threads
//! of its own; to meet a loss again may take a few runs.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;
mod ext4;
mod model;
mod process;
mod rounds;
mod workload;

use std::env;

use rounds::{Conditions, Tally};

/// How many cuts each test makes, unless told otherwise.
const CUTS: u64 = 40;

/// The tests of one engine.
macro_rules! power_cuts {
    ($engine:ident) => {
        mod $engine {
            const ENGINE: &str = stringify!($engine);

            #[test]
            fn what_was_acknowledged_survives_where_nothing_else_does() {
                super::check(ENGINE, false);
            }

            #[test]
            fn what_was_acknowledged_survives_where_a_disk_wrote_back_pages_at_random() {
                super::check(ENGINE, true);
            }

            #[test]
            fn what_was_acknowledged_survives_the_shutdown_of_a_real_ext4() {
                super::check_ext4(ENGINE);
            }

            /// The proof that these tests can fail: without a flush that reaches the disk, what
            /// was acknowledged is lost. (sled's, as it comes, is `sync_file_range`.)
            #[test]
            fn what_was_acknowledged_is_lost_where_a_flush_does_nothing() {
                super::find_a_loss(ENGINE);
            }
        }
    };
}

power_cuts!(sled);
power_cuts!(redb);

fn check(engine: &'static str, pages_are_written_back: bool) {
    let conditions = Conditions { engine, pages_are_written_back, flush_is_honest: true };
    demand_no_loss(&cut(conditions, false), &format!("{conditions:?}"));
}

fn check_ext4(engine: &'static str) {
    let (seed, cuts) = (number("POWER_SEED").unwrap_or(1), number("POWER_CUTS").unwrap_or(CUTS));
    match ext4::cut(engine, seed, cuts) {
        Ok(tally) => demand_no_loss(&tally, &format!("{engine} on ext4")),
        Err(lacking) => say(&format!("skipped, since this machine cannot do it: {lacking}")),
    }
}

fn find_a_loss(engine: &'static str) {
    for pages_are_written_back in [false, true] {
        let conditions = Conditions { engine, pages_are_written_back, flush_is_honest: false };
        let tally = cut(conditions, true);
        say(&tally.report(&format!("{conditions:?}")));
        assert!(!tally.losses.is_empty(), "no loss in {} cuts", tally.cuts);
    }
}

fn cut(conditions: Conditions, until_loss: bool) -> Tally {
    let cuts = number("POWER_CUTS").unwrap_or(CUTS);
    rounds::cut(conditions, number("POWER_SEED").unwrap_or(1), cuts, until_loss)
}

fn demand_no_loss(tally: &Tally, name: &str) {
    say(&tally.report(name));
    assert!(tally.acknowledged > 0, "nothing was acknowledged");
    assert!(tally.losses.is_empty(), "\n{}", tally.losses.join("\n"));
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[expect(clippy::print_stdout, reason = "the figures are what one runs many cuts for")]
fn say(what: &str) {
    println!("{what}");
}
