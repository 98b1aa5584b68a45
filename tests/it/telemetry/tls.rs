//! The way to the collector is that of the product: TLS that trusts `SSL_CERT_FILE`, proxies, no
//! guard.

use std::path::Path;

use super::stage;
use crate::delivered::picture;
use crate::support::collector::{Collector, one};
use crate::support::peer_process::{PeerProcess, python};
use crate::support::product::Stage;
use crate::support::rabbitmq::make_certificates;

/// TLS before a port of this machine. Prints its own address, with the wrong scheme, as
/// [`PeerProcess`] wants it.
const TERMINATOR: &str = r#"
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])

async def copy(source, target):
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()

async def serve(reader, writer):
    theirs, ours = await asyncio.open_connection("127.0.0.1", int(sys.argv[3]))
    await asyncio.gather(copy(reader, ours), copy(theirs, writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"#;

fn terminator(certificates: &Path, port: u16) -> PeerProcess {
    let file = |name: &str| certificates.join(name).display().to_string();
    let (certificate, key, port) = (file("server.pem"), file("server.key"), port.to_string());
    let arguments = ["-c", TERMINATOR, &certificate, &key, &port];
    PeerProcess::start("the terminator", "Python", &python(), &arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_is_trusted_by_its_authority_alone() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let collector = Collector::start().await;
    let (certificates, port) = (
        directory.path().to_path_buf(),
        collector.receiver.address.port(),
    );
    let starting = tokio::task::spawn_blocking(move || terminator(&certificates, port));
    let terminator = starting.await.unwrap();
    let endpoint = terminator.url.replace("http://", "https://");
    let product = || {
        stage()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
    };

    let mut unknown = product().start().await;
    unknown.run("unknown", &picture(1)).await;
    let warning = unknown.log.line("telemetry is dropped").await;
    assert!(warning.contains("certificate"), "{warning}");
    assert_eq!(unknown.stop().await, Some(0));
    assert!(collector.spans().is_empty());

    let mut known = product()
        .env("SSL_CERT_FILE", directory.path().join("ca.pem").display())
        .start()
        .await;
    known.run("known", &picture(1)).await;
    assert_eq!(known.stop().await, Some(0));
    one(&collector.spans(), "prompt").has("comfyui.prompt.id", "known");
    assert_eq!(known.log.count("telemetry is dropped"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_reached_through_the_proxy_and_past_the_guard() {
    let collector = Collector::start().await;
    // Only the proxy knows this name; it takes the whole address in the request's line.
    let mut proxied = Stage::new()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.test:4318")
        .env("HTTP_PROXY", collector.endpoint())
        .start()
        .await;
    proxied.run("proxied", &picture(1)).await;
    assert_eq!(proxied.stop().await, Some(0));
    let whole = collector
        .receiver
        .all()
        .into_iter()
        .find(|request| request.path.contains("/v1/traces"))
        .expect("nothing came to the proxy");
    assert_eq!(whole.header("host"), "collector.test:4318");
    // An address that a client could not name.
    let mut direct = collector
        .stage(Stage::new().env("ALLOW_PRIVATE_NETWORKS", "false"))
        .start()
        .await;
    direct.run("direct", &picture(1)).await;
    assert_eq!(direct.stop().await, Some(0));
    let spans = collector.spans();
    let found = spans.iter().any(|span| {
        let id = span.attributes.get("comfyui.prompt.id");
        id.is_some_and(|id| id == "direct")
    });
    assert!(found, "{spans:#?}");
}
