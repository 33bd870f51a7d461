//! Two gateways in turns, each with a store of its own: what a change of the binary, or another
//! engine, gained.

use crate::{
    gateway::{Gateway, Subject},
    load::Seen,
    suite::{self, Scale, folder, line, middle},
    workload::USERS,
};

/// One side's rounds of one load: what was seen, and microseconds of the processor an update.
#[derive(Default)]
pub struct Side {
    pub seen: Vec<Seen>,
    micros: Vec<f64>,
}

impl Side {
    pub fn take(
        &mut self,
        gateway: &Gateway,
        load: impl FnOnce(u16) -> anyhow::Result<Seen>,
    ) -> anyhow::Result<()> {
        let before = gateway.processor_time()?;
        let seen = load(gateway.port())?;
        let took = gateway.processor_time()?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "a count of some millions")]
        let answers = seen.answers.max(1) as f64;
        self.micros.push(took.as_secs_f64() * 1e6 / answers);
        self.seen.push(seen);
        Ok(())
    }

    /// The median.
    pub fn micros(&self) -> f64 {
        let mut micros = self.micros.clone();
        micros.sort_by(f64::total_cmp);
        micros[micros.len() / 2]
    }
}

pub fn run(new: &Subject, old: &Subject, scale: Scale) -> anyhow::Result<()> {
    let scale = Scale { warm_seconds: 0.0, ..scale };
    let (new_folder, old_folder) = (folder()?, folder()?);
    let gateways =
        [Gateway::start(old, old_folder.path())?, Gateway::start(new, new_folder.path())?];
    // [unary, stream], each of [old, new].
    let mut sides: [[Side; 2]; 2] = Default::default();
    for round in 0..scale.rounds {
        // Who comes second finds the disk and the caches otherwise than who comes first.
        let turn = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in turn {
            let gateway = &gateways[side];
            let unary = |port| suite::load_unary(port, USERS, scale, round, false);
            sides[0][side].take(gateway, unary)?;
        }
        for side in turn {
            let gateway = &gateways[side];
            let stream = |port| suite::load_stream(port, USERS, USERS * scale.stream_turns, 0);
            sides[1][side].take(gateway, stream)?;
        }
    }
    for (what, [old, new]) in ["unary", "stream"].into_iter().zip(&sides) {
        let (old_seen, new_seen) = (middle(&old.seen), middle(&new.seen));
        println!("{what}: {} -> {}", line(&old_seen), line(&new_seen));
        println!(
            "{what}: {:.3} times as fast; {:.1} -> {:.1} us of processor an update ({:.3})",
            new_seen.per_second / old_seen.per_second,
            old.micros(),
            new.micros(),
            new.micros() / old.micros()
        );
    }
    Ok(())
}
