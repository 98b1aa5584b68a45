//! Small pictures of pictures, and of a video's first frame: for lists, galleries and models,
//! without anybody's metadata.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::PendingFile;
use super::converter::{Media, blocking};
use super::ffmpeg::{self, arguments};
use super::image::{self, Picture};
use super::options::{JpegOptions, Target, WebpOptions};
use super::recognise::{self, Kind};
use super::stop::Stop;

/// However large the picture and however slow the machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A picture below this tells nothing.
const SMALLEST: u32 = 32;

/// What a small picture shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThumbnailSpec {
    /// Pixels of its longer side, at most: nothing is enlarged.
    pub longest_side: u32,
    /// What a picture that can be seen through becomes; any other becomes a JPEG.
    pub transparent: Transparent,
    /// Bytes at most; what is larger is made smaller.
    pub max_bytes: Option<usize>,
}

/// The format of pictures that can be seen through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transparent {
    /// The smallest, for browsers.
    Webp,
    /// What everything can read.
    Png,
}

/// A small picture.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// A JPEG, WebP or PNG.
    pub bytes: Vec<u8>,
    /// `image/jpeg`, `image/webp` or `image/png`.
    pub content_type: &'static str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Media {
    /// A small picture of a file. `None` when it is no picture that can be read here, and no video,
    /// or when there is no ffmpeg for a video. Waits for its turn among the conversions.
    ///
    /// # Errors
    /// A sentence fragment that says why it cannot be made of this picture or video.
    pub async fn thumbnail(
        &self,
        path: &Path,
        spec: ThumbnailSpec,
    ) -> Result<Option<Thumbnail>, String> {
        self.thumbnail_within(PATIENCE, path, spec).await
    }

    async fn thumbnail_within(
        &self,
        patience: Duration,
        path: &Path,
        spec: ThumbnailSpec,
    ) -> Result<Option<Thumbnail>, String> {
        tokio::time::timeout(patience, self.made(path, spec))
            .await
            .unwrap_or_else(|_| Err(format!("it took longer than {} s", patience.as_secs_f64())))
    }

    /// Whether videos can be looked into.
    pub async fn reads_videos(&self) -> bool {
        self.ffmpeg.is_there().await
    }

    async fn made(&self, path: &Path, spec: ThumbnailSpec) -> Result<Option<Thumbnail>, String> {
        let looked_at = path.to_path_buf();
        let kind = blocking(move || {
            recognise::head(&looked_at)
                .map(|head| recognise::kind(&head))
                .map_err(|error| format!("the file could not be read ({error})"))
        });
        match kind.await? {
            Kind::Image => self.of_picture(path, spec).await.map(Some),
            Kind::Video if self.reads_videos().await => {
                let frame = self.first_frame(path, spec.longest_side).await?;
                self.of_picture(frame.path(), spec).await.map(Some)
            }
            Kind::Video | Kind::Audio | Kind::Other => Ok(None),
        }
    }

    async fn of_picture(&self, path: &Path, spec: ThumbnailSpec) -> Result<Thumbnail, String> {
        let source = path.to_path_buf();
        let cost = blocking(move || {
            let needed =
                image::header(&source)?.affordable(&Target::Jpeg(JpegOptions::default()))?;
            Ok(u32::try_from(needed >> 20).unwrap_or(u32::MAX) + 1)
        });
        let mib = cost.await?;
        let closed = |_| "the server is shutting down".to_owned();
        let turn = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let memory = Arc::clone(&self.memory).acquire_many_owned(mib).await;
        let memory = memory.map_err(closed)?;
        // Ends the work when nobody waits for it any more.
        let cancel = CancellationToken::new();
        let _leaving = cancel.clone().drop_guard();
        let (stop, source) = (Stop::new(&cancel, PATIENCE), path.to_path_buf());
        blocking(move || {
            let _held = (turn, memory);
            stop.over(|| render(&source, spec))
        })
        .await
    }

    /// A video's first frame, no larger than it must be.
    async fn first_frame(&self, path: &Path, longest: u32) -> Result<PendingFile, String> {
        let _turn = self
            .videos
            .acquire()
            .await
            .map_err(|_| "the server is shutting down".to_owned())?;
        let frame = PendingFile::beside(&std::env::temp_dir().join("frame"), "png");
        let arguments = arguments::first_frame(path, longest, frame.path());
        let folder = path.parent().unwrap_or(path);
        ffmpeg::run(
            &self.ffmpeg,
            arguments,
            None,
            folder,
            &CancellationToken::new(),
        )
        .await?;
        Ok(frame)
    }
}

fn render(source: &Path, spec: ThumbnailSpec) -> Result<Thumbnail, String> {
    let mut picture = image::picture(source)?.within(spec.longest_side);
    loop {
        let (width, height) = picture.size();
        let (bytes, content_type) = encode(&picture, spec.transparent)?;
        let Some(limit) = spec.max_bytes.filter(|limit| bytes.len() > *limit) else {
            return Ok(Thumbnail {
                bytes,
                content_type,
                width,
                height,
            });
        };
        let longest = smaller(width.max(height), limit, bytes.len());
        if longest < SMALLEST {
            return Err(format!("it does not fit into {limit} bytes"));
        }
        picture = picture.within(longest);
    }
}

/// The longer side with which so many bytes become the limit, more or less.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate between nothing and what there is"
)]
fn smaller(longest: u32, limit: usize, bytes: usize) -> u32 {
    let share = (limit as f64 / bytes as f64).sqrt() * 0.9;
    (f64::from(longest) * share) as u32
}

fn encode(picture: &Picture, transparent: Transparent) -> Result<(Vec<u8>, &'static str), String> {
    if picture.is_opaque() {
        let bytes = image::jpeg_bytes(picture, &JpegOptions::default())?;
        return Ok((bytes, "image/jpeg"));
    }
    match transparent {
        Transparent::Webp => Ok((
            image::webp_still(picture, &WebpOptions::default())?,
            "image/webp",
        )),
        Transparent::Png => Ok((image::png_bytes(picture)?, "image/png")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[tokio::test]
    async fn it_waits_among_the_conversions_but_not_for_ever() {
        let config = crate::config::Config::from_env(&BTreeMap::new()).unwrap();
        let media = Media::new(&config.media);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        ::image::RgbImage::new(64, 64).save(&path).unwrap();
        let spec = ThumbnailSpec {
            longest_side: 32,
            transparent: Transparent::Webp,
            max_bytes: None,
        };
        let (cores, memory) = (media.cores.clone(), media.memory.clone());
        for held in [cores, memory] {
            let all = u32::try_from(held.available_permits()).unwrap();
            let holding = held.acquire_many(all).await.unwrap();
            let short = Duration::from_millis(50);
            let late = media.thumbnail_within(short, &path, spec).await;
            assert_eq!(late.unwrap_err(), "it took longer than 0.05 s");
            drop(holding);
            let made = media.thumbnail(&path, spec).await.unwrap().unwrap();
            assert_eq!((made.width, made.height), (32, 32));
        }
        assert_eq!(PATIENCE, Duration::from_secs(30));
    }
}
