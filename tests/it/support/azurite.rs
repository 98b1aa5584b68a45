//! Azure Blob Storage: Azurite (npm `azurite`), one for all tests.

use std::path::Path;
use std::sync::OnceLock;

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};

use super::peer_process::{PeerProcess, node_modules};

/// Azurite's account.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Its key, which is public knowledge.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

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
    let endpoint = tokio::task::spawn_blocking(endpoint).await.unwrap();
    let url = format!("{endpoint}/{name}?restype=container");
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = reqwest::Method::PUT;
    *request.uri_mut() = url.parse().unwrap();
    if public {
        let headers = request.headers_mut();
        headers.insert("x-ms-blob-public-access", "blob".parse().unwrap());
    }
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&key, ACCOUNT)
        .try_authorize(&mut request)
        .unwrap();
    let headers = request.headers().clone();
    let sent = reqwest::Client::new().put(url).headers(headers).send();
    sent.await.unwrap().error_for_status().unwrap();
    name
}
