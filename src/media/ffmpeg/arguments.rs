//! Options into ffmpeg's arguments. Never a shell string; files always as `file:...`, so that no
//! name is taken for an option or another protocol, and inputs may not refer to anything but files.

use std::ffi::OsString;
use std::path::Path;

use crate::media::options::{AudioOptions, Speed, VideoCodec, VideoOptions};

/// What ffmpeg reads.
pub(in crate::media) enum Input<'a> {
    /// A video or sound file.
    File(&'a Path),
    /// Raw frames on standard input.
    Frames {
        /// In pixels.
        size: (u32, u32),
        /// Frames per second.
        fps: f64,
        /// Four bytes per pixel instead of three.
        alpha: bool,
        /// Texts for the new file, in ffmpeg's own format for metadata.
        texts: Option<&'a Path>,
    },
}

/// The arguments so far.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn new() -> Self {
        let mut arguments = Self(Vec::new());
        arguments.words(["-hide_banner", "-nostdin", "-y", "-loglevel", "error"]);
        arguments
    }

    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.0.extend(words.into_iter().map(OsString::from));
        self
    }

    fn pair(&mut self, name: &str, value: &str) -> &mut Self {
        self.words([name, value])
    }

    fn file(&mut self, path: &Path) -> &mut Self {
        let mut argument = OsString::from("file:");
        argument.push(path);
        self.0.push(argument);
        self
    }

    fn input(&mut self, input: &Input<'_>) {
        match input {
            Input::File(path) => {
                self.pair("-protocol_whitelist", "file")
                    .words(["-i"])
                    .file(path);
            }
            Input::Frames {
                size,
                fps,
                alpha,
                texts,
            } => {
                self.pair("-f", "rawvideo")
                    .pair("-pix_fmt", if *alpha { "rgba" } else { "rgb24" });
                self.pair("-s", &format!("{}x{}", size.0, size.1))
                    .pair("-r", &rate(*fps))
                    .pair("-i", "pipe:0");
                if let Some(texts) = texts {
                    self.pair("-f", "ffmetadata").words(["-i"]).file(texts);
                }
            }
        }
    }

    /// Which texts the new file gets.
    fn metadata(&mut self, input: &Input<'_>, keep: bool) {
        let from = match input {
            _ if !keep => "-1",
            Input::File(_) => "0",
            Input::Frames { texts: Some(_), .. } => "1",
            Input::Frames { texts: None, .. } => "-1",
        };
        self.pair("-map_metadata", from);
    }
}

/// The arguments that make a video or an animated GIF.
pub(in crate::media) fn video(
    input: &Input<'_>,
    options: &VideoOptions,
    keep_metadata: bool,
    destination: &Path,
) -> Vec<OsString> {
    let mut arguments = Arguments::new();
    arguments.input(input);
    arguments.pair("-map", "0:v:0").words(["-sn", "-dn"]);
    arguments.metadata(input, keep_metadata);
    arguments.pair("-vf", &filters(input, options));
    if options.codec == VideoCodec::Gif {
        arguments.words(["-an"]).pair("-loop", "0");
    } else {
        if let Input::File(_) = input {
            let (codec, bitrate) = if options.container == "mp4" {
                ("aac", "192k")
            } else {
                ("libopus", "128k")
            };
            arguments
                .pair("-map", "0:a:0?")
                .pair("-c:a", codec)
                .pair("-b:a", bitrate);
        } else {
            arguments
                .pair("-colorspace", "bt709")
                .pair("-color_primaries", "bt709")
                .pair("-color_trc", "bt709");
        }
        arguments.pair("-pix_fmt", "yuv420p");
    }
    arguments.pair("-c:v", options.codec.encoder());
    codec(&mut arguments, options);
    if options.container == "mp4" {
        arguments.pair(
            "-movflags",
            if keep_metadata {
                "+faststart+use_metadata_tags"
            } else {
                "+faststart"
            },
        );
    }
    arguments.pair("-f", options.container).file(destination);
    arguments.0
}

fn filters(input: &Input<'_>, options: &VideoOptions) -> String {
    let mut filters = Vec::new();
    if let (Input::File(_), Some(fps)) = (input, options.fps) {
        filters.push(format!("fps={}", rate(fps)));
    }
    if options.codec == VideoCodec::Gif {
        // A palette for each frame needs only one frame in memory; one for all would need all of
        // them.
        filters.push(
            "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1".to_owned(),
        );
    } else {
        // Halved colour needs even sides: an odd one grows by a pixel. RGB frames get the matrix
        // that they are labelled with.
        let matrix = if matches!(input, Input::Frames { .. }) {
            ":out_color_matrix=bt709:out_range=tv"
        } else {
            ""
        };
        filters.push(format!("scale=ceil(iw/2)*2:ceil(ih/2)*2{matrix}"));
    }
    filters.join(",")
}

fn codec(arguments: &mut Arguments, options: &VideoOptions) {
    match options.codec {
        VideoCodec::X264 | VideoCodec::X265 => x26x(arguments, options),
        VideoCodec::Vp8 | VideoCodec::Vp9 | VideoCodec::Aom => vpx(arguments, options),
        VideoCodec::Svt => svt(arguments, options),
        VideoCodec::Mpeg4 => match options.bitrate.as_ref() {
            Some(bitrate) => {
                arguments.pair("-b:v", &bitrate.text);
            }
            None => {
                arguments.pair("-q:v", "4");
            }
        },
        VideoCodec::Gif => {}
    }
}

