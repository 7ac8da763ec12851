//! Maps a small file as shared memory: its content outlives the process, but not the boot.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The first words of a file, mapped. It is not synced: the page cache keeps it.
///
/// If the file is truncated meanwhile, reading or writing the map ends the process with SIGBUS:
/// only its owner, who holds the app's lock, may change its length.
pub(super) struct Map {
    at: NonNull<AtomicU64>,
    words: usize,
}

#[expect(unsafe_code, reason = "the memory is not tied to a thread")]
// SAFETY: the mapping is plain shared memory of atomics, valid until it is dropped.
unsafe impl Send for Map {}

#[expect(unsafe_code, reason = "the memory is read and written as atomics only")]
// SAFETY: as above; all access through `&Map` is atomic.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `words` words of a file. They must have been written, so that no store meets a full
    /// disk.
    #[expect(unsafe_code, reason = "no safe function maps a file")]
    pub(super) fn of(file: &File, words: usize) -> io::Result<Map> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no memory of ours is replaced; the file stays
        // mapped when its descriptor is closed.
        let at = unsafe {
            let descriptor = file.as_raw_fd();
            libc::mmap(std::ptr::null_mut(), bytes(words), access, libc::MAP_SHARED, descriptor, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A mapping begins at a page, which is aligned for anything.
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { at, words })
    }
}

fn bytes(words: usize) -> usize {
    words * size_of::<AtomicU64>()
}

impl Deref for Map {
    type Target = [AtomicU64];

    #[expect(unsafe_code, reason = "no safe function makes a slice of mapped memory")]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `words` words are mapped at `at` until this is dropped, and any bits are a u64.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words) }
    }
}

impl Drop for Map {
    #[expect(unsafe_code, reason = "no safe function unmaps memory")]
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and no borrow of it can be left.
        let unmapped = unsafe { libc::munmap(self.at.as_ptr().cast(), bytes(self.words)) };
        debug_assert_eq!(unmapped, 0, "what was mapped can be unmapped");
    }
}
