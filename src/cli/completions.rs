//! `completions`: a script that completes commands and options in a shell.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;

/// Print a script that completes commands and options, for a shell to read.
///
/// For bash: userpilot-gateway completions bash >
/// ~/.local/share/bash-completion/completions/userpilot-gateway
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(args.shell, &mut command, "userpilot-gateway", &mut script);
    let mut script = String::from_utf8(script)?;
    if args.shell == Shell::Bash {
        // Without it nothing is offered past a command: https://github.com/clap-rs/clap/issues/6421.
        script = script.replace("userpilot__subcmd__gateway", "userpilot__gateway");
    }
    io::stdout().lock().write_all(script.as_bytes())?;
    Ok(())
}
