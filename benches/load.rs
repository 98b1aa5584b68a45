//! What the product costs: the simulator driven directly, as an ideal client would, and through
//! comfyui-api, in turns.
//!
//! `benches/load.sh`, or `cargo bench --bench load`. Only the standard library is used, so that it
//! can also be compiled by itself in a second, and so that the measuring costs little. `BINARY`
//! names the program to measure, `CLIENTS` the numbers of clients (1,8,32,128), `SECONDS_EACH` the
//! length of a turn (4), `TURNS` how often each side is measured (3).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a measuring tool may stop at the first problem"
)]

#[path = "load/http.rs"]
mod http;
#[path = "load/stage.rs"]
mod stage;
#[path = "websocket/mod.rs"]
mod websocket;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use http::{Http, Watcher};
use stage::Stage;

/// A request whose answer does not come within this time is a defect.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clock ticks per second in /proc; a constant of Linux's interface.
const TICKS: f64 = 100.0;

static NEXT: AtomicU64 = AtomicU64::new(1);

fn main() {
    let stage = Stage::start();
    println!("binary {}", stage.binary.display());
    println!(
        "exec to first /health answer: {:.1} ms",
        stage.first_answer.as_secs_f64() * 1000.0
    );
    idle(&stage);
    ratios(&stage);
    large_output(&stage);
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn graph(prefix: &str, seed: u64) -> String {
    format!(
        r#"{{"1":{{"class_type":"CheckpointLoaderSimple","inputs":{{"ckpt_name":"demo.safetensors"}}}},
        "2":{{"class_type":"CLIPTextEncode","inputs":{{"text":"load","clip":["1",1]}}}},
        "3":{{"class_type":"EmptyLatentImage","inputs":{{"width":512,"height":512,"batch_size":1}}}},
        "4":{{"class_type":"KSampler","inputs":{{"seed":{seed},"steps":1,"cfg":7,"sampler_name":"euler","scheduler":"normal","denoise":1,
        "model":["1",0],"positive":["2",0],"negative":["2",0],"latent_image":["3",0]}}}},
        "5":{{"class_type":"VAEDecode","inputs":{{"samples":["4",0],"vae":["1",2]}}}},
        "6":{{"class_type":"SaveImage","inputs":{{"images":["5",0],"filename_prefix":"{prefix}"}}}}}}"#
    )
}

/// POST, websocket, read the file, delete it.
fn direct(stage: &Stage, http: &mut Http, watcher: &Watcher) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("00000000-0000-4000-8000-{number:012x}");
    let (sender, ended) = channel();
    watcher.waiting.lock().unwrap().insert(id.clone(), sender);
    let body = format!(
        r#"{{"prompt":{},"client_id":"load","prompt_id":"{id}"}}"#,
        graph(&id, number)
    );
    assert_eq!(http.send("POST", "/prompt", &body).0, 200);
    ended
        .recv_timeout(PATIENCE)
        .expect("the prompt did not end");
    let file = stage.dir.join(format!("output/{id}_00001_.png"));
    assert!(!fs::read(&file).unwrap().is_empty());
    fs::remove_file(file).unwrap();
}

fn through_us(http: &mut Http) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (status, length) = http.send(
        "POST",
        "/prompt",
        &format!(r#"{{"prompt":{}}}"#, graph("load", number)),
    );
    assert!(
        status == 200 && length > 2000,
        "status {status}, {length} bytes"
    );
}

struct Turn {
    per_second: f64,
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
}

impl Turn {
    fn median(&self) -> f64 {
        self.latencies[self.latencies.len() / 2]
    }

