//! Throughput and memory of the backends beside `curl` against the same emulator. Prints; run it
//! alone, with `--ignored`.

use std::time::Instant;

use comfyui_api::storage::azure::AzureBackend;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::s3::S3Backend;
use comfyui_api::storage::{Target, UploadFile};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{noise, outbound, source, storage_config};
use crate::support::{azurite, memory, moto};

const SIZE: usize = 256 << 20;

fn resident_mib() -> u64 {
    memory::resident() >> 20
}

async fn measure(backend: &dyn Backend, target: &Target) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in");
    std::fs::write(&path, noise(SIZE)).unwrap();
    let file = UploadFile {
        path,
        filename: "x".to_owned(),
        content_type: "image/png".to_owned(),
    };
    let before = resident_mib();
    let at = Instant::now();
    backend
        .upload(target, &file, None, &CancellationToken::new())
        .await
        .unwrap();
    let upload = at.elapsed().as_secs_f64();
    let after_upload = resident_mib();
    let url = backend
        .sign(target, "x", std::time::Duration::from_secs(600))
        .await
        .unwrap();
    let mut curl = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..2 {
        let at = Instant::now();
        let out = directory.path().join("curl");
        assert!(
            tokio::process::Command::new("curl")
                .args(["-sSf", "-o"])
                .arg(&out)
                .arg(&url)
                .status()
                .await
                .unwrap()
                .success()
        );
        curl.push(at.elapsed().as_secs_f64());
        let at = Instant::now();
        let mut stream = backend
            .open(&source(&backend.url_of(target, "x")), None, None)
            .await
            .unwrap();
        let mut out = tokio::io::BufWriter::with_capacity(
            1 << 20,
            tokio::fs::File::create(directory.path().join("out"))
                .await
                .unwrap(),
        );
        while let Some(bytes) = stream.body.next().await {
            out.write_all(&bytes.unwrap()).await.unwrap();
        }
        out.flush().await.unwrap();
        ours.push(at.elapsed().as_secs_f64());
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::MAX, f64::min);
    println!(
        "{}: upload {upload:.2} s, +{} MiB; download {:.2} s, curl {:.2} s, ratio {:.2}, resident \
         {before} -> {} MiB",
        backend.name(),
        after_upload.saturating_sub(before),
        best(&ours),
        best(&curl),
        best(&curl) / best(&ours),
        resident_mib()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints measurements"]
async fn s3() {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let variables = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    let backend = S3Backend::new(&storage_config(&variables).s3, outbound(&variables));
    measure(
        &backend,
        &Target::S3 {
            bucket: moto::bucket().await,
            prefix: String::new(),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints measurements"]
async fn azure() {
    let text = azurite::connection_string().await;
    let backend = AzureBackend::new(
        &storage_config(&[("AZURE_STORAGE_CONNECTION_STRING", &text)]).azure,
        outbound(&[]),
    );
    measure(
        &backend,
        &Target::Azure {
            container: azurite::container(false).await,
            blob_prefix: String::new(),
        },
    )
    .await;
}
