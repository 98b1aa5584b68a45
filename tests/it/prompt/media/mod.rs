//! Input media in every form the contract names, and those that it refuses.

mod directories;
mod names;
mod pictures;
mod sound_and_video;

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::graphs::{colour_of, loaded};
use crate::support::product::Product;

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

async fn colour(product: &Product, id: &str, image: &str) -> [u8; 3] {
    let answer = product.run(id, &loaded(image)).await;
    colour_of(&answer["images"][0])
}

fn directory(value: &Value) -> Value {
    json!({"1": {"class_type": "VHS_LoadImages", "inputs": {"directory": value}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "all"}
    }})
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
