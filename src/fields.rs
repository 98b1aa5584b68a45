//! The fields of `POST /prompt`, declared once: who acts on each follows from here.

/// One field of a request's body.
struct Field {
    name: &'static str,
    /// It is answered again.
    echoed: bool,
    /// A server that runs the graph for this one acts on it, too.
    passed_on: bool,
    /// A job of the Comfy API v2 may have it among its `prompt_options`.
    option: bool,
}

const fn field(name: &'static str) -> Field {
    Field {
        name,
        echoed: false,
        passed_on: false,
        option: false,
    }
}

impl Field {
    const fn echoed(self) -> Self {
        Self {
            echoed: true,
            ..self
        }
    }

    const fn passed_on(self) -> Self {
        Self {
            passed_on: true,
            ..self
        }
    }

    const fn option(self) -> Self {
        Self {
            option: true,
            ..self
        }
    }
}

/// In the order in which they are documented and answered.
const FIELDS: &[Field] = &[
    field("id"),
    field("prompt"),
    field("workflow"),
    field("input").echoed(),
    field("webhook").echoed(),
    field("webhook_v2").echoed().option(),
    field("convert_output").echoed().passed_on().option(),
    field("compress_outputs").echoed().passed_on().option(),
    field("signed_url").echoed().passed_on().option(),
    field("s3").echoed().passed_on().option(),
    field("azure_blob_upload").echoed().passed_on().option(),
    field("hf_upload").echoed().passed_on().option(),
    field("http_upload").echoed().passed_on().option(),
    field("extra_data"),
    field("credentials").option(),
    field("partial_execution_targets").echoed().passed_on(),
    field("front").echoed().passed_on(),
    field("number").echoed().passed_on(),
    field("queue").echoed().option(),
    field("priority").echoed().option(),
    field("keep").echoed(),
    field("async").echoed(),
];

fn those(which: impl Fn(&Field) -> bool) -> impl Iterator<Item = &'static str> {
    let fields = FIELDS.iter().filter(move |field| which(field));
    fields.map(|field| field.name)
}

/// Whether a request has a field of this name.
pub fn is_known(name: &str) -> bool {
    FIELDS.iter().any(|field| field.name == name)
}

/// Those that are answered again.
pub fn echoed() -> impl Iterator<Item = &'static str> {
    those(|field| field.echoed)
}

/// Those that a server acts on which runs the graph for this one.
pub fn passed_on() -> impl Iterator<Item = &'static str> {
    those(|field| field.passed_on)
}

/// Those that a job of the Comfy API v2 may have among its `prompt_options`.
pub fn is_option(name: &str) -> bool {
    options().any(|option| option == name)
}

/// See [`is_option`].
pub fn options() -> impl Iterator<Item = &'static str> {
    those(|field| field.option)
}
