//! The options of image formats, with sharp's names, ranges and defaults.

use super::reader::OptionReader;
use crate::error::Failure;

/// How finely a JPEG keeps colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subsampling {
    /// Colour at half the resolution in both directions.
    Half,
    /// Colour at full resolution.
    Full,
}

/// How a JPEG is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JpegOptions {
    /// 1 to 100.
    pub quality: i32,
    /// Several scans of growing detail.
    pub progressive: bool,
    /// `chromaSubsampling`.
    pub subsampling: Subsampling,
    /// Huffman tables made for this picture.
    pub optimise_coding: bool,
    /// mozjpeg's trellis quantisation.
    pub trellis_quantisation: bool,
    /// mozjpeg's treatment of black text on white.
    pub overshoot_deringing: bool,
    /// mozjpeg's search for the best split into scans.
    pub optimise_scans: bool,
    /// Which of mozjpeg's quantisation tables, 0 to 8.
    pub quantisation_table: i32,
}

impl Default for JpegOptions {
    fn default() -> Self {
        Self {
            quality: 80,
            progressive: false,
            subsampling: Subsampling::Half,
            optimise_coding: true,
            trellis_quantisation: false,
            overshoot_deringing: false,
            optimise_scans: false,
            quantisation_table: 0,
        }
    }
}

impl JpegOptions {
    /// sharp's order: `mozjpeg` sets a group of options, which single ones then override.
    pub(super) fn read(reader: &mut OptionReader<'_>) -> Result<Self, Failure> {
        let mut options = Self::default();
        let subsamplings = [("4:2:0", Subsampling::Half), ("4:4:4", Subsampling::Full)];
        options.quality = reader
            .quality("quality", 1, 100)?
            .unwrap_or(options.quality);
        options.progressive = reader
            .boolean(&["progressive"])?
            .unwrap_or(options.progressive);
        options.subsampling = reader
            .choice(&["chromaSubsampling"], &subsamplings)?
            .unwrap_or(options.subsampling);
        options.optimise_coding = reader
            .boolean(&["optimizeCoding", "optimiseCoding"])?
            .unwrap_or(options.optimise_coding);
        if reader.boolean(&["mozjpeg"])?.unwrap_or(false) {
            options.trellis_quantisation = true;
            options.overshoot_deringing = true;
            options.optimise_scans = true;
            options.progressive = true;
            options.quantisation_table = 3;
        }
        let trellis = reader.boolean(&["trellisQuantisation", "trellisQuantization"])?;
        options.trellis_quantisation = trellis.unwrap_or(options.trellis_quantisation);
        options.overshoot_deringing = reader
            .boolean(&["overshootDeringing"])?
            .unwrap_or(options.overshoot_deringing);
        let scans = reader.boolean(&["optimizeScans", "optimiseScans"])?;
        options.optimise_scans = scans.unwrap_or(options.optimise_scans);
        options.progressive |= scans == Some(true);
        let table = reader.integer(&["quantisationTable", "quantizationTable"], 0, 8)?;
        options.quantisation_table = table.unwrap_or(options.quantisation_table);
        Ok(options)
    }
}

/// What libwebp should expect the picture to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebpPreset {
    Default,
    Picture,
    Photo,
    Drawing,
    Icon,
    Text,
}

/// How a WEBP is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebpOptions {
    /// 1 to 100; for lossless how hard to try.
    pub quality: i32,
    /// 0 to 100 for the alpha plane.
    pub alpha_quality: i32,
    /// Every pixel kept.
    pub lossless: bool,
    /// Lossless after a slight adjustment of pixels, as strong as quality is low.
    pub near_lossless: bool,
    /// Sharper colour edges, slower.
    pub smart_subsample: bool,
    /// The kind of picture.
    pub preset: WebpPreset,
    /// 0 (fast) to 6 (small).
    pub effort: i32,
}

impl Default for WebpOptions {
    fn default() -> Self {
        Self {
            quality: 80,
            alpha_quality: 100,
            lossless: false,
            near_lossless: false,
            smart_subsample: false,
            preset: WebpPreset::Default,
            effort: 4,
        }
    }
}

impl WebpOptions {
    pub(super) fn read(reader: &mut OptionReader<'_>) -> Result<Self, Failure> {
        let default = Self::default();
        let presets = [
            ("default", WebpPreset::Default),
            ("photo", WebpPreset::Photo),
            ("picture", WebpPreset::Picture),
            ("drawing", WebpPreset::Drawing),
            ("icon", WebpPreset::Icon),
            ("text", WebpPreset::Text),
        ];
        Ok(Self {
            quality: reader
                .quality("quality", 1, 100)?
                .unwrap_or(default.quality),
            alpha_quality: reader
                .quality("alphaQuality", 0, 100)?
                .unwrap_or(default.alpha_quality),
            lossless: reader.boolean(&["lossless"])?.unwrap_or(default.lossless),
            near_lossless: reader
                .boolean(&["nearLossless"])?
                .unwrap_or(default.near_lossless),
            smart_subsample: reader
                .boolean(&["smartSubsample"])?
                .unwrap_or(default.smart_subsample),
            preset: reader
                .choice(&["preset"], &presets)?
                .unwrap_or(default.preset),
            effort: reader.integer(&["effort"], 0, 6)?.unwrap_or(default.effort),
        })
    }
}

/// How a PNG is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PngOptions {
    /// 0 (none) to 9 (slowest); sharp's name and default.
    pub compression_level: u8,
}

impl PngOptions {
    pub(super) fn read(reader: &mut OptionReader<'_>) -> Result<Self, Failure> {
        let level = reader.integer(&["compressionLevel"], 0, 9)?;
        Ok(Self {
            compression_level: level
                .and_then(|level| u8::try_from(level).ok())
                .unwrap_or(6),
        })
    }
}
