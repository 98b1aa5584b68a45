//! The standard chain of AWS credentials, as far as it can be played here: shared profile,
//! container endpoint, the instance's metadata, web identity (IRSA).
//!
//! The SDK reads the process's environment, so each case is this test binary started again with an
//! environment of its own.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use comfyui_api::storage::ErrorKind;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::s3::S3Backend;

use super::{outbound, source, storage_config};

const ENDPOINT: &str = "CHAIN_TEST_ENDPOINT";
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Not a test by itself: what [`run`] starts.
#[tokio::test]
#[ignore = "started by the tests below with an environment of its own"]
async fn child() {
    let endpoint = std::env::var(ENDPOINT).unwrap();
    let variables = [
        ("AWS_REGION", "eu-test-1"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
    ];
    let backend = S3Backend::new(&storage_config(&variables).s3, outbound(&variables));
    let error = backend.head(&source("s3://bucket/key")).await.unwrap_err();
    println!("kind={:?} message={}", error.kind, error.message);
}

async fn run(directory: &Path, endpoint: &str, variables: &[(&str, &str)]) -> String {
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "storage_cloud::chain::child",
            "--ignored",
            "--nocapture",
        ])
        .env_clear()
        .env("HOME", directory)
        .env(ENDPOINT, endpoint)
        .envs(if variables.iter().any(|(name, _)| *name == METADATA) {
            None
        } else {
            Some(("AWS_EC2_METADATA_DISABLED", "true"))
        })
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output)
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

/// S3 that has nothing, the container credentials endpoint, the instance's metadata service and STS
/// in one; keeps the `Authorization` headers that S3 got.
async fn peers() -> (String, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback({
        let seen = seen.clone();
        move |request: Request| {
            let seen = seen.clone();
            async move { answer(request.uri().path(), request.headers(), &seen) }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

fn answer(path: &str, headers: &HeaderMap, seen: &Mutex<Vec<String>>) -> axum::response::Response {
    if path == "/container" {
        assert_eq!(
            headers.get(header::AUTHORIZATION).unwrap(),
            "container-token"
        );
        let body = r#"{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
        return body.into_response();
    }
    if path == "/latest/api/token" {
        return (
            [("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
            "metadata-token",
        )
            .into_response();
    }
    if let Some(rest) = path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
        assert_eq!(
            headers.get("x-aws-ec2-metadata-token").unwrap(),
            "metadata-token"
        );
        let keys = r#"{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","AccessKeyId":"AKIDINSTANCE","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
        return if rest.is_empty() { "role" } else { keys }.into_response();
    }
    if path.starts_with("/latest/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if path == "/" {
        let keys = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult><Credentials>\
            <AccessKeyId>AKIDWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
            </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        return ([(header::CONTENT_TYPE, "text/xml")], keys).into_response();
    }
    let authorization = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    seen.lock().unwrap().push(authorization.unwrap_or_default());
    StatusCode::NOT_FOUND.into_response()
}

#[tokio::test]
async fn a_shared_profile() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    std::fs::create_dir(directory.path().join(".aws")).unwrap();
    let profiles = "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = \
                    s\n[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = s\n";
    std::fs::write(directory.path().join(".aws/credentials"), profiles).unwrap();
    run(directory.path(), &url, &[]).await;
    run(directory.path(), &url, &[("AWS_PROFILE", "other")]).await;
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 2
            && seen[0].contains("Credential=AKIDDEFAULT/")
            && seen[1].contains("Credential=AKIDOTHER/"),
        "{seen:?}"
    );
    assert!(seen[0].contains("/eu-test-1/s3/"), "{seen:?}");
}

/// F08: the profile may name the service, as for all AWS tools.
#[tokio::test]
async fn the_endpoint_of_a_profile() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    std::fs::create_dir(directory.path().join(".aws")).unwrap();
    let profile = format!(
        "[default]\nendpoint_url = {url}\naws_access_key_id = AKIDPROFILE\naws_secret_access_key \
         = s\n"
    );
    std::fs::write(directory.path().join(".aws/config"), profile).unwrap();
    run(directory.path(), "", &[]).await;
    let seen = seen.lock().unwrap();
    assert!(
        !seen.is_empty() && seen[0].contains("Credential=AKIDPROFILE/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_containers_endpoint_never_through_a_proxy() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    let full = format!("{url}/container");
    run(
        directory.path(),
        &url,
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &full),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token"),
        ],
    )
    .await;
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 1 && seen[0].contains("Credential=AKIDCONTAINER/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_role_of_an_instance() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    run(directory.path(), &url, &[(METADATA, &url)]).await;
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 1 && seen[0].contains("Credential=AKIDINSTANCE/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_role_of_a_kubernetes_service_account() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    let token = directory.path().join("token");
    std::fs::write(&token, "a.b.c").unwrap();
    let token = token.to_str().unwrap();
    let role = "arn:aws:iam::123456789012:role/comfyui";
    run(
        directory.path(),
        &url,
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ("AWS_ROLE_ARN", role),
            ("AWS_ENDPOINT_URL_STS", &url),
        ],
    )
    .await;
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 1 && seen[0].contains("Credential=AKIDWEB/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn no_credentials_anywhere_is_said() {
    let (directory, (url, seen)) = (tempfile::tempdir().unwrap(), peers().await);
    let said = run(directory.path(), &url, &[]).await;
    assert!(
        said.contains(&format!("kind={:?}", ErrorKind::Invalid))
            && said.contains("set AWS_ACCESS_KEY_ID"),
        "{said}"
    );
    assert!(seen.lock().unwrap().is_empty());
}
