//! Arguments → a command.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use userpilot_gateway::{
    cli::{
        check_config, check_key, dead_letters, demo, jobs, plan, print_default_config, send, serve,
        shutdown, simulate_userpilot, status, store, token, user,
    },
    store::private::keep_files_private,
};

/// Fewer and cheaper system calls than the default allocator's, for many small messages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One durable, coalescing gateway between your services and Userpilot's bulk API.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Send(send::Args),
    Status(status::Args),
    Jobs(jobs::Args),
    Store(store::Args),
    DeadLetters(dead_letters::Args),
    User(user::Args),
    Token(token::Args),
    Plan(plan::Args),
    CheckConfig(check_config::Args),
    CheckKey(check_key::Args),
    PrintDefaultConfig(print_default_config::Args),
    SimulateUserpilot(simulate_userpilot::Args),
}

fn main() -> ExitCode {
    keep_files_private();
    match run() {
        Ok(code) => code,
        Err(error) => {
            writeln!(io::stderr(), "Error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Arguments::parse().command {
            Command::Demo(args) => demo::run(args, shutdown::requested()).await,
            Command::Serve(args) => serve::run(args, shutdown::requested()).await,
            Command::Send(args) => send::run(args).await,
            Command::Status(args) => status::run(args, shutdown::requested()).await,
            Command::Jobs(args) => jobs::run(args).await,
            Command::Store(args) => store::run(args).await,
            Command::DeadLetters(args) => dead_letters::run(args).await,
            Command::User(args) => user::run(args).await,
            Command::Token(args) => token::run(args),
            Command::Plan(args) => plan::run(args),
            Command::CheckConfig(args) => check_config::run(args),
            Command::CheckKey(args) => return check_key::run(args).await,
            Command::PrintDefaultConfig(args) => print_default_config::run(args),
            Command::SimulateUserpilot(args) => {
                simulate_userpilot::run(args, shutdown::requested()).await
            }
        }?;
        Ok(ExitCode::SUCCESS)
    })
}