    fn p99(&self) -> f64 {
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

fn turn(clients: usize, length: Duration, once: impl Fn(&mut Http) + Sync, port: u16) -> Turn {
    let once = &once;
    // A connection is opened before the clock starts to count for it, as a client with a pool has.
    let began = Instant::now();
    let mut latencies: Vec<f64> = thread::scope(|scope| {
        let run = move || {
            let mut http = Http::to(port);
            let mut latencies = Vec::new();
            while began.elapsed() < length {
                let sent = Instant::now();
                once(&mut http);
                latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
            latencies
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Turn {
        per_second,
        latencies,
    }
}

fn ratios(stage: &Stage) {
    let length = Duration::from_secs_f64(setting("SECONDS_EACH", 4.0));
    let turns: usize = setting("TURNS", 3);
    let watcher = Watcher::connect(stage.simulator.port);
    println!(
        "\n512x512 PNG, {turns} turns of {:.0} s each side; medians of the turns",
        length.as_secs_f64()
    );
    println!(
        "clients | direct /s | through us /s | ratio | direct ms (p99) | through us ms (p99) | \
         added ms | our CPU ms/prompt"
    );
    for clients in setting("CLIENTS", "1,8,32,128".to_owned())
        .split(',')
        .map(|n| n.trim().parse::<usize>().unwrap())
    {
        let (mut theirs, mut ours, mut cpu, mut prompts) = (Vec::new(), Vec::new(), 0.0, 0);
        for _ in 0..turns {
            theirs.push(turn(
                clients,
                length,
                |http| direct(stage, http, &watcher),
                stage.simulator.port,
            ));
            let before = stage.api.cpu();
            ours.push(turn(clients, length, through_us, stage.api.port));
            cpu += stage.api.cpu() - before;
            prompts += ours.last().unwrap().latencies.len();
        }
        let middle = |turns: &[Turn], what: fn(&Turn) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(what).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (direct_rate, our_rate) = (
            middle(&theirs, |turn| turn.per_second),
            middle(&ours, |turn| turn.per_second),
        );
        let (direct_ms, our_ms) = (middle(&theirs, Turn::median), middle(&ours, Turn::median));
        println!(
            "{clients:7} | {direct_rate:9.1} | {our_rate:13.1} | {:5.2} | {direct_ms:7.2} ({:.1}) \
             | {our_ms:7.2} ({:.1}) | {:8.2} | {:.2}",
            our_rate / direct_rate,
            middle(&theirs, Turn::p99),
            middle(&ours, Turn::p99),
            our_ms - direct_ms,
            cpu * 1000.0 / prompts as f64,
        );
    }
    let loaded = stage.api.memory("VmRSS");
    // Long enough for what is given back at rest (src/app/rest.rs).
    thread::sleep(Duration::from_secs(16));
    println!(
        "resident after the load: {loaded:.1} MiB, and at rest: {:.1} MiB ({:.1} anonymous)",
        stage.api.memory("VmRSS"),
        stage.api.memory("RssAnon")
    );
}

fn idle(stage: &Stage) {
    thread::sleep(Duration::from_secs(2));
    let before = stage.api.cpu();
    thread::sleep(Duration::from_secs(5));
    let used = stage.api.cpu() - before;
    let (resident, anonymous) = (stage.api.memory("VmRSS"), stage.api.memory("RssAnon"));
    println!(
        "idle: {resident:.1} MiB resident ({anonymous:.1} anonymous, the rest is the program's \
         file), {:.0} ms of CPU in 5 s",
        used * 1000.0
    );
}

/// How much resident memory an output of 300 MB adds when it is answered inline.
fn large_output(stage: &Stage) {
    let bytes: u64 = 300_000_000;
    let mut http = Http::to(stage.api.port);
    through_us(&mut http);
    // Sets the peak back to what is resident now.
    fs::write(format!("/proc/{}/clear_refs", stage.api.child.id()), "5").unwrap();
    let before = stage.api.memory("VmRSS");
    let began = Instant::now();
    let body = format!(
        r#"{{"prompt":{{"1":{{"class_type":"SimBlob","inputs":{{"bytes":{bytes},"filename_prefix":"large"}}}}}}}}"#
    );
    let (status, length) = http.send("POST", "/prompt", &body);
    assert!(
        status == 200 && length > bytes / 3 * 4,
        "status {status}, {length} bytes"
    );
    let took = began.elapsed().as_secs_f64();
    let after = stage.api.memory("VmHWM");
    println!(
        "300 MB output inline: {:.1} MiB more at the peak ({before:.1} -> {after:.1}), {took:.2} s",
        after - before
    );
}
