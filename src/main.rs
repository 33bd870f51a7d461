//! Arguments → a command.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use userpilot_gateway::{
    cli::{arguments::Arguments, ended::Exit, output::printable_lines},
    store::private::keep_files_private,
};

/// Fewer and cheaper system calls than the default allocator's, for many small messages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_files_private();
    match run() {
        Ok(code) => code,
        // Whoever read the output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let words = printable_lines(&format!("{error:#}"));
            writeln!(io::stderr(), "Error: {words}").ok();
            ExitCode::from(Exit::of(&error) as u8)
        }
    }
}

/// Whether nobody reads the output any more. What the network says is told as another error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<io::Error>();
    output.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(arguments.run())
}
