//! The five kinds of credentials, and the patterns that say for which URLs they are.

use serde::Deserialize;

use crate::config::Secret;

/// Credentials for one download.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer`
    Bearer {
        /// The token.
        token: Secret,
    },
    /// `Authorization: Basic`
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// Any header.
    Header {
        /// Its name.
        header_name: String,
        /// Its value.
        header_value: Secret,
    },
    /// A query parameter.
    Query {
        /// Its name; `sas` means that the value is a whole SAS string.
        query_param: String,
        /// Its value.
        query_value: Secret,
    },
    /// Keys for S3.
    S3 {
        /// Key.
        access_key_id: Secret,
        /// Secret.
        secret_access_key: Secret,
        /// Session token.
        #[serde(default)]
        session_token: Option<Secret>,
        /// Region.
        #[serde(default)]
        region: Option<String>,
        /// Another S3 service; obeys the address guard.
        #[serde(default)]
        endpoint: Option<String>,
    },
}

/// Credentials with the URLs that they are for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Credential {
    /// `*` any characters but `/`, `**` any characters, `?` exactly one; the whole URL must match.
    pub url_pattern: String,
    /// What to present.
    pub auth: Auth,
}
