//! Keeps the static binary out of glibc's name services.
//!
//! A statically linked glibc answers `getaddrinfo` and `getpwuid_r` by loading NSS plug-ins of
//! whatever glibc the image has, which ends in SIGSEGV or SIGFPE (measured: dependencies.md,
//! section 2). Defining the symbols here keeps glibc's out of the link: a dependency that calls
//! them after all gets a clean error. Names are resolved by [`super::resolver`], which needs none
//! of this.

#![expect(
    unsafe_code,
    reason = "symbols of the C library can only be replaced by unmangled ones"
)]

use std::ffi::{c_char, c_int, c_void};

/// `EAI_FAIL`: a failure that will not go away.
const EAI_FAIL: c_int = -4;
const ENOENT: c_int = 2;

/// Called by `main`'s first line, so that the linker takes this module, and with it these symbols,
/// before it looks into the C library.
pub(super) fn keep() {
    std::hint::black_box(getaddrinfo as *const ());
    std::hint::black_box(getpwuid_r as *const ());
}

/// Refuses; resolve through [`super::resolve`] instead.
// SAFETY: writes nothing through its pointers and returns an error, after which callers may not
// read `result`.
#[unsafe(no_mangle)]
pub extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const c_void,
    _result: *mut *mut c_void,
) -> c_int {
    EAI_FAIL
}

/// Nothing was ever allocated.
// SAFETY: does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn freeaddrinfo(_result: *mut c_void) {}

/// The text of the only error there is.
// SAFETY: returns a pointer to a constant that ends in NUL and lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn gai_strerror(_code: c_int) -> *const c_char {
    c"the C library's resolver is not part of this binary".as_ptr()
}

/// No user is known; `HOME` decides, or its default.
// SAFETY: writes a null pointer to `result`, which POSIX requires callers to provide; checked all
// the same.
#[unsafe(no_mangle)]
pub extern "C" fn getpwuid_r(
    _uid: u32,
    _entry: *mut c_void,
    _buffer: *mut c_char,
    _length: usize,
    result: *mut *mut c_void,
) -> c_int {
    if !result.is_null() {
        // SAFETY: not null, and the caller's to be written by contract.
        unsafe { *result = std::ptr::null_mut() };
    }
    ENOENT
}
