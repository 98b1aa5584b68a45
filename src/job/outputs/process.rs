//! Conversion and packing of the collected files.

use std::collections::HashSet;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{FileCleanup, OutputFile};
use crate::error::{Code, Failure};
use crate::file_threads;
use crate::media::{ArchiveFormat, Conversion, Converted, Media, SourceFile};

/// What there is to deliver.
#[derive(Debug, Default)]
pub struct Finished {
    /// In order.
    pub files: Vec<OutputFile>,
    /// What went wrong without failing the request.
    pub warnings: Vec<String>,
}

/// What is to be done with the files.
pub struct DeliveryOptions<'a> {
    /// `convert_output`
    pub conversion: Option<&'a Conversion>,
    /// `compress_outputs`
    pub archive: Option<ArchiveFormat>,
    /// Names the archive.
    pub id: &'a str,
}

/// Converts and packs. Everything that is written is added to `cleanup`. Must be awaited to its
/// end, which comes soon after `cancel`; the result means nothing then.
///
/// # Errors
/// When the archive cannot be written, or a file has vanished.
pub async fn finish(
    media: &Media,
    reported: Vec<OutputFile>,
    options: &DeliveryOptions<'_>,
    cleanup: &FileCleanup,
    cancel: &CancellationToken,
) -> Result<Finished, Failure> {
    let mut warnings = Vec::new();
    let mut files = match options.conversion {
        Some(conversion) => {
            describe(convert(media, reported, conversion, cleanup, cancel, &mut warnings).await)
                .await?
        }
        None => reported,
    };
    make_names_differ(&mut files);
    if let Some(format) = options.archive
        && !files.is_empty()
        && !cancel.is_cancelled()
    {
        let filename = format!("{}_outputs.{}", options.id, format.extension());
        let path = cleanup.place(Some(format.extension())).map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("cannot build the archive {filename}: {error}"),
            )
            .transient()
        })?;
        let members = files
            .iter()
            .map(|file| (file.path.clone(), file.filename.clone()))
            .collect();
        let packed = tokio::select! {
            packed = media.pack(members, path.clone(), format, cancel) => packed,
            () = cancel.cancelled() => return Ok(Finished::default()),
        };
        packed.map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("cannot build the archive {filename}: {error}"),
            )
            .transient()
        })?;
        files = describe(vec![OutputFile {
            node_id: None,
            output: "archive".to_owned(),
            filename,
            content_type: String::new(),
            size: 0,
            path,
            written_to: PathBuf::new(),
            content: None,
        }])
        .await?;
    }
    Ok(Finished { files, warnings })
}

async fn convert(
    media: &Media,
    reported: Vec<OutputFile>,
    conversion: &Conversion,
    cleanup: &FileCleanup,
    cancel: &CancellationToken,
    warnings: &mut Vec<String>,
) -> Vec<OutputFile> {
    // The files of one node belong together: several images become one video. Nodes are independent
    // of each other.
    let groups: Vec<&[OutputFile]> = reported.chunk_by(|a, b| a.node_id == b.node_id).collect();
    let conversions = groups.iter().map(|group| async move {
        let sources: Vec<SourceFile> = group
            .iter()
            .map(|file| SourceFile {
                path: file.path.clone(),
                filename: file.filename.clone(),
            })
            .collect();
        media.convert(conversion, &sources, cancel).await
    });
    let mut all = Vec::new();
    for (group, converted) in groups
        .iter()
        .zip(futures_util::future::join_all(conversions).await)
    {
        for outcome in converted {
            match outcome {
                Converted::Unchanged(index) => all.extend(group.get(index).cloned()),
                Converted::Failed(index, reason) => {
                    warnings.push(reason);
                    all.extend(group.get(index).cloned());
                }
                Converted::File {
                    sources,
                    path,
                    filename,
                } => {
                    cleanup.add(path.clone());
                    if let Some(first) = sources.first().and_then(|index| group.get(*index)) {
                        all.push(OutputFile {
                            filename,
                            path,
                            written_to: PathBuf::new(),
                            content: None,
                            ..first.clone()
                        });
                    }
                }
            }
        }
    }
    all
}

/// Looks at sizes and first bytes again; all files in one go, because each change to a blocking
/// thread costs more than the look.
async fn describe(mut files: Vec<OutputFile>) -> Result<Vec<OutputFile>, Failure> {
    let looking = file_threads::spawn(move || {
        for file in &mut files {
            if let Err(error) = file.look(&mut 0) {
                return Err(Failure::new(
                    Code::Internal,
                    format!("cannot read the output file \"{}\": {error}", file.filename),
                )
                .transient());
            }
        }
        Ok(files)
    });
    looking.await.unwrap_or_else(|error| {
        Err(Failure::new(
            Code::Internal,
            format!("cannot read the output files: {error}"),
        )
        .transient())
    })
}

/// Two nodes may save files of one name in different folders; at the client and in a bucket they
/// must not collide.
fn make_names_differ(files: &mut [OutputFile]) {
    let mut taken = HashSet::new();
    for file in files {
        if taken.insert(file.filename.clone()) {
            continue;
        }
        let (stem, extension) = file.filename.rsplit_once('.').map_or(
            (file.filename.as_str(), String::new()),
            |(stem, extension)| (stem, format!(".{extension}")),
        );
        let free = (2_u64..)
            .map(|number| format!("{stem}_{number}{extension}"))
            .find(|name| !taken.contains(name));
        if let Some(name) = free {
            taken.insert(name.clone());
            file.filename = name;
        }
    }
}
