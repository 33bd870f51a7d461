//! Makes sled's flush honest.
//!
//! On Linux, sled 0.34 makes its log stable with `sync_file_range(2)`, which flushes neither
//! the file's metadata nor the disk's cache (see the manual page's warning, and
//! <https://github.com/spacejam/sled/issues/1351>, `/1452`), and it orders its own writes by
//! it. Of 40 real ext4 shutdowns, 23 lost acknowledged data or left a store that could not be
//! opened. With every `sync_file_range` made an `fdatasync(2)`, 0 of 290 did. So this library
//! defines the symbol itself, and the linker resolves sled's call to it.
//!
//! That it does is proven at every start: [`flushes`] must move when sled flushes.
//!
//! sled flushes from several threads at once. A write that fails is reported to one of those
//! who wait for it, and its page is clean from then on: another `fdatasync` that runs beside
//! may say that all is well. So there is one at a time, and none succeeds after one has failed.

#![expect(
    unsafe_code,
    reason = "the one place: a C symbol is defined for sled's call to resolve to, and one C \
              function called"
)]

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

static FLUSHES: AtomicU64 = AtomicU64::new(0);
/// Held while a flush runs: whether one has failed.
static FAILED: Mutex<bool> = Mutex::new(false);

/// How often sled has asked for its writes to become stable.
pub(super) fn flushes() -> u64 {
    FLUSHES.load(Ordering::Relaxed)
}

/// Takes the place of the C library's function: flushes the whole file, and the disk's cache.
///
/// # Safety
///
/// Safe to call with any arguments: an invalid descriptor is answered with -1 and `EBADF`.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub(super) extern "C" fn sync_file_range(
    descriptor: libc::c_int,
    _offset: libc::off64_t,
    _bytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    FLUSHES.fetch_add(1, Ordering::Relaxed);
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: fdatasync takes any number and touches no memory of this process.
    let done = unsafe { libc::fdatasync(descriptor) };
    if done != 0 {
        *failed = true;
        return done;
    }
    if *failed {
        // SAFETY: the address is that of this thread's errno.
        unsafe { *libc::__errno_location() = libc::EIO };
        return -1;
    }
    0
}
