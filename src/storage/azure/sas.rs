//! Signed URLs: a service SAS with the account's key, or with a key that an identity was given for
//! a while.
//!
//! By hand, because `object_store` signs the path as it stands in the URL, while the service checks
//! the decoded one: its signatures of names with spaces or umlauts do not hold (decision 0012).

use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::failure::accepted;
use super::request::{Resource, VERSION};
use crate::config::Secret;
use crate::storage::error::element;
use crate::storage::{ErrorKind, StorageError};

/// What a key for user delegation is told by in a URL, and in the answer that brings it.
const DELEGATION: [(&str, &str); 6] = [
    ("skoid", "SignedOid"),
    ("sktid", "SignedTid"),
    ("skt", "SignedStart"),
    ("ske", "SignedExpiry"),
    ("sks", "SignedService"),
    ("skv", "SignedVersion"),
];

/// A key that signs URLs.
pub struct SigningKey {
    secret: Secret,
    /// Which key it is, unless it is the account's.
    delegation: Vec<(&'static str, String)>,
}

impl SigningKey {
    /// The account's, in base64.
    pub fn of_account(key: &Secret) -> Self {
        Self {
            secret: key.clone(),
            delegation: Vec::new(),
        }
    }

    /// Asks the service for one.
    pub async fn delegated(
        service: &Resource,
        start: OffsetDateTime,
        end: OffsetDateTime,
    ) -> Result<Self, StorageError> {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>{}</Start>\
             <Expiry>{}</Expiry></KeyInfo>",
            written(start),
            written(end)
        );
        let length = HeaderValue::from(body.len());
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, length)]);
        let query = [("restype", "service"), ("comp", "userdelegationkey")];
        let answer = service
            .ask(Method::POST, &query, headers, Some(body.into()))
            .await?;
        let answer = accepted(&service.shown, answer).await?;
        let xml = answer.text().await.unwrap_or_default();
        let field = |name: &str| {
            element(&xml, name).map(str::to_owned).ok_or_else(|| {
                StorageError::new(
                    ErrorKind::Failed,
                    format!("{}: Azure sent no key for signed URLs", service.shown),
                )
            })
        };
        let mut delegation = Vec::with_capacity(DELEGATION.len());
        for (parameter, name) in DELEGATION {
            delegation.push((parameter, field(name)?));
        }
        Ok(Self {
            secret: Secret::new(field("Value")?),
            delegation,
        })
    }

    /// When it ends, if it does.
    pub fn expiry(&self) -> Option<&str> {
        self.delegation
            .iter()
            .find(|(parameter, _)| *parameter == "ske")
            .map(|(_, expiry)| expiry.as_str())
    }

    /// A URL that reads a blob until `expiry`. `resource` is `/blob/<account>/<container>/<name>`,
    /// not encoded.
    pub fn sign(&self, mut url: Url, resource: &str, expiry: &str) -> Option<Url> {
        let delegation = self.delegation.iter().map(|(_, value)| value.as_str());
        let mut fields = vec!["r", "", expiry, resource];
        if self.delegation.is_empty() {
            fields.push(""); // identifier of a policy
        } else {
            fields.extend(delegation);
            fields.extend([""; 3]); // users that it is for, correlation
        }
        fields.extend(["", "", VERSION, "b"]); // addresses and protocol: any; one blob
        fields.extend([""; 7]); // snapshot, encryption, headers of the answer
        let key = STANDARD.decode(self.secret.expose()).ok()?;
        let mut signature = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        signature.update(fields.join("\n").as_bytes());
        let signature = STANDARD.encode(signature.finalize().into_bytes());
        let parameters = [
            ("sv", VERSION),
            ("sp", "r"),
            ("sr", "b"),
            ("se", expiry),
            ("sig", &signature),
        ];
        url.query_pairs_mut()
            .extend_pairs(&self.delegation)
            .extend_pairs(parameters);
        Some(url)
    }
}

/// A time as the service writes it: to the second.
pub fn written(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check value of the SDK that was here before.
    #[test]
    fn signatures_of_an_account_are_as_ever() {
        let key = Secret::new("RZfi3m1W7eyQ5zD4ymSmGANVdJ2SDQmg4sE89SW104s=");
        let url = Url::parse("https://a.example/CONTAINER_NAME/").unwrap();
        let resource = "/blob/STORAGE_ACCOUNT_NAME/CONTAINER_NAME/";
        let signed = SigningKey::of_account(&key)
            .sign(url, resource, "1970-01-08T00:00:00Z")
            .unwrap();
        assert_eq!(
            signed.query(),
            Some(
                "sv=2022-11-02&sp=r&sr=b&se=1970-01-08T00%3A00%3A00Z\
                 &sig=VRZjVZ1c%2FLz7IXCp17Sdx9%2BR9JDrnJdzE3NW56DMjNs%3D"
            )
        );
    }
}
