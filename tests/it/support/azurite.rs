//! Azure Blob Storage: Azurite (npm `azurite`), one for all tests.

use std::path::Path;
use std::sync::OnceLock;

use azure_storage::{CloudLocation, StorageCredentials};

use super::peer_process::{PeerProcess, node_modules};

/// Azurite's account.
pub const ACCOUNT: &str = azure_storage::clients::EMULATOR_ACCOUNT;
/// Its key, which is public knowledge.
pub const KEY: &str = azure_storage::clients::EMULATOR_ACCOUNT_KEY;

/// The account's blob endpoint.
pub fn endpoint() -> String {
    static AZURITE: OnceLock<PeerProcess> = OnceLock::new();
    let start = || {
        let script = node_modules().join("azurite/dist/src/blob/main.js");
        assert!(
            script.exists(),
            "Azurite is not installed: {} is missing; install npm azurite",
            script.display()
        );
        let arguments = [
            script.to_str().unwrap(),
            "--blobPort",
            "0",
            "--blobHost",
            "127.0.0.1",
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
        ];
        PeerProcess::start("Azurite", "npm azurite", Path::new("node"), &arguments)
    };
    format!("{}/{ACCOUNT}", AZURITE.get_or_init(start).url)
}

/// The connection string.
pub async fn connection_string() -> String {
    let endpoint = tokio::task::spawn_blocking(endpoint).await.unwrap();
    format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};\
         BlobEndpoint={endpoint};"
    )
}

/// Makes a container of its own for a test, public for blobs or not.
pub async fn container(public: bool) -> String {
    let name = format!("c{}", uuid::Uuid::new_v4().simple());
    let uri = tokio::task::spawn_blocking(endpoint).await.unwrap();
    let location = CloudLocation::Custom {
        account: ACCOUNT.to_owned(),
        uri,
    };
    let client = azure_storage_blobs::prelude::ClientBuilder::with_location(
        location,
        StorageCredentials::access_key(ACCOUNT, KEY),
    )
    .transport(azure_core::TransportOptions::new(std::sync::Arc::new(
        Plain(reqwest::Client::new()),
    )))
    .container_client(&name);
    let access = if public {
        azure_storage_blobs::container::PublicAccess::Blob
    } else {
        azure_storage_blobs::container::PublicAccess::None
    };
    client.create().public_access(access).await.unwrap();
    name
}

/// Just enough of a transport to make a container.
#[derive(Debug)]
struct Plain(reqwest::Client);

#[async_trait::async_trait]
impl azure_core::HttpClient for Plain {
    async fn execute_request(
        &self,
        request: &azure_core::Request,
    ) -> azure_core::Result<azure_core::Response> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes()).unwrap();
        let mut sent = self.0.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        let response = sent.send().await.unwrap();
        let status = azure_core::StatusCode::try_from(response.status().as_u16()).unwrap();
        let mut headers = azure_core::headers::Headers::new();
        for (name, value) in response.headers() {
            headers.insert(name.as_str().to_owned(), value.to_str().unwrap().to_owned());
        }
        let bytes = response.bytes().await.unwrap();
        Ok(azure_core::Response::new(
            status,
            headers,
            Box::pin(futures_util::stream::once(async move { Ok(bytes) })),
        ))
    }
}
