//! What is made of the outputs: another format, an archive.

use serde_json::{Map, Value};

use super::read::wrong_type;
use crate::error::Failure;
use crate::media::{ArchiveFormat, Conversion};

pub(super) fn conversion(body: &Map<String, Value>) -> Result<Option<Conversion>, Failure> {
    let Some(value) = body.get("convert_output") else {
        return Ok(None);
    };
    let object = value.as_object().ok_or_else(|| {
        wrong_type(
            "convert_output",
            "an object with \"format\" and perhaps \"options\"",
        )
    })?;
    let format = object
        .get("format")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            wrong_type(
                "convert_output.format",
                "a string such as \"jpeg\" or \"webp\"",
            )
        })?;
    let options = object.get("options").filter(|options| !options.is_null());
    Conversion::parse(format, options).map(Some)
}

pub(super) fn archive(body: &Map<String, Value>) -> Result<Option<ArchiveFormat>, Failure> {
    match body.get("compress_outputs") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(ArchiveFormat::Zip)),
        Some(Value::String(name)) => match name.as_str() {
            "zip" => Ok(Some(ArchiveFormat::Zip)),
            "tar" => Ok(Some(ArchiveFormat::Tar)),
            "tar.gz" => Ok(Some(ArchiveFormat::TarGz)),
            _ => Err(Failure::invalid(
                "compress_outputs",
                format!(
                    "\"{name}\" is not an archive format: use true, \"zip\", \"tar\" or \"tar.gz\""
                ),
            )),
        },
        Some(_) => Err(wrong_type(
            "compress_outputs",
            "true, false, \"zip\", \"tar\" or \"tar.gz\"",
        )),
    }
}
