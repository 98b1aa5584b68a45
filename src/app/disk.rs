//! Whether the folders that prompts need can be written. A machine with a full disk fails fastest,
//! so without this it would get most of the work (attack.md, A42).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{error, info};

use crate::config::Config;
use crate::health::Health;

/// Between two looks while something cannot be written.
const LOOK: Duration = Duration::from_secs(3);
/// Between two looks at folders that are well, however often they are suspected.
const PAUSE: Duration = Duration::from_millis(500);
/// A disk that takes longer is none to work on.
const LONGEST: Duration = Duration::from_secs(20);
/// What is written: enough to need a block of its own.
const BLOCK: [u8; 4096] = [0; 4096];

/// What must be writable.
pub(super) fn folders(config: &Config, none: bool) -> Vec<PathBuf> {
    if none {
        return Vec::new();
    }
    vec![
        config.comfy.output_dir.clone(),
        config.comfy.input_dir.clone(),
        config.storage.cache.dir.clone(),
    ]
}

/// Looks whenever something could not be written, and then until all can. Runs for ever.
pub(super) async fn watch(health: Health, folders: Arc<[PathBuf]>) {
    loop {
        health.folders_suspected().await;
        let mut trouble = look(&folders).await;
        if let Some(reason) = &trouble {
            error!(reason, "no prompts are taken");
        }
        while trouble.is_some() {
            health.unwritable(trouble);
            sleep(LOOK).await;
            trouble = look(&folders).await;
            if trouble.is_none() {
                info!("all folders can be written again");
            }
        }
        health.unwritable(None);
        sleep(PAUSE).await;
    }
}

async fn look(folders: &Arc<[PathBuf]>) -> Option<String> {
    let folders = folders.clone();
    let looking = tokio::task::spawn_blocking(move || {
        folders
            .iter()
            .find_map(|folder| Some(unwritable(folder, &probe(folder).err()?.to_string())))
    });
    match timeout(LONGEST, looking).await {
        Ok(found) => found.unwrap_or_default(),
        Err(_) => Some(format!(
            "writing a small file takes longer than {} s (OUTPUT_DIR, INPUT_DIR or CACHE_DIR)",
            LONGEST.as_secs()
        )),
    }
}

fn unwritable(folder: &Path, why: &str) -> String {
    format!("the folder {} cannot be written ({why})", folder.display())
}

/// Writes a small file that has no name any more. A folder that was removed is made again.
fn probe(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!(".comfyui-api-{}.probe", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    // Nobody shall see it, and nothing is left if we end in the middle.
    std::fs::remove_file(&path)?;
    file.write_all(&BLOCK)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_removed_is_made_again_and_a_file_is_no_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        probe(&folder).unwrap();
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            0,
            "nothing is left"
        );
        std::fs::write(home.path().join("file"), "x").unwrap();
        assert!(probe(&home.path().join("file")).is_err());
    }
}
