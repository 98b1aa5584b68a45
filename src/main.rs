//! The command line. A checklist, nothing else.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use comfyui_api::config::{Config, ConfigError, ProcessEnv};
use comfyui_api::transport::rest;
use comfyui_api::{app, comfy, command, demo, net, simulator, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns ComfyUI into a production API: starts it, takes graphs over HTTP or a queue, delivers the
/// files.
///
/// Without a command it serves. Everything is configured by environment variables; `check` prints
/// them.
#[derive(Parser)]
#[command(name = "comfyui-api", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve with the built-in ComfyUI simulator and temporary directories: try the whole API
    /// without GPU, Python or models
    Demo,
    /// Serve the whole API without a ComfyUI: jobs go to instances over RabbitMQ
    Gateway,
    /// Run the built-in ComfyUI simulator by itself
    SimulateComfyui(Box<simulator::Args>),
    /// Print the effective configuration (secrets hidden) and manifest, name every problem, start
    /// nothing
    Check,
    /// Ask a running server for its health; exits with 0 if it is well, with 1 if not
    Health {
        /// Ask whether it takes prompts right now, instead of whether it has ever been ready
        #[arg(long)]
        ready: bool,
    },
    /// Convert a workflow as the editor saves it, or a picture that holds one, to the graph that
    /// the API takes
    Convert(Box<command::convert::Arguments>),
    /// Speak MCP on stdin and stdout and forward to a running server, for clients that only start
    /// programs
    Mcp(Box<command::mcp::Arguments>),
    /// Print the OpenAPI document
    Openapi,
}

/// For blocking work that is left when everything has ended.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    comfy::supervisor::init::run_if_pid1();
    net::install_crypto();
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let code = runtime.block_on(run(arguments.command));
    // A codec or a read from a dead disk cannot be interrupted: everything is said, so nothing
    // waits for it.
    runtime.shutdown_timeout(LAST_WORK);
    code
}

/// Threads that wait for sockets. They never compute for long (files, pictures and JSON of
/// megabytes have threads of their own), so a few are enough, and the fewer there are the less they
/// wake each other. The other processors belong to ComfyUI.
fn workers() -> usize {
    std::thread::available_parallelism()
        .map_or(1, |processors| processors.get() / 2)
        .clamp(1, 4)
}

async fn run(command: Option<Command>) -> ExitCode {
    let mut out = std::io::stdout();
    match command {
        None => serve(Config::from_env(&ProcessEnv)).await,
        Some(Command::Demo) => match demo::prepare(&ProcessEnv) {
            Ok(demo) => serve(demo.config()).await,
            Err(reason) => fail(&reason),
        },
        Some(Command::Gateway) => serve(Config::for_gateway(&ProcessEnv)).await,
        Some(Command::SimulateComfyui(arguments)) => simulator::run(*arguments)
            .await
            .map_or_else(|error| fail(&error.to_string()), |()| ExitCode::SUCCESS),
        Some(Command::Check) => command::check::run(&ProcessEnv, &mut out)
            .await
            .map_or(ExitCode::FAILURE, ExitCode::from),
        Some(Command::Health { ready }) => match Config::from_env(&ProcessEnv) {
            Ok(config) => command::health::run(&config.server, ready, &mut out)
                .await
                .map_or(ExitCode::FAILURE, ExitCode::from),
            // For whoever asks, it is not well.
            Err(error) => fail(error.to_string().trim_end()),
        },
        Some(Command::Convert(arguments)) => command::convert::run(*arguments, &mut out)
            .await
            .map_or_else(|reason| fail(&reason), |()| ExitCode::SUCCESS),
        Some(Command::Mcp(arguments)) => command::mcp::run(*arguments, &ProcessEnv).await,
        Some(Command::Openapi) => {
            let keys = Config::from_env(&ProcessEnv)
                .is_ok_and(|config| !config.server.api_keys.is_empty());
            let document = rest::docs::document(&rest::docs::ApiSurface {
                keys,
                ..Default::default()
            });
            writeln!(out, "{document:#}").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
    }
}

async fn serve(config: Result<Config, ConfigError>) -> ExitCode {
    match config {
        Ok(config) => {
            let problems = command::check::files::tls_problems(&config);
            if !problems.is_empty() {
                return refuse(&ConfigError(problems).to_string());
            }
            telemetry::recent::recent().hide(&config.secrets);
            telemetry::logging::install(&config.log);
            telemetry::metrics::install();
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            let code = app::serve(config).await;
            telemetry::logging::finish();
            code
        }
        Err(error) => refuse(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}

/// Bad configuration.
fn refuse(problems: &str) -> ExitCode {
    eprint!("{problems}");
    ExitCode::from(2)
}
