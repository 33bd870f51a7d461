//! `store export`: writes what waits as lines of JSON.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{Missing, Opened, Place, Work};
use crate::{
    clock,
    store::{
        engine::{Engine, SealedEngine},
        exchange::{Exported, export},
    },
};

/// Write everything that waits, one JSON object a line, to be taken back by `store import`.
///
/// What is in flight counts as waiting. The store is left as it is. The lines hold property
/// values: keep the file as safe as the store.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The file to write; without it, standard output. It appears once it is whole.
    #[arg(long, value_name = "FILE", alias = "output")]
    file: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.place.work(Missing::Refuse, Export { file: args.file }).await
}

struct Export {
    file: Option<PathBuf>,
}

impl Work for Export {
    async fn on<E: Engine + Clone>(
        self,
        engine: SealedEngine<E>,
        _: &Opened,
    ) -> anyhow::Result<()> {
        let exported = match &self.file {
            Some(path) => to_file(&engine, path).await?,
            None => export(&engine, &mut BufWriter::new(io::stdout())).await?,
        };
        tell(&exported)?;
        if exported.damaged > 0 {
            bail!(
                "{} entries are damaged and were passed over; all others are in the export",
                exported.damaged
            );
        }
        Ok(())
    }
}

/// Writes beside the file, and puts it in its place once it is on the disk.
async fn to_file<E: Engine>(engine: &E, path: &Path) -> anyhow::Result<Exported> {
    let cannot = || format!("cannot write {}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    let mut options = File::options();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = BufWriter::new(options.open(&unfinished).with_context(cannot)?);
    let exported = export(engine, &mut out).await?;
    out.get_ref().sync_all().with_context(cannot)?;
    fs::rename(&unfinished, path).with_context(cannot)?;
    Ok(exported)
}

fn tell(exported: &Exported) -> anyhow::Result<()> {
    let Exported { records, in_flight, left_behind, nameless, lost_apps, lost_clients, .. } =
        exported;
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{records} records exported, of which {in_flight} were in flight")?;
    writeln!(stderr, "SHA-256 of their lines: {}", exported.sha256)?;
    for (app, records) in nameless {
        writeln!(
            stderr,
            "{records} records are of app {app:?}, whose name is lost and is one of {lost_apps:?}: \
             put it in the place of {app:?} in the lines, then import them \
             with --unchecked"
        )?;
    }
    if !lost_clients.is_empty() {
        writeln!(
            stderr,
            "the numbers of the clients {lost_clients:?} are lost: their records name no client"
        )?;
    }
    for app in left_behind {
        let left = app.occupied_until.since(clock::now().wall);
        if !left.is_zero() {
            writeln!(
                stderr,
                "app {}: its last job may occupy the budget for {} s yet, which another store \
                 does not know: start a gateway on it later than that",
                app.app,
                left.as_secs() + 1
            )?;
        }
        if app.dead_letters > 0 {
            writeln!(stderr, "app {}: {} dead letters stay behind", app.app, app.dead_letters)?;
        }
        if app.jobs > 0 {
            writeln!(
                stderr,
                "app {}: {} jobs of callers over HTTP stay behind: their ids will not be known, \
                 though their rows that wait are exported",
                app.app, app.jobs
            )?;
        }
        if app.paused {
            writeln!(stderr, "app {}: is paused, which another store does not know", app.app)?;
        }
    }
    Ok(())
}
