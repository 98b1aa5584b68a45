//! Waiting for the first answer of a child.

use std::time::{Duration, Instant};

use comfyui_api::comfy::supervisor::{Child, Exit, NotReady, port_in_use, wait_until_answering};
use tokio::time::timeout;

use super::{SOON, config, shell};
use crate::support::product::free_port;

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
