//! Gives freed memory back to the system. The engine allocates through the C library, which keeps
//! what calls that hit a limit had taken, in one arena per thread, for as long as the process
//! lives.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "malloc_trim has no safe wrapper")
)]

/// Takes some milliseconds; for the rare moments after much was freed.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: malloc_trim takes no pointers and may be called by any thread at any time.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
