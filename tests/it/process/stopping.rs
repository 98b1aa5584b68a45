//! Stopping a child and all that it has started; what happens when we die ourselves.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use comfyui_api::comfy::supervisor::{Child, Exit};
use tokio::time::{sleep, timeout};

use super::{SOON, ended, line_with, shell, spawn};

fn number_after(line: &str, label: &str) -> i32 {
    line.split_once(label).unwrap().1.trim().parse().unwrap()
}

/// Whether a process runs; a zombie does not.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

async fn gone(pid: i32) {
    let deadline = Instant::now() + SOON;
    while runs(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Runs one `#[ignore]`d test of this file in a process of its own, behind `env` with the given
/// options.
fn this_binary(options: &[&str], test: &str) -> Command {
    let mut command = Command::new("env");
    command
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
    command
}

#[tokio::test]
async fn stop_interrupts_the_whole_group_and_waits_for_it() {
    // The leader passes nothing on and ends at once, as `comfy launch` may; the worker needs a
    // moment to clean up.
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("cleaned");
    let worker = format!(
        "import signal, sys, time\ntry:\n print('ready', flush=True); time.sleep(1000)\nexcept \
         KeyboardInterrupt:\n time.sleep(0.3); open({:?}, 'w').close()",
        mark.display().to_string()
    );
    let program = format!(
        "import subprocess, sys\nimport time\ntry:\n subprocess.Popen([sys.executable, '-c', \
         {worker:?}]); time.sleep(1000)\nexcept KeyboardInterrupt:\n sys.exit(7)"
    );
    let mut config = shell("");
    config.command = vec!["python3".into(), "-c".into(), program];
    let child = Child::spawn(&config).await.unwrap();
    line_with(&child, "ready").await;
    let before = Instant::now();
    timeout(SOON, child.stop(Duration::from_secs(10)))
        .await
        .unwrap();
    assert!(mark.exists(), "the worker had time to clean up");
    assert!(
        before.elapsed() < Duration::from_secs(8),
        "nobody waits for the grace to pass"
    );
}

#[tokio::test]
async fn what_ignores_the_interrupt_is_killed_after_the_grace_with_its_descendants() {
    let child = spawn("trap '' INT; sleep 1000 & echo pid $!; wait; wait").await;
    let sleeper = number_after(&line_with(&child, "pid ").await, "pid ");
    let before = Instant::now();
    let exit = timeout(SOON, child.stop(Duration::from_millis(300)))
        .await
        .unwrap();
    assert_eq!(exit.to_string(), "signal 9 (SIGKILL)");
    assert!(
        before.elapsed() >= Duration::from_millis(300) && before.elapsed() < Duration::from_secs(5)
    );
    assert!(!runs(child.pid()));
    gone(sleeper).await;
}

#[tokio::test]
async fn nothing_outlives_a_leader_that_ends_or_a_child_that_is_dropped() {
    let child = spawn("sleep 1000 & echo pid $!; exit 1").await;
    let sleeper = number_after(&line_with(&child, "pid ").await, "pid ");
    assert_eq!(ended(&child).await, Exit::Code(1));
    gone(sleeper).await;

    let child = spawn("sleep 1000 & echo pid $!; wait").await;
    let (leader, sleeper) = (
        child.pid(),
        number_after(&line_with(&child, "pid ").await, "pid "),
    );
    drop(child);
    gone(leader).await;
    gone(sleeper).await;
}

#[test]
fn a_child_of_a_process_that_ignores_signals_does_not_ignore_them() {
    let output = this_binary(
        &["--ignore-signal=INT,TERM,HUP", "--block-signal=USR1,INT"],
        "process::stopping::body_signals_are_clean",
    )
    .output()
    .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run by the test above, in a process that ignores signals"]
async fn body_signals_are_clean() {
    let child = spawn("grep -E 'Sig(Ign|Blk)' /proc/self/status").await;
    ended(&child).await;
    for label in ["SigBlk:", "SigIgn:"] {
        let line = line_with(&child, label).await;
        let bits = u64::from_str_radix(line.trim_start_matches(label).trim(), 16).unwrap();
        // The C library keeps signal 32 and above to itself.
        assert_eq!(bits & 0x7fff_ffff, 0, "{line}");
    }
}

#[tokio::test]
async fn the_child_dies_when_we_are_killed_and_not_before() {
    use std::io::{BufRead, BufReader};
    let mut parent = this_binary(&[], "process::stopping::body_parent_to_be_killed")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    // The libtest header may share the line.
    let pid = tokio::task::spawn_blocking(move || {
        let line = lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("child-pid ")))
            .unwrap()
            .unwrap();
        number_after(&line, "child-pid ")
    })
    .await
    .unwrap();
    assert!(
        runs(pid),
        "it outlives the runtime thread that asked for it"
    );
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(pid).await;
}

#[test]
#[ignore = "run by the test above, which kills it"]
fn body_parent_to_be_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // Asked for on a thread that ends at once: were the fork made there, the child would die with
    // it.
    let handle = runtime.handle().clone();
    let child = std::thread::spawn(move || handle.block_on(spawn("exec sleep 1000")))
        .join()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    println!("\nchild-pid {}", child.pid());
    std::thread::sleep(Duration::from_secs(60));
}
