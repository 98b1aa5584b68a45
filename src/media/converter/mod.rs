//! Decides what becomes of each file of a node, and does it.

mod cost;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use cost::{Cost, cost, group};
use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::archive::ArchiveFormat;
use super::ffmpeg::{Ffmpeg, arguments};
use super::image::Embedded;
use super::options::{Conversion, Target, VideoOptions};
use super::pending::PendingFile;
use super::recognise::Kind;
use super::stop::Stop;
use super::{archive, ffmpeg, image, recognise};
use crate::config::MediaConfig;
use crate::error::{Failure, panicked};

/// Frames on their way to ffmpeg.
const FRAMES_AHEAD: usize = 2;

/// A file to convert.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name towards the client.
    pub filename: String,
}

/// What became of the files of one node, in order.
#[derive(Debug, Clone)]
pub enum Converted {
    /// `sources[index]` is of a kind that this conversion does not touch.
    Unchanged(usize),
    /// A new file beside its first source.
    File {
        /// Which sources went into it; several images become one video.
        sources: Vec<usize>,
        /// Where it is.
        path: PathBuf,
        /// Its name towards the client.
        filename: String,
    },
    /// Converting `sources[index]` failed; the original is to be delivered, with this sentence as a
    /// warning.
    Failed(usize, String),
}

/// The converter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Media {
    pub(super) ffmpeg: Ffmpeg,
    pub(super) cores: Arc<Semaphore>,
    /// Apart from `cores`, so that a long video does not keep the pictures of other prompts
    /// waiting.
    pub(super) videos: Arc<Semaphore>,
    /// The same for animations of thousands of frames.
    animations: Arc<Semaphore>,
    /// Of all conversions together, in MiB.
    pub(super) memory: Arc<Semaphore>,
    /// `FFMPEG_TIMEOUT_S`, for pictures too.
    limit: Duration,
}

/// MiB that all conversions may hold at one time (attack.md, A13).
const MEMORY: u32 = 2048;

/// What is to be done with some of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// It passes unchanged.
    Nothing,
    /// One image into one image.
    Image,
    /// Stills into one video.
    Stills,
    /// One animation into one video.
    Animation,
    /// One file by ffmpeg alone.
    File,
    /// A picture of a kind that cannot be read here.
    Unreadable(&'static str),
}

