//! Arguments → a command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{
    check_config, check_key, clients, completions, dead_letters, demo, ended, export, flush,
    import, jobs, levers, plan, print_default_config, send, serve, shutdown, simulate_userpilot,
    status, store, token, top, user,
};

/// One durable, coalescing gateway between your services and Userpilot's bulk API.
#[derive(Parser)]
#[command(name = "userpilot-gateway", version, propagate_version = true)]
#[command(after_help = ended::EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Send(send::Args),
    Import(import::Args),
    Status(status::Args),
    Top(top::Args),
    Jobs(jobs::Args),
    Clients(clients::Args),
    User(user::Args),
    DeadLetters(dead_letters::Args),
    /// Stop submitting. A running job is watched to its end; updates are still taken, and wait.
    /// Survives a restart.
    Pause(levers::LeverArgs),
    /// End a pause.
    Resume(levers::LeverArgs),
    Flush(flush::Args),
    Export(export::Args),
    Store(store::Args),
    Token(token::Args),
    Plan(plan::Args),
    CheckConfig(check_config::Args),
    CheckKey(check_key::Args),
    PrintDefaultConfig(print_default_config::Args),
    Completions(completions::Args),
    SimulateUserpilot(simulate_userpilot::Args),
}

impl Arguments {
    /// Carries the command out.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(args) => demo::run(args, shutdown::requested()).await,
            Command::Serve(args) => serve::run(args, shutdown::requested()).await,
            Command::Send(args) => send::run(args).await,
            Command::Import(args) => import::run(args, shutdown::requested()).await,
            Command::Status(args) => status::run(args, shutdown::requested()).await,
            Command::Top(args) => top::run(args, shutdown::requested()).await,
            Command::Jobs(args) => jobs::run(args).await,
            Command::Clients(args) => clients::run(args).await,
            Command::User(args) => user::run(args).await,
            Command::DeadLetters(args) => dead_letters::run(args).await,
            Command::Pause(args) => levers::pause(args).await,
            Command::Resume(args) => levers::resume(args).await,
            Command::Flush(args) => flush::run(args).await,
            Command::Export(args) => export::run(args).await,
            Command::Store(args) => store::run(args).await,
            Command::Token(args) => token::run(args),
            Command::Plan(args) => plan::run(args),
            Command::CheckConfig(args) => check_config::run(args),
            Command::CheckKey(args) => return check_key::run(args).await,
            Command::PrintDefaultConfig(args) => print_default_config::run(args),
            Command::Completions(args) => completions::run(args),
            Command::SimulateUserpilot(args) => {
                simulate_userpilot::run(args, shutdown::requested()).await
            }
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
