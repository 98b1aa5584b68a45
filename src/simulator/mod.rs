//! The built-in ComfyUI stand-in: faithful protocol, fake pixels, scriptable faults.
//!
//! It follows `comfyui.md`: what a wrapper can see of ComfyUI, in two versions ([`Imitate`]). One
//! worker thread runs the prompts ([`execution`]), the HTTP side ([`server`]) only looks at shared
//! state ([`instance::Instance`]). What can be broken on purpose is listed in [`Faults`]; tests
//! read the counters at `GET /simulator/stats`.

mod args;
mod cache;
mod execution;
mod faults;
mod folders;
mod hub;
mod instance;
mod listings;
mod nodes;
mod picture;
mod python;
mod queue;
mod reel;
mod schedule;
mod server;
mod shape;
mod sound;
mod validation;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

pub use args::{Args, Imitate};
pub use faults::Faults;
use instance::Instance;

/// Why the simulator could not run, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Serves until SIGINT, as the process `comfyui-api simulate-comfyui`; the temp directory is then
/// removed. SIGTERM keeps its default effect: the process dies at once.
pub async fn run(args: Args) -> Result<(), StartError> {
    let args = args.settled().map_err(StartError)?;
    let instance =
        Instance::new(args, Box::new(|code| std::process::exit(code))).map_err(StartError)?;
    let instance = Arc::new(instance);
    // Before the ready lines, so that nobody can be too early with it.
    let mut interrupted = signal(SignalKind::interrupt())
        .map_err(|e| StartError(format!("cannot wait for SIGINT: {e}")))?;
    let (listener, _) = tokio::select! {
        bound = bind(&instance) => bound?,
        _ = interrupted.recv() => return Ok(()),
    };
    start_worker(&instance)?;
    tokio::select! {
        () = server::serve(listener, Arc::clone(&instance)) => {}
        _ = interrupted.recv() => {
            instance.log("\nStopped server");
            let _ = std::fs::remove_dir_all(&instance.folders.temp);
            // A node may still be running; nobody waits for it.
            std::process::exit(0);
        }
    }
    Ok(())
}

async fn bind(instance: &Instance) -> Result<(TcpListener, SocketAddr), StartError> {
    tokio::time::sleep(Duration::from_secs_f64(
        instance
            .faults
            .read(|faults| faults.slow_start_s.clamp(0.0, 3600.0)),
    ))
    .await;
    let host = instance
        .args
        .listen
        .clone()
        .unwrap_or_else(|| "127.0.0.1".into());
    let host = host
        .split(',')
        .next()
        .unwrap_or_default()
        .trim()
        .replace("localhost", "127.0.0.1");
    let ip = host
        .parse()
        .map_err(|_| StartError(format!("--listen {host} is not an IP address")))?;
    let address = SocketAddr::new(ip, instance.args.port.unwrap_or(8188));
    instance.log("Starting server\n");
    let listener = TcpListener::bind(address).await.map_err(|e| {
        StartError(format!(
            "[Errno {}] error while attempting to bind on address {address}: {e}",
            e.raw_os_error().unwrap_or(0)
        ))
    })?;
    let bound = listener
        .local_addr()
        .map_err(|e| StartError(e.to_string()))?;
    instance.log(&format!("To see the GUI go to: http://{bound}"));
    Ok((listener, bound))
}

fn start_worker(instance: &Arc<Instance>) -> Result<(), StartError> {
    let instance = Arc::clone(instance);
    std::thread::Builder::new()
        .name("prompt_worker".into())
        .spawn(move || execution::work(&instance))
        .map_err(|e| StartError(e.to_string()))?;
    Ok(())
}

/// A simulator inside this process, on a thread and a runtime of its own; dropping it cuts every
/// connection, as a kill does.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    instance: Arc<Instance>,
    stop: watch::Sender<Option<i32>>,
}

impl Simulator {
    /// Starts it and waits until it listens. Port 0 (the default here) takes a free one.
    pub async fn start(args: Args) -> Result<Self, StartError> {
        let mut args = args.settled().map_err(StartError)?;
        args.port = args.port.or(Some(0));
        let stop = watch::Sender::new(None);
        let crash = stop.clone();
        let exit = move |code: i32| {
            crash.send_replace(Some(code));
        };
        let instance = Arc::new(Instance::new(args, Box::new(exit)).map_err(StartError)?);
        let (ready, listening) = oneshot::channel();
        let (served, mut stopped) = (Arc::clone(&instance), stop.subscribe());
        std::thread::Builder::new()
            .name("simulator".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = ready.send(Err(StartError(error.to_string())));
                        return;
                    }
                };
                runtime.block_on(async move {
                    match bind(&served)
                        .await
                        .and_then(|bound| start_worker(&served).map(|()| bound))
                    {
                        Err(error) => {
                            let _ = ready.send(Err(error));
                        }
                        Ok((listener, address)) => {
                            let _ = ready.send(Ok(address));
                            tokio::select! {
                                () = server::serve(listener, Arc::clone(&served)) => {}
                                _ = stopped.wait_for(Option::is_some) => {}
                            }
                        }
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(|e| StartError(e.to_string()))?;
        let address = listening
            .await
            .map_err(|_| StartError("the simulator's thread ended before it listened".into()))??;
        Ok(Self {
            address,
            instance,
            stop,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it saves results.
    pub fn output_directory(&self) -> &std::path::Path {
        &self.instance.folders.output
    }

    /// Changes faults, as `POST /simulator/faults` does.
    pub fn set_faults(&self, change: &serde_json::Value) -> Result<(), StartError> {
        let asked = self.instance.faults.change(change).map_err(StartError)?;
        if let Some(code) = asked.crash {
            self.instance.crash(code);
        }
        Ok(())
    }

    /// The exit code, if it has "crashed".
    pub fn crashed(&self) -> Option<i32> {
        *self.stop.borrow()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.instance.queue.close();
        self.stop.send_replace(Some(0));
        let _ = std::fs::remove_dir_all(&self.instance.folders.temp);
    }
}