impl Media {
    /// A converter that allows one image codec, and one ffmpeg, per core at a time.
    pub fn new(config: &MediaConfig) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            ffmpeg: Ffmpeg::new(config),
            cores: Arc::new(Semaphore::new(cores)),
            videos: Arc::new(Semaphore::new(cores)),
            animations: Arc::new(Semaphore::new(cores)),
            memory: Arc::new(Semaphore::new(MEMORY as usize)),
            limit: config.ffmpeg_timeout,
        }
    }

    /// Whether this conversion can be done here (ffmpeg, or the encoder in it, may be missing).
    ///
    /// # Errors
    /// A 400 that says what is missing.
    pub async fn check(&self, conversion: &Conversion) -> Result<(), Failure> {
        if conversion.needs_ffmpeg() {
            self.ffmpeg.check(conversion).await
        } else {
            Ok(())
        }
    }

    /// Converts the files of one node. Every source occurs in exactly one entry of the answer.
    /// Sources stay.
    ///
    /// When the returned future is dropped, ffmpeg is killed and unfinished files are removed.
    pub async fn convert(
        &self,
        conversion: &Conversion,
        sources: &[SourceFile],
        cancel: &CancellationToken,
    ) -> Vec<Converted> {
        let kinds = join_all(sources.iter().map(|source| work_for(conversion, source))).await;
        let jobs = group(&kinds);
        let done = join_all(jobs.into_iter().map(|(work, members)| async move {
            let result = match members.first().and_then(|first| sources.get(*first)) {
                _ if work == Work::Nothing => {
                    return members.into_iter().map(Converted::Unchanged).collect();
                }
                Some(_) if let Work::Unreadable(kind) = work => {
                    Err(format!("pictures of the kind {kind} cannot be read here"))
                }
                None => return Vec::new(),
                Some(first) => {
                    let paths = members
                        .iter()
                        .filter_map(|index| sources.get(*index))
                        .map(|source| source.path.clone())
                        .collect();
                    let done = self.run(work, conversion, paths, cancel).await;
                    done.map(|path| Converted::File {
                        sources: members.clone(),
                        path,
                        filename: renamed(&first.filename, &conversion.format),
                    })
                }
            };
            match result {
                Ok(file) => vec![file],
                Err(reason) => members
                    .into_iter()
                    .map(|index| {
                        let name = sources
                            .get(index)
                            .map_or("", |source| source.filename.as_str());
                        Converted::Failed(
                            index,
                            format!(
                                "{name} could not be converted to {} and is delivered as it is: \
                                 {reason}.",
                                conversion.format
                            ),
                        )
                    })
                    .collect(),
            }
        }))
        .await;
        done.into_iter().flatten().collect()
    }

    /// Packs files under the given names, like [`archive::pack`], when a core is free for it.
    ///
    /// # Errors
    /// When a file cannot be read or the archive not be written; nothing is left behind then.
    pub async fn pack(
        &self,
        files: Vec<(PathBuf, String)>,
        destination: PathBuf,
        format: ArchiveFormat,
        cancel: &CancellationToken,
    ) -> io::Result<()> {
        let _turn = self.cores.acquire().await.map_err(io::Error::other)?;
        let stop = Stop::when_cancelled(cancel);
        archive::pack_until(files, destination, format, Some(stop)).await
    }

    async fn run(
        &self,
        work: Work,
        conversion: &Conversion,
        paths: Vec<PathBuf>,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, String> {
        let cancelled = || "it was cancelled".to_owned();
        let Cost { mib, animated } = cost(work, &conversion.target, &paths).await?;
        let turns = match (conversion.needs_ffmpeg(), animated) {
            (true, _) => &self.videos,
            (false, true) => &self.animations,
            (false, false) => &self.cores,
        };
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled()),
            permits = async {
                let turn = Arc::clone(turns).acquire_owned().await;
                (turn, Arc::clone(&self.memory).acquire_many_owned(mib).await)
            } => match permits {
                (Ok(turn), Ok(memory)) => (turn, memory),
                _ => return Err(cancelled()),
            },
        };
        let stop = Stop::new(cancel, self.limit);
        let Some(first) = paths.first().cloned() else {
            return Err("there is no file".to_owned());
        };
        let pending = PendingFile::beside(&first, &conversion.format);
        let pending = match &conversion.target {
            Target::Video(options) if work != Work::File => {
                let keep_metadata = conversion.keep_metadata;
                self.video_from_frames(options, keep_metadata, paths, pending, (cancel, stop))
                    .await?
            }
            Target::Video(options) => {
                let arguments = arguments::video(
                    &arguments::Input::File(&first),
                    options,
                    conversion.keep_metadata,
                    pending.path(),
                );
                ffmpeg::run(&self.ffmpeg, arguments, None, folder(&first), cancel).await?;
                pending
            }
            Target::Audio(options) => {
                let arguments =
                    arguments::audio(&first, options, conversion.keep_metadata, pending.path());
                ffmpeg::run(&self.ffmpeg, arguments, None, folder(&first), cancel).await?;
                pending
            }
            target @ (Target::Jpeg(_) | Target::Webp(_) | Target::Png(_)) => {
                let (target, keep_metadata) = (target.clone(), conversion.keep_metadata);
                // Permit and file go with the work: what is stopped takes a moment to let go of its
                // core and its memory.
                let task = blocking(move || {
                    let _permit = permit;
                    let work = || image::convert(&first, pending.path(), &target, keep_metadata);
                    stop.over(work).map(|()| pending)
                });
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(cancelled()),
                    done = task => done?,
                }
            }
        };
        Ok(pending.keep())
    }

    async fn video_from_frames(
        &self,
        options: &VideoOptions,
        keep_metadata: bool,
        paths: Vec<PathBuf>,
        pending: PendingFile,
        (cancel, stop): (&CancellationToken, Stop),
    ) -> Result<PendingFile, String> {
        let first = paths.first().cloned().unwrap_or_default();
        let wanted = options.clone();
        let planning = stop.clone();
        let prepare = blocking(move || {
            planning.over(|| {
                let first = paths.first().cloned().unwrap_or_default();
                let embedded = if keep_metadata {
                    image::read_metadata(&first)?
                } else {
                    Embedded::default()
                };
                let texts =
                    (!embedded.entries().is_empty()).then(|| PendingFile::beside(&first, "txt"));
                if let Some(texts) = &texts {
                    std::fs::write(texts.path(), ffmetadata(&embedded))
                        .map_err(|e| format!("the metadata could not be written ({e})"))?;
                }
                Ok((ffmpeg::plan(paths, &wanted)?, texts))
            })
        });
        let (plan, texts) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err("it was cancelled".to_owned()),
            prepared = prepare => prepared?,
        };
        let input = arguments::Input::Frames {
            size: plan.size,
            fps: plan.fps,
            alpha: plan.alpha,
            texts: texts.as_ref().map(PendingFile::path),
        };
        let arguments = arguments::video(&input, options, keep_metadata, pending.path());
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        // Ends by itself when ffmpeg is gone, because then nobody receives.
        tokio::task::spawn_blocking(move || stop.over(|| ffmpeg::feed(&plan, &sender)));
        ffmpeg::run(
            &self.ffmpeg,
            arguments,
            Some(receiver),
            folder(&first),
            cancel,
        )
        .await?;
        Ok(pending)
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| panicked("a conversion").message)?
}

