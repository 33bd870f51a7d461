//! `store import`: takes back what an export wrote.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Missing, Opened, Place, Work};
use crate::{
    gateway::settings,
    store::{
        engine::{Engine, SealedEngine},
        exchange::{Check, import},
        queue::Queue,
    },
    telemetry::{self, LogFormat},
};

/// Merge exported records into a store, which is made if it is missing.
///
/// They come after what waits there, in the order of the file. The last line of an export says how many
/// records it has, with their checksum: that it is there and right is checked. Should it end early, import
/// the whole file again, before any gateway serves the store: of what one has delivered since, old
/// values would be sent once more, over newer ones.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The file; "-" is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take lines that were edited, or that come from a version that wrote no last line: whether they
    /// are whole is not checked.
    #[arg(long)]
    unchecked: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    // The queue reports damage that it meets.
    telemetry::log(LogFormat::fitting(), "warn")?;
    let check = if args.unchecked { Check::None } else { Check::Whole };
    args.place.work(Missing::Make, Import { file: args.file, check }).await
}

struct Import {
    file: PathBuf,
    check: Check,
}

impl Work for Import {
    async fn on<E: Engine + Clone>(
        self,
        engine: SealedEngine<E>,
        store: &Opened,
    ) -> anyhow::Result<()> {
        let limits = settings::queue(&store.config, &store.limits);
        let lines = open(&self.file)?;
        let mut queue = Queue::open(engine, limits, rand::random()).await?;
        let imported = import(&mut queue, lines, self.check).await?;
        writeln!(
            io::stdout(),
            "{} records imported, of which {} were merged into one that waited{}",
            imported.records,
            imported.merged,
            match self.check {
                Check::Whole => "; the export is whole, by its checksum",
                Check::None => "",
            }
        )?;
        Ok(())
    }
}

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}
