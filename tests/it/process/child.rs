//! How a command is run: its words, its environment, its output, its end.

use std::collections::BTreeMap;
use std::fs;

use comfyui_api::comfy::supervisor::{Child, Exit, ai_dock_environment};
use tokio::time::timeout;

use super::{SOON, config, ended, line_with, script, shell, spawn};

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
