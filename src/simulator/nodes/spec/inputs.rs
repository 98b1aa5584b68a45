//! Inputs of all kinds, in one line each.

use serde_json::{Value, json};

use super::input::{Input, Kind, Shape, Source};

pub(super) fn input(name: &'static str, kind: Kind, options: &Value) -> Input {
    Input {
        name,
        required: true,
        kind,
        options: options.as_object().cloned().unwrap_or_default(),
        file: None,
    }
}

/// An input without limits.
pub fn plain(name: &'static str, kind: &'static str) -> Input {
    input(name, Kind::Plain(kind), &Value::Null)
}

/// An integer.
pub fn int(name: &'static str, default: i64, min: i64, max: i64) -> Input {
    input(
        name,
        Kind::Plain("INT"),
        &json!({"default": default, "min": min, "max": max}),
    )
}

/// A seed.
pub fn seed(name: &'static str) -> Input {
    input(
        name,
        Kind::Plain("INT"),
        &json!({"default": 0, "min": 0, "max": u64::MAX, "control_after_generate": true}),
    )
}

/// A float; without limits if `max` is not above `min`.
pub fn float(name: &'static str, default: f64, min: f64, max: f64) -> Input {
    let options = if max > min {
        json!({"default": default, "min": min, "max": max, "step": 0.01})
    } else {
        json!({"default": default})
    };
    input(name, Kind::Plain("FLOAT"), &options)
}

/// A text.
pub fn text(name: &'static str, default: &'static str, multiline: bool) -> Input {
    input(
        name,
        Kind::Plain("STRING"),
        &if multiline {
            json!({"default": default, "multiline": true, "dynamicPrompts": true})
        } else {
            json!({"default": default})
        },
    )
}

/// A switch.
pub fn boolean(name: &'static str, default: bool) -> Input {
    input(name, Kind::Plain("BOOLEAN"), &json!({"default": default}))
}

/// One of fixed words.
pub fn choice(name: &'static str, words: &'static [&'static str], shape: Shape) -> Input {
    let options = words
        .first()
        .filter(|_| shape == Shape::Combo)
        .map_or(Value::Null, |first| json!({"default": first}));
    input(name, Kind::Combo(Source::Fixed(words), shape), &options)
}

/// A file of model folders.
pub fn model(
    name: &'static str,
    folders: &'static [&'static str],
    extra: &'static [&'static str],
    shape: Shape,
) -> Input {
    input(
        name,
        Kind::Combo(Source::Models(folders, extra), shape),
        &json!({"tooltip": "The name of the model to load."}),
    )
}

/// Some files of a model folder, in a form of the class's own.
pub fn shown(
    name: &'static str,
    extra: &'static [&'static str],
    folder: &'static str,
    form: fn(&str) -> Option<String>,
) -> Input {
    let source = Source::Shown(extra, folder, form);
    input(name, Kind::Combo(source, Shape::List), &Value::Null)
}

/// A widget of its own kind.
pub fn widget(name: &'static str, kind: &'static str) -> Input {
    input(name, Kind::Plain(kind), &json!({}))
}

/// A file of the input directory: what it is called in errors, its extensions, and its upload flag.
pub fn file(
    name: &'static str,
    what: &'static str,
    extensions: &'static [&'static str],
    flag: Option<&'static str>,
    shape: Shape,
) -> Input {
    let options = flag.map_or(Value::Null, |flag| json!({ flag: true }));
    Input {
        file: Some(what),
        ..input(
            name,
            Kind::Combo(Source::InputFiles(extensions), shape),
            &options,
        )
    }
}

/// A file of the output directory.
pub fn output_file(name: &'static str) -> Input {
    let options = json!({
        "image_upload": true,
        "image_folder": "output",
        "remote": {
            "route": "/internal/files/output",
            "refresh_button": true,
            "control_after_refresh": "first"
        }
    });
    Input {
        file: Some("image"),
        ..input(
            name,
            Kind::Combo(Source::OutputFiles, Shape::Combo),
            &options,
        )
    }
}

/// A sub-directory of the input directory.
pub fn directory(name: &'static str) -> Input {
    input(
        name,
        Kind::Combo(Source::InputDirectories, Shape::List),
        &Value::Null,
    )
}