fn x26x(arguments: &mut Arguments, options: &VideoOptions) {
    let crf = options.crf.map(|crf| crf.to_string());
    let bitrate = options.bitrate.as_ref();
    if options.codec == VideoCodec::X265 {
        // Apple's players want this tag; the encoder talks about itself otherwise.
        arguments
            .pair("-tag:v", "hvc1")
            .pair("-x265-params", "log-level=error");
    }
    if let Some(Speed::Named(name, _)) = options.speed {
        arguments.pair("-preset", name);
    }
    match (&crf, bitrate) {
        (Some(crf), Some(most)) => {
            arguments
                .pair("-crf", crf)
                .pair("-maxrate", &most.text)
                .pair("-bufsize", &(most.bits * 2).to_string());
        }
        (Some(crf), None) => {
            arguments.pair("-crf", crf);
        }
        (None, Some(bitrate)) => {
            arguments.pair("-b:v", &bitrate.text);
        }
        (None, None) => {}
    }
}

/// The codecs of libvpx, and libaom, which takes the same options.
fn vpx(arguments: &mut Arguments, options: &VideoOptions) {
    let crf = options.crf.map(|crf| crf.to_string());
    let bitrate = options.bitrate.as_ref();
    let (deadline, cpu_used) = match options.speed {
        Some(Speed::Named(_, cpu_used) | Speed::Number(cpu_used)) => ("good", cpu_used),
        Some(Speed::Deadline(word)) => (word, if word == "best" { 0 } else { 4 }),
        None => (
            "good",
            if options.codec == VideoCodec::Aom {
                6
            } else {
                4
            },
        ),
    };
    if options.codec != VideoCodec::Aom {
        arguments.pair("-deadline", deadline);
    }
    arguments.pair("-cpu-used", &cpu_used.to_string());
    if options.codec != VideoCodec::Vp8 {
        arguments.pair("-row-mt", "1");
    }
    if crf.is_some() || bitrate.is_none() {
        arguments.pair(
            "-crf",
            crf.as_deref()
                .unwrap_or(if options.codec == VideoCodec::Vp8 {
                    "10"
                } else {
                    "32"
                }),
        );
    }
    // Zero lets quality alone decide, except for VP8, which needs a ceiling.
    let ceiling = if options.codec == VideoCodec::Vp8 {
        "8000000"
    } else {
        "0"
    };
    arguments.pair("-b:v", bitrate.map_or(ceiling, |bitrate| &bitrate.text));
}

fn svt(arguments: &mut Arguments, options: &VideoOptions) {
    let crf = options.crf.map(|crf| crf.to_string());
    let bitrate = options.bitrate.as_ref();
    let preset = match options.speed {
        Some(Speed::Number(preset)) => preset,
        Some(Speed::Named(_, cpu_used)) => cpu_used + 4,
        Some(Speed::Deadline(_)) | None => 8,
    };
    arguments.pair("-preset", &preset.to_string());
    match (&crf, bitrate) {
        (None, Some(bitrate)) => {
            arguments.pair("-b:v", &bitrate.text);
        }
        _ => {
            arguments.pair("-crf", crf.as_deref().unwrap_or("35"));
        }
    }
}

/// The arguments that make a PNG of a video's first frame, whose longer side is at most so long
/// (pixels).
pub(in crate::media) fn first_frame(
    source: &Path,
    longest: u32,
    destination: &Path,
) -> Vec<OsString> {
    let mut arguments = Arguments::new();
    let input = Input::File(source);
    arguments.input(&input);
    arguments
        .pair("-map", "0:v:0")
        .words(["-an", "-sn", "-dn"])
        .pair("-frames:v", "1");
    arguments.metadata(&input, false);
    let scale = format!(
        "scale=w='min({longest},iw)':h='min({longest},ih)':force_original_aspect_ratio=decrease"
    );
    arguments
        .pair("-vf", &scale)
        .pair("-c:v", "png")
        .pair("-f", "image2")
        .pair("-update", "1")
        .file(destination);
    arguments.0
}

/// The arguments that make a sound file of a sound file or of a video's sound.
pub(in crate::media) fn audio(
    source: &Path,
    options: &AudioOptions,
    keep_metadata: bool,
    destination: &Path,
) -> Vec<OsString> {
    let mut arguments = Arguments::new();
    let input = Input::File(source);
    arguments.input(&input);
    arguments.pair("-map", "0:a:0").words(["-vn", "-sn", "-dn"]);
    arguments.metadata(&input, keep_metadata);
    arguments.pair("-c:a", options.codec);
    match (&options.bitrate, options.codec) {
        (_, codec) if codec.starts_with("pcm") || codec == "flac" => {}
        (Some(bitrate), _) => {
            arguments.pair("-b:a", &bitrate.text);
        }
        (None, "libvorbis") => {
            arguments.pair("-q:a", "5");
        }
        (None, "libopus") => {
            arguments.pair("-b:a", "128k");
        }
        (None, _) => {
            arguments.pair("-b:a", "192k");
        }
    }
    if let Some(frequency) = options.frequency {
        arguments.pair("-ar", &frequency.to_string());
    }
    arguments.pair("-f", options.container).file(destination);
    arguments.0
}

/// Frames per second as ffmpeg reads them.
fn rate(fps: f64) -> String {
    format!("{fps:.6}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}
