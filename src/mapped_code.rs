//! The program's own code, as far as it is mapped.
#![expect(
    unsafe_code,
    reason = "advice about mappings is a call of the operating system"
)]

use std::ffi::c_void;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of all code and constants; what is used comes back page by page, from the file or from
/// the system's cache of it.
///
/// The start needs much that is never needed again (TLS, the engine of workflows, the reading of
/// ComfyUI's catalogue), and the system maps the neighbours of every page that is used: two thirds
/// of what an idle server would hold.
pub fn let_go() {
    let (Ok(program), Ok(maps)) = (
        std::fs::read_link("/proc/self/exe"),
        std::fs::read_to_string("/proc/self/smaps"),
    ) else {
        return;
    };
    for (start, length) in unwritten(&maps, &program.to_string_lossy()) {
        if let Some(start) = NonNull::new(std::ptr::without_provenance_mut::<c_void>(start)) {
            // SAFETY: the mapping is of a file, read-only and never written to, so that every page
            // of it can be had again as it was.
            let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
        }
    }
}

/// Address and length in bytes of every mapping of the program's file that cannot be written to,
/// and never was: what the loader has written into is read-only, too, but exists nowhere else.
fn unwritten(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in maps.lines() {
        if let Some(("Anonymous" | "Swap", written)) = line.split_once(':') {
            mapping = mapping.filter(|_| written.trim() == "0 kB");
            if line.starts_with("Swap") {
                found.extend(mapping.take());
            }
        } else if !line.contains(": ") {
            mapping = read_only(line, program);
        }
    }
    found
}

fn read_only(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let fits = matches!(words.next()?, "r-xp" | "r--p") && line.ends_with(program);
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    fits.then(|| (start, end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_has_is_let_go() {
        let mapping = |perms: &str, path: &str, written: u32, swapped: u32| {
            format!(
                "0178d000-03c8a000 {perms} 0158c000 fe:00 9   {path}\n\
                 Rss:                 100 kB\n\
                 Anonymous:      {written:8} kB\n\
                 Swap:           {swapped:8} kB\n\
                 SwapPss:               0 kB\n\
                 VmFlags: rd ex mr mw me sd\n"
            )
        };
        let constants = mapping("r--p", "/bin/server", 0, 0);
        let code = mapping("r-xp", "/bin/server", 0, 0);
        let all = unwritten(&(constants + &code), "/bin/server");
        assert_eq!(all, [(0x178_d000, 0x24f_d000); 2]);
        for (perms, path, written, swapped) in [
            ("r--p", "/bin/server", 12, 0),
            ("r--p", "/bin/server", 0, 12),
            ("rw-p", "/bin/server", 0, 0),
            ("r-xp", "/lib/libc.so.6", 0, 0),
            ("r-xp", "", 0, 0),
        ] {
            let other = mapping(perms, path, written, swapped);
            assert_eq!(unwritten(&other, "/bin/server"), [], "{other}");
        }
        // And this test goes on.
        let_go();
    }
}
