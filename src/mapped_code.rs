//! The program's own code, as far as it is mapped.
#![expect(
    unsafe_code,
    reason = "advice about mappings is a call of the operating system"
)]

use std::ffi::c_void;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of all code; what runs comes back page by page, from the file or from the system's
/// cache of it.
///
/// The start needs much that is never needed again (TLS, the engine of workflows, the reading of
/// ComfyUI's catalogue), and the system maps the neighbours of every page that runs: two thirds of
/// what an idle server would hold.
pub fn let_go() {
    let (Ok(program), Ok(maps)) = (
        std::fs::read_link("/proc/self/exe"),
        std::fs::read_to_string("/proc/self/maps"),
    ) else {
        return;
    };
    let program = program.to_string_lossy();
    for (start, length) in maps.lines().filter_map(|line| code(line, &program)) {
        if let Some(start) = NonNull::new(std::ptr::without_provenance_mut::<c_void>(start)) {
            // SAFETY: the mapping is of a file, read-only and never written to, so that every page
            // of it can be had again as it was.
            let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
        }
    }
}

/// Address and length in bytes of a mapping, if it is the program's code: never written to.
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_code = words.next()? == "r-xp" && line.ends_with(program);
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    is_code.then(|| (start, end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_let_go() {
        let line = |perms: &str, path: &str| {
            format!("0178d000-03c8a000 {perms} 0158c000 fe:00 9   {path}")
        };
        let code = |perms: &str, path: &str| code(&line(perms, path), "/bin/server");
        assert_eq!(code("r-xp", "/bin/server"), Some((0x178_d000, 0x24f_d000)));
        for (perms, path) in [
            ("r--p", "/bin/server"),
            ("rw-p", "/bin/server"),
            ("r-xp", "/lib/libc.so.6"),
            ("r-xp", ""),
        ] {
            assert_eq!(code(perms, path), None, "{perms} {path}");
        }
        // And this test goes on.
        let_go();
    }
}
