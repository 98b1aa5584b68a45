//! Against moto.

mod checksums;
mod credentials;
mod objects;

use comfyui_api::storage::Target;
use comfyui_api::storage::s3::S3Backend;

use super::{outbound, storage_config};
use crate::support::moto;

async fn backend() -> S3Backend {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let variables = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "marked"),
    ];
    S3Backend::new(&storage_config(&variables).s3, outbound(&variables))
}

fn target(bucket: &str, prefix: &str) -> Target {
    Target::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    }
}