/// What this conversion does with a file. One that cannot be read passes; whoever delivers it will
/// say why.
async fn work_for(conversion: &Conversion, source: &SourceFile) -> Work {
    let (path, name) = (source.path.clone(), source.filename.clone());
    let target = conversion.target.clone();
    let video = matches!(conversion.target, Target::Video(_));
    let looked = tokio::task::spawn_blocking(move || {
        let head = recognise::head(&path).ok()?;
        let kind = recognise::kind(&head);
        let small = || image::header(&path).is_ok_and(|header| header.affordable(&target).is_ok());
        let animated = video && kind == Kind::Image && small() && image::is_animated(&path);
        Some((kind, animated, recognise::unreadable_picture(&name, &head)))
    });
    let (kind, animated, unreadable) =
        looked
            .await
            .ok()
            .flatten()
            .unwrap_or((Kind::Other, false, None));
    match (&conversion.target, kind) {
        (Target::Jpeg(_) | Target::Webp(_) | Target::Png(_), Kind::Image) => Work::Image,
        // An animation has its own tempo, so it becomes a video of its own.
        (Target::Video(_), Kind::Image) if animated => Work::Animation,
        (Target::Video(_), Kind::Image) => Work::Stills,
        (Target::Video(_), Kind::Video) => Work::File,
        (Target::Audio(_), Kind::Video | Kind::Audio) => Work::File,
        (Target::Audio(_), _) => Work::Nothing,
        _ => unreadable.map_or(Work::Nothing, Work::Unreadable),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The name with another extension.
fn renamed(filename: &str, extension: &str) -> String {
    let start = filename.rfind('/').map_or(0, |at| at + 1);
    let end = filename
        .rfind('.')
        .filter(|at| *at > start)
        .unwrap_or(filename.len());
    format!("{}.{extension}", filename.get(..end).unwrap_or(filename))
}

/// ffmpeg's own text format for metadata.
fn ffmetadata(embedded: &Embedded) -> String {
    let mut text = String::from(";FFMETADATA1\n");
    for (key, value) in embedded.entries() {
        text.push_str(key);
        text.push('=');
        for character in value.chars() {
            if matches!(character, '=' | ';' | '#' | '\\' | '\n') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('\n');
    }
    text
}
