//! Pictures that come in.

use std::sync::Arc;

use super::pictures;
use crate::simulator::nodes::call::{Call, Produced, Raised};
use crate::simulator::picture::Picture;

pub(super) fn empty(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let colour = u32::try_from(call.whole("color")).unwrap_or(0);
    let picture = Picture::filled(call.count("width", 512), call.count("height", 512), colour);
    Ok(Produced::one(pictures(vec![
        picture;
        call.count("batch_size", 1)
            as usize
    ])))
}

fn read(call: &Call<'_>, name: &str) -> Result<Picture, Raised> {
    let path = call
        .instance
        .folders
        .annotated(name)
        .ok_or_else(|| Raised::new("ValueError", format!("Invalid image file: {name}")))?;
    let bytes = std::fs::read(&path)?;
    Picture::decoded(&bytes).ok_or_else(|| {
        Raised::new(
            "PIL.UnidentifiedImageError",
            format!("cannot identify image file '{}'", path.display()),
        )
    })
}

fn mask_of(picture: &Picture) -> Picture {
    let rgb = match &picture.alpha {
        Some(alpha) => alpha.iter().flat_map(|a| [255 - a; 3]).collect(),
        None => vec![0; picture.rgb.len()],
    };
    Picture {
        rgb: Arc::new(rgb),
        alpha: None,
        ..picture.clone()
    }
}

pub(super) fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let picture = read(call, &call.text("image"))?;
    let mask = mask_of(&picture);
    Ok(Produced {
        outputs: vec![
            pictures(vec![Picture {
                alpha: None,
                ..picture
            }]),
            pictures(vec![mask]),
        ],
        ui: None,
        ..Produced::default()
    })
}

pub(super) fn load_mask(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let picture = read(call, &call.text("image"))?;
    Ok(Produced::one(pictures(vec![mask_of(&picture)])))
}
