//! The whole server as a process: interrupted while it starts, and as process 1.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{SOON, server};

#[test]
fn a_comfyui_that_does_not_answer_yet_is_interrupted_before_it_is_killed() {
    const SLOW: &str = "trap 'echo interrupted > $MARK.int; exit 0' INT; touch $MARK; while :; do \
                        sleep 0.05; done";
    let folder = tempfile::tempdir().unwrap();
    let interrupted = folder.path().join("mark.int");

    let mut started = server(
        Command::new(env!("CARGO_BIN_EXE_comfyui-api")),
        folder.path(),
        SLOW,
    )
    .spawn()
    .unwrap();
    let deadline = Instant::now() + SOON;
    while !folder.path().join("mark").exists() {
        assert!(
            Instant::now() < deadline && started.try_wait().unwrap().is_none(),
            "ComfyUI was not started"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(started.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(started.wait().unwrap().code(), Some(0));
    assert!(interrupted.exists(), "stopped by a signal to the server");

    fs::remove_file(&interrupted).unwrap();
    let mut impatient = server(
        Command::new(env!("CARGO_BIN_EXE_comfyui-api")),
        folder.path(),
        SLOW,
    );
    let output = impatient
        .env("STARTUP_CHECK_INTERVAL_S", "0.5")
        .env("STARTUP_CHECK_MAX_TRIES", "2")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(interrupted.exists(), "given up because it was too slow");
}

/// The server as PID 1 of a new PID namespace, as in a container, with a `CMD` that is a shell
/// script.
fn server_as_pid_1(folder: &Path, script_text: &str) -> Command {
    let mut command = Command::new("unshare");
    // Root needs no user namespace, and in a container may have no right to one.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command.args([
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        env!("CARGO_BIN_EXE_comfyui-api"),
    ]);
    server(command, folder, script_text)
}

#[test]
fn as_pid_1_the_server_reaps_orphans_and_keeps_its_exit_code() {
    // Two orphans that end; then the zombies that are children of PID 1 are counted, until there
    // are none or ten seconds have passed.
    const ORPHANS: &str = "(sleep 0.1 &); (sleep 0.1 &); sleep 1; n=0
        while cat /proc/[0-9]*/stat | grep -c ') Z 1 ' > $MARK && [ $n -lt 90 ]; do n=$((n + 1)); \
                           sleep 0.1; done
        exit 3";
    let folder = tempfile::tempdir().unwrap();
    let cmd = server_as_pid_1(folder.path(), ORPHANS).output();
    let output = cmd.expect("unshare (util-linux) should be installed");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("exit code 3"), "{text}");
    assert_eq!(
        fs::read_to_string(folder.path().join("mark"))
            .unwrap()
            .trim(),
        "0",
        "zombies are left"
    );
    let refused = server_as_pid_1(folder.path(), "exit 0")
        .env("PORT", "nonsense")
        .output()
        .unwrap();
    assert_eq!(
        refused.status.code(),
        Some(2),
        "a configuration error keeps its code"
    );
}

#[test]
fn as_pid_1_the_server_is_stopped_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut unshare = server_as_pid_1(
        folder.path(),
        "trap 'exit 0' INT; touch $MARK; sleep 60 & wait",
    )
    .spawn()
    .expect("unshare (util-linux) should be installed");
    let deadline = Instant::now() + SOON;
    while !mark.exists() {
        assert!(
            Instant::now() < deadline && unshare.try_wait().unwrap().is_none(),
            "ComfyUI was not started"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", unshare.id())).unwrap();
    let init: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(init),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    while unshare.try_wait().unwrap().is_none() {
        assert!(
            Instant::now() < deadline,
            "the signal did not reach the server"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(unshare.wait().unwrap().code(), Some(0));
}
