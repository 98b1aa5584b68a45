//! What is asked of the allocator beside memory.
#![expect(unsafe_code, reason = "mimalloc is a C library")]

/// Gives memory that is free back to the system, now. Takes some milliseconds.
///
/// mimalloc does so by itself only in the course of later allocations, seconds later: a server that
/// falls idle after a busy hour would keep some hundred MiB that it does not use.
pub fn collect() {
    // SAFETY: may be called at any time from any thread; it touches no memory that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
