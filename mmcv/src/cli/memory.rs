//! How the binaries' allocator treats memory that a tensor gave back.

#![allow(unsafe_code)] // calls the allocator's C interface

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, which the bindings leave out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed pages for the next tensor instead of handing them back to the kernel after 10 ms: the next op would fault on
/// each of them again. `MIMALLOC_PURGE_DELAY` in the environment decides where it is set.
///
/// For a binary whose global allocator is mimalloc; elsewhere it changes nothing.
pub fn keep_pages() {
    // SAFETY: it stores a number in an option of the allocator, which any thread may do at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) }
}
