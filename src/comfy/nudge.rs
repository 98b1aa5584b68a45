//! Makes ComfyUI look at a model folder anew: it compares modification times for equality, so
//! another whole second will do.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Changes the modification times of the directories between a model folder and a file in it.
/// `step` counts the tries: each sets another second.
pub(super) async fn directories_of(dir: &Path, name: &str, step: u64) {
    let mut directories = vec![dir.to_path_buf()];
    for part in Path::new(name)
        .parent()
        .into_iter()
        .flat_map(Path::components)
    {
        let deeper = directories.last().map(|last| last.join(part));
        directories.extend(deeper);
    }
    let others = {
        let directories = directories.clone();
        tokio::task::spawn_blocking(move || {
            let refused = |dir: &PathBuf| set_back(dir, step).is_err();
            directories.into_iter().filter(refused).collect::<Vec<_>>()
        })
    };
    let others = others.await.unwrap_or_default();
    if others.is_empty() {
        return;
    }
    // Somebody else's directories: they take only the present time, which must be in another second
    // than before.
    tokio::time::sleep(until_next_second()).await;
    let stirring = move || others.iter().for_each(|dir| stir(dir));
    if let Err(error) = tokio::task::spawn_blocking(stirring).await {
        tracing::debug!(%error, "the model folders could not be touched");
    }
}

/// Into the past: a later change by somebody else must not meet the same second again.
pub(super) fn set_back(dir: &Path, step: u64) -> io::Result<()> {
    let opened = File::open(dir)?;
    let modified = opened.metadata()?.modified()?;
    let seconds = modified
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let earlier = UNIX_EPOCH + Duration::from_secs(seconds.saturating_sub(step));
    opened.set_modified(earlier)
}

fn stir(dir: &Path) {
    let name = dir.join(format!(".{}.tick", uuid::Uuid::new_v4().simple()));
    let made = File::create_new(&name).and_then(|_| std::fs::remove_file(&name));
    if let Err(error) = made {
        tracing::debug!(%error, path = %dir.display(), "a model folder could not be touched");
    }
}

fn until_next_second() -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Duration::from_millis(1001).saturating_sub(Duration::from_nanos(now.subsec_nanos().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_directory_on_the_way_gets_another_whole_second() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("sub/more");
        std::fs::create_dir_all(&below).unwrap();
        let seconds = |path: &Path| {
            let modified = path.metadata().unwrap().modified().unwrap();
            modified.duration_since(UNIX_EPOCH).unwrap().as_secs()
        };
        let all = [dir.path().to_owned(), dir.path().join("sub"), below];
        let mut seen: Vec<Vec<u64>> = vec![all.iter().map(|path| seconds(path)).collect()];
        for step in 1..=3 {
            directories_of(dir.path(), "sub/more/a.pt", step).await;
            let now: Vec<u64> = all.iter().map(|path| seconds(path)).collect();
            for before in &seen {
                assert!(
                    before.iter().zip(&now).all(|(a, b)| a != b),
                    "{before:?} {now:?}"
                );
            }
            seen.push(now);
        }
        let nothing = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(nothing, 1, "nothing is left in the folder");
    }
}
