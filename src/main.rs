//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comfyui_api::simulator;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One static binary that turns ComfyUI into a production API.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve as a ComfyUI without models, for trying out and for tests.
    SimulateComfyui(simulator::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Some(Command::SimulateComfyui(args)) => match simulator::run(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        None => ExitCode::SUCCESS,
    }
}
