//! `store reencrypt`: rewrites what is not encrypted as new values are.

use std::io::{self, Write};

use anyhow::bail;

use super::{Missing, Opened, Place, Work};
use crate::store::engine::{Engine, Resealed, SealedEngine, Sharing};

/// Rewrite every value that is in clear, or encrypted under an old key, under the key of the
/// configuration; or in clear, where that has none.
///
/// What is interrupted goes on with the next run. Bytes that were overwritten stay in the files
/// until their space is used again: `store export` and `store import` into a new directory get rid
/// of them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.place.work(Missing::Refuse, Reencrypt).await
}

struct Reencrypt;

impl Work for Reencrypt {
    async fn on<E: Engine + Clone>(
        self,
        mut engine: SealedEngine<E>,
        _: &Opened,
    ) -> anyhow::Result<()> {
        if engine.sharing() != Sharing::Alone {
            bail!(
                "a store that several gateways share cannot be rewritten in its place: `store export` \
                 and `store import` move what waits into another schema"
            );
        }
        let Resealed { rewritten, kept, damaged } = engine.reseal().await?;
        writeln!(io::stdout(), "{rewritten} values rewritten, {kept} were as they should be")?;
        if damaged > 0 {
            bail!(
                "{damaged} values are damaged and stay as they are: keep the old keys in \
                 store.old_encryption_key_files"
            );
        }
        Ok(())
    }
}
