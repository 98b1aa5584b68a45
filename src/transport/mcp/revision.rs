//! Which revision of the protocol a message follows, and whether its headers say the same as its
//! body.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{ErrorCode, ProtocolVersion, RequestMetaObject};
use serde_json::{Map, Value, json};

use super::message::RpcError;
use crate::limits::text::quoted;

const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A revision that is spoken here; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// With batches, without structured results.
    V2025_03_26,
    /// With structured results and links.
    V2025_06_18,
    /// The last one with a handshake.
    V2025_11_25,
    /// Each request says for itself what it is.
    V2026_07_28,
}

impl Revision {
    /// The newest first.
    pub const ALL: [Self; 4] = [
        Self::V2026_07_28,
        Self::V2025_11_25,
        Self::V2025_06_18,
        Self::V2025_03_26,
    ];
    /// What a handshake with an unknown revision is answered with.
    pub const LAST_WITH_HANDSHAKE: Self = Self::V2025_11_25;

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// The revision of a handshake that asks for this one.
    pub fn of_handshake(wanted: &str) -> Self {
        Self::parse(wanted)
            .filter(|one| !one.is_stateless())
            .unwrap_or(Self::LAST_WITH_HANDSHAKE)
    }

    /// Without a handshake.
    pub fn is_stateless(self) -> bool {
        self == Self::V2026_07_28
    }

    /// Of a message that is no request.
    ///
    /// # Errors
    /// When the header names a revision that is not spoken here.
    pub fn of_header(headers: &HeaderMap) -> Result<Self, RpcError> {
        match header(headers, VERSION)? {
            None => Ok(Self::V2025_03_26),
            Some(name) => Self::parse(name).ok_or_else(|| unsupported(name)),
        }
    }

    /// Of a request.
    ///
    /// # Errors
    /// When headers and body disagree, something is missing, or the revision is not spoken here.
    pub fn of_request(
        headers: &HeaderMap,
        method: &str,
        params: &Map<String, Value>,
    ) -> Result<Self, RpcError> {
        let said = header(headers, VERSION)?;
        if method == "initialize" {
            return handshake(said, params);
        }
        let meta = params.get("_meta").and_then(Value::as_object);
        let body = meta.and_then(|meta| meta.get(META_VERSION));
        let Some(body) = body.and_then(Value::as_str) else {
            return match said {
                Some(name) => match Self::parse(name) {
                    Some(revision) if revision.is_stateless() => Err(missing(meta)),
                    Some(revision) => Ok(revision),
                    None => Err(unsupported(name)),
                },
                // Nobody but a client of this revision asks for that.
                None if method == "server/discover" => Err(missing(meta)),
                None => Ok(Self::V2025_03_26),
            };
        };
        match said {
            None => {
                return Err(mismatch(
                    "the header MCP-Protocol-Version is missing, which _meta needs beside it",
                ));
            }
            Some(said) if said != body => {
                return Err(mismatch(format!(
                    "the header MCP-Protocol-Version says \"{}\", _meta says \"{}\"",
                    quoted(said),
                    quoted(body)
                )));
            }
            Some(_) => {}
        }
        let revision = Self::parse(body).ok_or_else(|| unsupported(body))?;
        if revision.is_stateless() {
            check_headers(headers, method, params)?;
            if !complete(meta) {
                return Err(missing(meta));
            }
        }
        Ok(revision)
    }
}

fn handshake(said: Option<&str>, params: &Map<String, Value>) -> Result<Revision, RpcError> {
    let wanted = params
        .get("protocolVersion")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            RpcError::params("initialize needs \"protocolVersion\", a text").malformed()
        })?;
    if let Some(said) = said
        && said != wanted
    {
        return Err(mismatch(format!(
            "the header MCP-Protocol-Version says \"{}\", initialize says \"{}\"",
            quoted(said),
            quoted(wanted)
        )));
    }
    Ok(Revision::of_handshake(wanted))
}

fn unsupported(name: &str) -> RpcError {
    let supported = Revision::ALL.map(Revision::as_str);
    RpcError::new(
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION,
        format!(
            "the revision \"{}\" of the protocol is not spoken here: {} are",
            quoted(name),
            supported.join(", ")
        ),
    )
    .with(json!({"supported": supported, "requested": quoted(name)}))
    .malformed()
}

fn mismatch(message: impl Into<String>) -> RpcError {
    RpcError::new(ErrorCode::HEADER_MISMATCH, message).malformed()
}

fn as_meta(meta: Option<&Map<String, Value>>) -> RequestMetaObject {
    let mut known = RequestMetaObject::new();
    for (name, value) in meta.into_iter().flatten() {
        if name == META_VERSION || name == META_CAPABILITIES {
            known.insert(name.clone(), value.clone());
        }
    }
    known
}

fn complete(meta: Option<&Map<String, Value>>) -> bool {
    as_meta(meta)
        .missing_required_keys(&ProtocolVersion::V_2026_07_28)
        .is_empty()
}

fn missing(meta: Option<&Map<String, Value>>) -> RpcError {
    let missing = as_meta(meta).missing_required_keys(&ProtocolVersion::V_2026_07_28);
    RpcError::params(format!(
        "params._meta lacks {}, which every request of {} has",
        missing.join(" and "),
        Revision::V2026_07_28.as_str()
    ))
    .malformed()
}

/// The headers that repeat the body for whoever routes by them.
fn check_headers(
    headers: &HeaderMap,
    method: &str,
    params: &Map<String, Value>,
) -> Result<(), RpcError> {
    match header(headers, METHOD)? {
        Some(said) if said == method => {}
        Some(said) => {
            return Err(mismatch(format!(
                "the header Mcp-Method says \"{}\", the body says \"{}\"",
                quoted(said),
                quoted(method)
            )));
        }
        None => return Err(mismatch("the header Mcp-Method is missing")),
    }
    let (member, needed) = match method {
        "tools/call" => ("name", true),
        "resources/read" => ("uri", true),
        "tasks/get" | "tasks/update" | "tasks/cancel" => ("taskId", false),
        _ => return Ok(()),
    };
    let Some(named) = params.get(member).and_then(Value::as_str) else {
        return Ok(());
    };
    match header(headers, NAME)? {
        Some(said) => {
            let decoded = decoded(said)
                .ok_or_else(|| mismatch("the header Mcp-Name is not the Base64 that it says"))?;
            if decoded == named {
                return Ok(());
            }
            Err(mismatch(format!(
                "the header Mcp-Name says \"{}\", the body says \"{}\"",
                quoted(&decoded),
                quoted(named)
            )))
        }
        None if needed => Err(mismatch(format!(
            "the header Mcp-Name is missing, which {method} needs"
        ))),
        None => Ok(()),
    }
}

/// A header that may stand there once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, RpcError> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(mismatch(format!("the header {name} stands there twice")));
    }
    value
        .to_str()
        .map(|text| Some(text.trim()))
        .map_err(|_| mismatch(format!("the header {name} has characters beyond ASCII")))
}

/// `=?base64?...?=` holds what a header cannot.
fn decoded(value: &str) -> Option<String> {
    let inner = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match inner {
        None => Some(value.to_owned()),
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok(),
    }
}
