//! Writes the table of the console's files (path, bytes, hash) that `transport::console` embeds. The
//! files are served as they are written: nothing is bundled, and nothing but this compiler is
//! needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FOLDER: &str = "src/transport/console";
/// What a browser loads; whatever else lies in the folder is none of its business.
const SERVED: [&str; 4] = ["html", "js", "css", "svg"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join(FOLDER);
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for path in files {
        let name = path
            .strip_prefix(&root)?
            .to_str()
            .ok_or("a file's name is not UTF-8")?
            .to_owned();
        let hash = fnv(&std::fs::read(&path)?);
        writeln!(
            table,
            "    File {{ path: {name:?}, bytes: include_bytes!({:?}), hash: \"{hash:032x}\" }},",
            path.to_str().ok_or("the folder's name is not UTF-8")?
        )?;
    }
    table.push_str("]\n");
    let target = PathBuf::from(std::env::var("OUT_DIR")?).join("console.rs");
    std::fs::write(target, table)?;
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| SERVED.contains(&extension))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// FNV-1a with 128 bits: tells versions of our own files apart, nothing more.
fn fnv(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        })
}
