//! The supervisor: real processes, real signals.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use comfyui_api::comfy::supervisor::{
    Child, Exit, NotReady, ai_dock_environment, port_in_use, wait_until_answering,
};
use comfyui_api::config::{ComfyConfig, Config};
use tokio::time::{sleep, timeout};

use crate::support::product::free_port;

/// Everything here is a matter of milliseconds; this only ends a test that hangs.
const SOON: Duration = Duration::from_secs(20);

fn config(variables: &[(&str, &str)]) -> ComfyConfig {
    let env: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_env(&env).unwrap().comfy
}

/// A `CMD` that runs a shell script.
fn shell(script: &str) -> ComfyConfig {
    let mut config = config(&[("CMD", "true")]);
    config.command = vec!["sh".into(), "-c".into(), script.into()];
    config
}

async fn spawn(script: &str) -> Child {
    Child::spawn(&shell(script)).await.unwrap()
}

async fn ended(child: &Child) -> Exit {
    timeout(SOON, child.exited())
        .await
        .expect("the child should have ended")
}

async fn line_with(child: &Child, text: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(line) = child
            .last_lines()
            .into_iter()
            .find(|line| line.contains(text))
        {
            return line;
        }
        assert!(
            Instant::now() < deadline,
            "no line with {text:?} in {:?}",
            child.last_lines()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

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

fn script(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
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
async fn the_command_gets_its_words_our_environment_and_four_variables() {
    let config = config(&[
        (
            "CMD",
            r#"sh -c 'for word in "$@"; do echo "word=$word"; done; env' zero "a b" c\ d '$HOME'"#,
        ),
        ("DIRECT_ADDRESS", "127.0.0.9"),
        ("COMFYUI_PORT_HOST", "18188"),
    ]);
    let child = Child::spawn(&config).await.unwrap();
    assert_eq!(ended(&child).await, Exit::Code(0));
    let lines = child.last_lines();
    assert_eq!(lines[..3], ["word=a b", "word=c d", "word=$HOME"]);
    for expected in [
        "DIRECT_ADDRESS=127.0.0.9",
        "COMFYUI_PORT_HOST=18188",
        "WEB_ENABLE_AUTH=false",
        "CF_QUICK_TUNNELS=false",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} missing in {lines:?}"
        );
    }
    assert!(
        lines.iter().any(|line| line.starts_with("PATH=")),
        "the rest of the environment is ours"
    );
}

#[tokio::test]
async fn exits_are_described_and_never_forgotten() {
    let child = spawn("echo to stdout; echo to stderr >&2; exit 3").await;
    assert_eq!(ended(&child).await.to_string(), "exit code 3");
    assert_eq!(
        ended(&child).await,
        Exit::Code(3),
        "a second look sees the same"
    );
    assert_eq!(child.exit(), Some(Exit::Code(3)));
    let mut lines = child.last_lines();
    lines.sort();
    assert_eq!(lines, ["to stderr", "to stdout"]);
    assert_eq!(
        child.stop(SOON).await,
        Exit::Code(3),
        "stopping what has ended is no error"
    );

    let killed = spawn("kill -9 $$").await;
    assert_eq!(ended(&killed).await.to_string(), "signal 9 (SIGKILL)");
}

#[tokio::test]
async fn a_command_that_cannot_run_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plain = script(folder.path(), "plain.sh", "#!/bin/sh\n", 0o644);
    let orphan = script(
        folder.path(),
        "orphan.sh",
        "#!/no/such/interpreter\n",
        0o755,
    );
    for (command, expected) in [
        (
            "no-such-command-here --listen".to_owned(),
            "no-such-command-here was not found on PATH",
        ),
        ("/no/such/file".to_owned(), "/no/such/file does not exist"),
        (plain.display().to_string(), "plain.sh is not executable"),
        (orphan.display().to_string(), "interpreter"),
        (String::new(), "CMD is empty"),
    ] {
        let error = Child::spawn(&config(&[("CMD", &command)]))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CMD") && error.contains(expected),
            "{command}: {error}"
        );
    }
}

#[tokio::test]
async fn output_is_always_read_cut_into_lines_and_its_end_kept() {
    // Far more than a pipe holds, progress bars that repaint, bytes that are not UTF-8, and a line
    // without end.
    let program = r#"
import sys
for n in range(50000): print("line", n)
sys.stdout.flush()
w = sys.stderr.buffer
w.write(b"\r 10%\r 20%\r\nbad \xff byte {curly} %s\n"); w.write(b"x" * 1000000); w.flush()
"#;
    let mut config = shell("");
    config.command = vec!["python3".into(), "-c".into(), program.into()];
    let child = Child::spawn(&config).await.unwrap();
    assert_eq!(ended(&child).await, Exit::Code(0));
    let lines = child.last_lines();
    assert_eq!(lines.len(), 200);
    assert!(lines.iter().all(|line| line.len() <= 8192));
    assert!(
        lines.iter().any(|line| line == "line 49999")
            || lines.iter().all(|line| line.starts_with('x')),
        "{:?}",
        &lines[..3]
    );

    let bars = spawn(r"printf 'a\r 10%%\r 20%%\r\nbad \377 byte {curly} %%s\n'").await;
    ended(&bars).await;
    assert_eq!(
        bars.last_lines(),
        ["a", " 10%", " 20%", "bad \u{fffd} byte {curly} %s"]
    );
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
        "process::body_signals_are_clean",
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
    let mut parent = this_binary(&[], "process::body_parent_to_be_killed")
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

#[tokio::test]
async fn the_output_hints_at_the_death_of_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let child = spawn(&format!(
        "echo 'Exception in thread Thread-9 (other):' >&2; while [ ! -e '{}' ]; do sleep 0.01; \
         done; echo 'Exception in thread Thread-3 (prompt_worker):' >&2; sleep 1000",
        go.display()
    ))
    .await;
    line_with(&child, "(other)").await;
    assert!(
        !child.worker_hints().has_changed().unwrap(),
        "another thread's death is none of our business"
    );
    fs::write(&go, "").unwrap();
    let mut hints = child.worker_hints();
    let hinted = timeout(SOON, hints.wait_for(|hints| *hints == 1)).await;
    hinted.unwrap().unwrap();
    assert_eq!(child.exit(), None);
    child.kill().await;
}

