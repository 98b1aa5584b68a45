//! Pictures that are changed.

use super::pictures;
use crate::simulator::nodes::call::{Call, Produced, Raised};
use crate::simulator::picture::Picture;

pub(super) fn each(
    call: &Call<'_>,
    name: &str,
    change: impl Fn(&Picture) -> Picture,
) -> Result<Produced, Raised> {
    Ok(Produced::one(pictures(
        call.images(name)?.iter().map(change).collect(),
    )))
}

pub(super) fn scale(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (width, height) = (call.count("width", 0), call.count("height", 0));
    each(call, "image", |picture| {
        let side = |want: u32, other: u32, own: u32, own_other: u32| match (want, other) {
            (0, 0) => own,
            (0, other) => (own * other / own_other.max(1)).max(1),
            (want, _) => want,
        };
        picture.scaled(
            side(width, height, picture.width, picture.height),
            side(height, width, picture.height, picture.width),
        )
    })
}

pub(super) fn scale_by(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let by = call.float("scale_by", 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a factor of at most eight on a picture's side"
    )]
    let side = |own: u32| (f64::from(own) * by).round().max(1.0) as u32;
    each(call, "image", |picture| {
        picture.scaled(side(picture.width), side(picture.height))
    })
}

pub(super) fn invert(call: &mut Call<'_>) -> Result<Produced, Raised> {
    each(call, "image", Picture::inverted)
}

pub(super) fn batch(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (first, second) = (call.images("image1")?, call.images("image2")?);
    let (width, height) = first.first().map_or((1, 1), |p| (p.width, p.height));
    Ok(Produced::one(pictures(
        first
            .iter()
            .cloned()
            .chain(second.iter().map(|p| p.scaled(width, height)))
            .collect(),
    )))
}

pub(super) fn repeat(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("image")?;
    Ok(Produced::one(pictures(
        images
            .iter()
            .cycle()
            .take(images.len() * call.count("amount", 1) as usize)
            .cloned()
            .collect(),
    )))
}

pub(super) fn extent(images: &[Picture]) -> (u32, u32) {
    images
        .first()
        .map_or((0, 0), |picture| (picture.width, picture.height))
}
