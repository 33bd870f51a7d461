//! `token`: makes the tokens that clients and admins are let in with.

use std::io::{self, Write};

use serde_json::json;

use super::output::{self, Output, OutputArgs};
use crate::door::token::{self, Hash};

/// Make a token for a client or an admin.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Print a new token, once, and its hash for the configuration file.
    New {
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Prints.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::New { output } => {
            let token = token::new()?;
            let hash = Hash::of(&token);
            match output.output {
                // As lines that can be cut apart, and the second one pasted. What is said of them is
                // for who looks on.
                Output::Table => {
                    writeln!(
                        io::stderr(),
                        "# The token is for whoever calls, and shown only now. token_sha256 belongs in \
                         gateway.toml, under [[clients]] or [[admins]]."
                    )?;
                    writeln!(
                        io::stdout(),
                        "token        = \"{token}\"\ntoken_sha256 = \"{hash}\""
                    )?;
                }
                Output::Json => output::print_document(
                    &json!({ "token": token, "token_sha256": hash.to_string() }),
                )?,
            }
            Ok(())
        }
    }
}