fn client() -> reqwest::Client {
    comfyui_api::net::install_crypto();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn waiting_ends_soon_after_the_first_answer() {
    let port = free_port().to_string();
    let mut config = config(&[
        ("CMD", "true"),
        ("COMFYUI_PORT_HOST", &port),
        ("STARTUP_CHECK_INTERVAL_S", "5"),
    ]);
    // Refuses at first, then answers 503 twice, then 200.
    let program = r#"
import http.server, os, time
class H(http.server.BaseHTTPRequestHandler):
    n = 0
    def do_GET(self):
        H.n += 1
        self.send_response(200 if H.n > 2 else 503); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *a): pass
time.sleep(0.2)
http.server.HTTPServer(("127.0.0.1", int(os.environ["COMFYUI_PORT_HOST"])), H).serve_forever()
"#;
    config.command = vec!["python3".into(), "-c".into(), program.into()];
    assert!(!port_in_use(&config.authority()).await);
    let child = Child::spawn(&config).await.unwrap();
    let before = Instant::now();
    timeout(SOON, wait_until_answering(&config, &client(), Some(&child)))
        .await
        .unwrap()
        .unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
    assert!(port_in_use(&config.authority()).await);
    assert!(port_in_use(&format!("localhost:{port}")).await);
    wait_until_answering(&config, &client(), None)
        .await
        .expect("attaching needs no child");
}

#[tokio::test]
async fn waiting_ends_when_the_child_does_and_shows_its_last_lines() {
    let mut config =
        shell("echo loading; echo 'ModuleNotFoundError: No module named torch' >&2; exit 1");
    config.port = free_port();
    config.startup_check_interval = Duration::from_secs(60);
    let child = Child::spawn(&config).await.unwrap();
    let error = timeout(SOON, wait_until_answering(&config, &client(), Some(&child)))
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(
        error,
        NotReady::Exited {
            exit: Exit::Code(1),
            ..
        }
    ));
    let text = error.to_string();
    assert!(
        text.contains("exit code 1") && text.contains("No module named torch"),
        "{text}"
    );
}

#[tokio::test]
async fn waiting_takes_interval_times_tries_and_no_longer() {
    // Accepts connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = shell("echo still importing; sleep 1000");
    config.port = silent.local_addr().unwrap().port();
    config.startup_check_interval = Duration::from_millis(100);
    config.startup_check_max_tries = 5;
    let child = Child::spawn(&config).await.unwrap();
    let before = Instant::now();
    let error = timeout(SOON, wait_until_answering(&config, &client(), Some(&child)))
        .await
        .unwrap()
        .unwrap_err();
    let took = before.elapsed();
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(10),
        "{took:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("within 0.5 s")
            && text.contains("STARTUP_CHECK_MAX_TRIES")
            && text.contains("still importing"),
        "{text}"
    );
}

#[tokio::test]
async fn the_ai_dock_environment_is_what_its_files_make_of_ours() {
    let root = tempfile::tempdir().unwrap();
    let missing = ai_dock_environment(root.path()).await.unwrap_err();
    assert!(
        missing.contains("BASE=ai-dock") && missing.contains("environment.sh"),
        "{missing}"
    );

    for folder in ["etc", "bin", "venv/bin"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    script(
        root.path(),
        "etc/environment.sh",
        "echo noise\nexport WORKSPACE='/work space'\nexport TWO=$'a\\nb'\nVENVS=$(dirname \
         \"$BASH_SOURCE\")/..",
        0o644,
    );
    script(
        root.path(),
        "bin/venv-set.sh",
        "export COMFYUI_VENV=$VENVS/venv CHOSEN=$1",
        0o644,
    );
    script(
        root.path(),
        "venv/bin/activate",
        "export PATH=\"$COMFYUI_VENV/bin:$PATH\"",
        0o644,
    );
    let environment: BTreeMap<_, _> = ai_dock_environment(root.path())
        .await
        .unwrap()
        .into_iter()
        .collect();
    let get = |name: &str| {
        environment
            .get(std::ffi::OsStr::new(name))
            .map(|value| value.to_string_lossy().into_owned())
    };
    assert_eq!(get("WORKSPACE").as_deref(), Some("/work space"));
    assert_eq!(get("TWO").as_deref(), Some("a\nb"));
    assert_eq!(get("CHOSEN").as_deref(), Some("comfyui"));
    assert!(
        get("PATH")
            .unwrap()
            .starts_with(root.path().to_str().unwrap())
    );
    assert_eq!(get("_"), None);
}

/// The server with a `CMD` that is a shell script.
fn server(mut command: Command, folder: &Path, script_text: &str) -> Command {
    let cmd = script(
        folder,
        "cmd.sh",
        &format!("#!/bin/sh\n{script_text}\n"),
        0o755,
    );
    command
        .env("CMD", cmd)
        .env("HOME", folder)
        .env("WORKFLOW_DIR", folder)
        .env("COMFY_HOME", folder)
        .env("MARK", folder.join("mark"));
    command
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("COMFYUI_PORT_HOST", free_port().to_string());
    command
}

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
