//! A small disk of its own, to be filled up or made read-only.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one over a folder. `None`, with a line that says why, where that is not allowed: it
    /// takes root.
    pub fn over(folder: &Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "attack-test"])
            .arg(folder)
            .output();
        let why = match mounted {
            Ok(done) if done.status.success() => {
                let at = folder.to_owned();
                return Some(Self { at });
            }
            Ok(done) => String::from_utf8_lossy(&done.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!(
            "SKIPPED: a tmpfs cannot be mounted over {}: {why}",
            folder.display()
        );
        None
    }

    /// Not a byte more fits.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.at.join("filler")).unwrap();
        for block in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![0; block]).is_ok() {}
        }
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }

    /// As after an error of the disk.
    pub fn read_only(&self, yes: bool) {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        let done = Command::new("mount")
            .args(["-o", how])
            .arg(&self.at)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
