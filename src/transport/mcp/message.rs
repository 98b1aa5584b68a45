//! JSON-RPC: what comes in, and errors that go out.

use axum::http::StatusCode;
use rmcp::model::{ErrorCode, ErrorData};
use serde_json::{Map, Value, json};

use super::revision::Revision;

/// One message of a client.
#[derive(Debug)]
pub enum Message {
    /// It is answered.
    Request {
        /// A text or a whole number.
        id: Value,
        /// What is asked for.
        method: String,
        /// Of it.
        params: Map<String, Value>,
    },
    /// It is not answered.
    Notification,
    /// An answer to a request that was never sent.
    Answer,
}

impl Message {
    /// Reads one.
    ///
    /// # Errors
    /// When it is no JSON-RPC message; the id that it has is there all the same.
    pub fn read(value: Value) -> Result<Self, (Option<Value>, RpcError)> {
        let Value::Object(mut members) = value else {
            return Err((None, RpcError::request("a message must be a JSON object")));
        };
        let id = members.remove("id");
        let known = id.clone().filter(is_id);
        let fail = |message: &str| Err((known.clone(), RpcError::request(message)));
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return fail("\"jsonrpc\" must be \"2.0\"");
        }
        let method = match members.remove("method") {
            Some(Value::String(method)) => method,
            Some(_) => return fail("\"method\" must be a text"),
            None if members.contains_key("result") || members.contains_key("error") => {
                return Ok(Self::Answer);
            }
            None => return fail("\"method\" is missing"),
        };
        let Some(id) = id else {
            return Ok(Self::Notification);
        };
        if !is_id(&id) {
            return fail("\"id\" must be a text or a whole number");
        }
        let params = match members.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => {
                let error = RpcError::params("\"params\" must be an object").malformed();
                return Err((Some(id), error));
            }
        };
        Ok(Self::Request { id, method, params })
    }
}

fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_i64() || id.is_u64()
}

/// An error of the protocol.
#[derive(Debug)]
pub struct RpcError {
    data: ErrorData,
    /// The message itself is wrong, not what it asks for.
    malformed: bool,
}

impl RpcError {
    /// With one sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self {
            data: ErrorData::new(code, message, None),
            malformed: false,
        }
    }

    /// Parameters that cannot be used, or that name what is not there.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_PARAMS, message)
    }

    /// No message.
    pub fn request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, message).malformed()
    }

    /// A method that is not there.
    pub fn method(name: &str) -> Self {
        let name = crate::limits::text::quoted(name);
        Self::new(
            ErrorCode::METHOD_NOT_FOUND,
            format!("there is no method \"{name}\" in this revision of the protocol"),
        )
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INTERNAL_ERROR, message)
    }

    /// The status is 400 whatever the revision.
    #[must_use]
    pub fn malformed(self) -> Self {
        Self {
            malformed: true,
            ..self
        }
    }

    /// More, for programs.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data.data = Some(data);
        self
    }

    /// The status of an answer that is nothing but this error. Clients of the handshake revisions
    /// take 404 for a lost session.
    pub fn status(&self, revision: Option<Revision>) -> StatusCode {
        if self.malformed {
            return StatusCode::BAD_REQUEST;
        }
        let stateless = revision.is_none_or(Revision::is_stateless);
        match self.data.code {
            ErrorCode::METHOD_NOT_FOUND if stateless => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        }
    }

    /// As a message.
    pub fn message(&self, id: Option<&Value>) -> Value {
        let mut message = json!({"jsonrpc": "2.0", "error": self.data});
        if let (Some(id), Some(members)) = (id, message.as_object_mut()) {
            members.insert("id".to_owned(), id.clone());
        }
        message
    }
}
