//! Ambient identity: a workload identity's token exchanged at Entra, or the instance's managed
//! identity.

use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::config::{AzureConfig, Secret};
use crate::net::Outbound;

const SCOPE: &str = "https://storage.azure.com/.default";
const RESOURCE: &str = "https://storage.azure.com/";
const INSTANCE_METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// A token is renewed so long before it expires.
const EARLY: time::Duration = time::Duration::minutes(5);
const ANSWER: Duration = Duration::from_secs(20);

/// Where tokens come from.
enum Origin {
    Workload {
        url: String,
        client_id: String,
        file: PathBuf,
    },
    Managed {
        client_id: Option<String>,
    },
}

/// Gets tokens for storage and keeps the last one.
pub struct Identity {
    origin: Origin,
    outbound: Outbound,
    last: Mutex<Option<Token>>,
}

struct Token {
    secret: Secret,
    expires: OffsetDateTime,
}

#[derive(serde::Deserialize)]
struct Answer {
    access_token: String,
    /// A number from Entra, a string from the instance metadata.
    expires_in: serde_json::Value,
}

impl Identity {
    /// Workload identity when AKS has injected it, else the managed identity.
    pub fn new(config: &AzureConfig, outbound: Outbound) -> Self {
        let origin = match (
            &config.tenant_id,
            &config.client_id,
            &config.federated_token_file,
        ) {
            (Some(tenant), Some(client_id), Some(file)) => {
                let authority = config
                    .authority_host
                    .as_deref()
                    .unwrap_or("https://login.microsoftonline.com")
                    .trim_end_matches('/');
                Origin::Workload {
                    url: format!("{authority}/{tenant}/oauth2/v2.0/token"),
                    client_id: client_id.clone(),
                    file: file.clone(),
                }
            }
            _ => Origin::Managed {
                client_id: config.client_id.clone(),
            },
        };
        Self {
            origin,
            outbound,
            last: Mutex::new(None),
        }
    }

    async fn ask(&self) -> Result<Token, String> {
        let (name, request) = match &self.origin {
            Origin::Workload {
                url,
                client_id,
                file,
            } => {
                // Read each time: it is rotated.
                let assertion = tokio::fs::read_to_string(file).await.map_err(|error| {
                    format!("AZURE_FEDERATED_TOKEN_FILE {}: {error}", file.display())
                })?;
                let form = [
                    ("client_id", client_id.as_str()),
                    ("scope", SCOPE),
                    (
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    ),
                    ("client_assertion", assertion.trim()),
                    ("grant_type", "client_credentials"),
                ];
                ("Entra", self.outbound.operator().post(url).form(&form))
            }
            Origin::Managed { client_id } => {
                let mut query = vec![("api-version", "2018-02-01"), ("resource", RESOURCE)];
                query.extend(client_id.as_deref().map(|id| ("client_id", id)));
                // Never through a proxy.
                (
                    "the instance's identity service",
                    self.outbound
                        .comfyui()
                        .get(INSTANCE_METADATA)
                        .query(&query)
                        .header("Metadata", "true"),
                )
            }
        };
        let response = request
            .timeout(ANSWER)
            .send()
            .await
            .map_err(|error| format!("{name}: {}", crate::storage::cloud::words(&error)))?;
        if !response.status().is_success() {
            return Err(format!("{name} answered {}", response.status().as_u16()));
        }
        let answer: Answer = response
            .json()
            .await
            .map_err(|_| format!("{name} sent no token"))?;
        let seconds = answer
            .expires_in
            .as_i64()
            .or_else(|| answer.expires_in.as_str()?.parse().ok())
            .unwrap_or(600);
        Ok(Token {
            secret: Secret::new(answer.access_token),
            expires: OffsetDateTime::now_utc() + time::Duration::seconds(seconds),
        })
    }

    /// A token that is good for some minutes yet.
    ///
    /// # Errors
    /// A sentence that says why there is none, and what to do.
    pub async fn token(&self) -> Result<Secret, String> {
        let mut last = self.last.lock().await;
        if let Some(token) = last
            .as_ref()
            .filter(|token| token.expires - EARLY > OffsetDateTime::now_utc())
        {
            return Ok(token.secret.clone());
        }
        let token = self.ask().await.map_err(|sentence| {
            let advice = "set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or give the workload \
                          an identity";
            format!("no token for Azure Blob Storage ({sentence}): {advice}")
        })?;
        Ok(last.insert(token).secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::config::Config;

    /// Entra as AKS makes us meet it: one form, one token, and the token is kept.
    #[tokio::test]
    async fn a_workload_identity_is_exchanged_once() {
        crate::net::install_crypto();
        let forms: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}/", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback({
            let forms = forms.clone();
            move |uri: axum::http::Uri, form: String| async move {
                forms.lock().push((uri.path().to_owned(), form));
                r#"{"token_type":"Bearer","expires_in":3600,"access_token":"entra-token"}"#
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("federated");
        std::fs::write(&file, "assertion\n").unwrap();
        let env = [
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "client"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
            ("AZURE_AUTHORITY_HOST", authority.as_str()),
        ];
        let env: std::collections::BTreeMap<_, _> = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let config = Config::from_env(&env).unwrap().storage;
        let identity = Identity::new(&config.azure, Outbound::new(&config).unwrap());
        for _ in 0..2 {
            assert_eq!(identity.token().await.unwrap().expose(), "entra-token");
        }
        let forms = forms.lock();
        assert_eq!(forms.len(), 1);
        assert_eq!(forms[0].0, "/tenant/oauth2/v2.0/token");
        for part in [
            "client_id=client",
            "client_assertion=assertion&",
            "grant_type=client_credentials",
            "scope=https%3A%2F%2Fstorage.azure.com%2F.default",
        ] {
            assert!(forms[0].1.contains(part), "{} lacks {part}", forms[0].1);
        }
    }
}
