//! The native form of the port: atomics over a mapping that another process writes.
#![allow(clippy::disallowed_types, reason = "this room defines the words that every other room uses")]

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use std::any::Any;
use std::sync::Arc;

use super::copy;
use super::port::{Area, Ordering, Platform, RecordArea, Word};
use super::prefetch;

/// A 32-bit word in shared memory.
#[derive(Debug)]
#[repr(transparent)]
pub struct NativeWord(AtomicU32);

impl NativeWord {
    /// The address, for the futex calls.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u32 {
        self.0.as_ptr()
    }
}

impl Word for NativeWord {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }
    #[inline(always)]
    fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }
}

/// One direction of a mapped segment.
///
/// A cheap handle: the base of the data area, the three control words, and a reference that keeps the mapping alive.
/// No reference to its bytes is ever formed except `&NativeWord`; payload crosses by relaxed atomic accesses.
#[derive(Clone)]
pub struct NativeArea {
    base: NonNull<u8>,
    size: u32,
    /// Takes any offset to the start of a granule inside the area.
    word_mask: u32,
    head: NonNull<NativeWord>,
    reader_parked: NonNull<NativeWord>,
    writer_parked: NonNull<NativeWord>,
    _mapping: Arc<dyn Any + Send + Sync>,
}

impl NativeArea {
    /// Wraps one direction of a mapping.
    ///
    /// # Panics
    /// If `size` is not a power of two of at least 8 bytes.
    ///
    /// # Safety
    /// - `base..base + size` is 8-aligned, readable and writable, and stays so (no unmapping, no truncation of what is
    ///   behind it) as long as `mapping` is alive.
    /// - the three words are valid in the same way, 4-aligned, and outside that range.
    /// - this process accesses these bytes through `NativeArea` and [`NativeWord`] alone.
    #[must_use]
    pub unsafe fn new(
        base: NonNull<u8>,
        size: u32,
        head: NonNull<NativeWord>,
        reader_parked: NonNull<NativeWord>,
        writer_parked: NonNull<NativeWord>,
        mapping: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        assert!(size.is_power_of_two() && size >= 8, "area of {size} bytes is not a power of two");
        assert!(base.as_ptr().addr().is_multiple_of(8), "area is not 8-aligned");
        Self { base, size, word_mask: (size - 1) & !7, head, reader_parked, writer_parked, _mapping: mapping }
    }

    /// The address of `offset`, which must be below the area's size.
    ///
    /// For in-place access ([`ring`](crate::ring)); everything else goes through [`Area`].
    #[inline(always)]
    #[must_use]
    pub fn address(&self, offset: u32, bytes: usize) -> *mut u8 {
        self.check(offset, bytes);
        // SAFETY: check() has refused what leaves the area, so the sum stays inside one mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// Copies `bytes` from `source_offset` of `source` to `offset`. Where the two overlap, what arrives is any of their bytes.
    #[inline(always)]
    pub(crate) fn copy_across(&self, offset: u32, source: &Self, source_offset: u32, bytes: usize) {
        let (target, source) = (self.address(offset, bytes), source.address(source_offset, bytes));
        // SAFETY: address() checked both ranges.
        unsafe { copy::move_across(target, source, bytes) };
    }

    #[inline(always)]
    fn check(&self, offset: u32, bytes: usize) {
        let size = self.size as usize;
        if bytes > size || offset as usize > size - bytes {
            leaves_area(offset, bytes, self.size);
        }
    }
}

/// Only a mistake in this crate gets here: lengths that a peer wrote are checked before.
#[cold]
#[inline(never)]
#[allow(clippy::panic, reason = "an access outside the area must not happen, whatever went wrong before")]
fn leaves_area(offset: u32, bytes: usize, size: u32) -> ! {
    panic!("{bytes} bytes at offset {offset} leave a ring's area of {size} bytes");
}

impl fmt::Debug for NativeArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeArea").field("size", &self.size).finish_non_exhaustive()
    }
}

// SAFETY: the pointers stay valid wherever the handle goes, because it holds the mapping, and every access through them
// is atomic.
unsafe impl Send for NativeArea {}
// SAFETY: as above; no method needs exclusive access to be sound.
unsafe impl Sync for NativeArea {}

impl Area for NativeArea {
    type Word = NativeWord;

    #[inline(always)]
    fn size(&self) -> u32 {
        self.size
    }

    #[inline(always)]
    fn word(&self, offset: u32) -> &NativeWord {
        let at = offset & self.word_mask;
        // SAFETY: the mask keeps `at` inside the area (new() demands a power of two).
        let word = unsafe { self.base.add(at as usize) }.cast::<NativeWord>();
        // SAFETY: 8-aligned by the mask and new()'s check of the base, valid while `self` holds the mapping, and only
        // ever accessed atomically.
        unsafe { word.as_ref() }
    }

    #[inline(always)]
    fn head(&self) -> &NativeWord {
        // SAFETY: new()'s contract.
        unsafe { self.head.as_ref() }
    }

    #[inline(always)]
    fn reader_parked(&self) -> &NativeWord {
        // SAFETY: new()'s contract.
        unsafe { self.reader_parked.as_ref() }
    }

    #[inline(always)]
    fn writer_parked(&self) -> &NativeWord {
        // SAFETY: new()'s contract.
        unsafe { self.writer_parked.as_ref() }
    }

    #[inline(always)]
    fn put_header(&self, offset: u32, tag: u32, correlation: u64) {
        assert!(offset.is_multiple_of(8), "records are 8-aligned");
        let record = self.address(offset, 16);
        // SAFETY: address() checked 16 bytes from an 8-aligned offset.
        unsafe { copy::store_u64(record.wrapping_add(8), correlation) };
        // SAFETY: as above.
        unsafe { copy::store_u32(record.wrapping_add(4), tag) };
    }

    #[inline(always)]
    fn header(&self, offset: u32) -> (u32, u64) {
        assert!(offset.is_multiple_of(8), "records are 8-aligned");
        let record = self.address(offset, 16);
        // SAFETY: address() checked 16 bytes from an 8-aligned offset.
        let tag = unsafe { copy::load_u32(record.wrapping_add(4)) };
        // SAFETY: as above.
        let correlation = unsafe { copy::load_u64(record.wrapping_add(8)) };
        (tag, correlation)
    }

    #[inline(always)]
    fn copy_in(&self, offset: u32, source: &[u8]) {
        let target = self.address(offset, source.len());
        // SAFETY: address() checked the range.
        unsafe { copy::store_bytes(target, source) };
    }

    #[inline(always)]
    fn copy_out(&self, offset: u32, target: &mut [u8]) {
        let source = self.address(offset, target.len());
        // SAFETY: address() checked the range.
        unsafe { copy::load_bytes(source, target) };
    }

    #[inline(always)]
    fn put_words(&self, offset: u32, count: u32, mut next: impl FnMut() -> u64) {
        assert!(offset.is_multiple_of(8), "words are 8-aligned");
        let target = self.address(offset, count as usize * 8);
        for i in 0..count as usize {
            // SAFETY: `i` is below the count that address() checked.
            let target = unsafe { target.add(i * 8) };
            // SAFETY: aligned by the assertion and new()'s check of the base.
            unsafe { copy::store_u64(target, next()) };
        }
    }

    #[inline(always)]
    fn take_words(&self, offset: u32, count: u32, mut take: impl FnMut(u64)) {
        assert!(offset.is_multiple_of(8), "words are 8-aligned");
        let source = self.address(offset, count as usize * 8);
        for i in 0..count as usize {
            // SAFETY: `i` is below the count that address() checked.
            let source = unsafe { source.add(i * 8) };
            // SAFETY: aligned by the assertion and new()'s check of the base.
            take(unsafe { copy::load_u64(source) });
        }
    }
}

impl RecordArea for NativeArea {
    #[inline(always)]
    unsafe fn copy_record_in(&self, offset: u32, payload: &[u8]) {
        debug_assert!(offset.is_multiple_of(8) && offset as usize + payload.len() <= self.size as usize);
        // The caller's contract keeps the range inside the area.
        let target = self.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: as above; 8-aligned.
        unsafe { copy::store_aligned(target, payload) };
    }

    #[inline(always)]
    unsafe fn put_record_header(&self, offset: u32, tag: u32, correlation: u64) {
        debug_assert!(offset.is_multiple_of(8) && offset as usize + 16 <= self.size as usize);
        // The caller's contract keeps the header inside the area.
        let record = self.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: as above; 8-aligned.
        unsafe { copy::store_u64(record.wrapping_add(8), correlation) };
        // SAFETY: as above; 4-aligned, since the record is 8-aligned.
        unsafe { copy::store_u32(record.wrapping_add(4), tag) };
    }

    #[inline(always)]
    fn expect_read(&self, offset: u32) {
        prefetch::for_reading(self.word(offset).as_ptr().cast());
    }

    #[inline(always)]
    fn own_lines(&self, offset: u32, lines: u32) {
        assert!(offset.is_multiple_of(8), "words are 8-aligned");
        let line_bytes = Self::LINE_BYTES as usize;
        let mut line = self.address(offset, lines as usize * line_bytes);
        // Four a turn: this stands in the way of every message that crosses a boundary.
        for _ in 0..lines / 4 {
            for next in 0..4 {
                // SAFETY: below the count that address() checked; aligned by the assertion and new()'s check.
                unsafe { copy::store_u32(line.wrapping_add(next * line_bytes), 0) };
            }
            line = line.wrapping_add(4 * line_bytes);
        }
        for next in 0..(lines % 4) as usize {
            // SAFETY: as above.
            unsafe { copy::store_u32(line.wrapping_add(next * line_bytes), 0) };
        }
    }

    #[inline(always)]
    unsafe fn record_header(&self, offset: u32) -> (u32, u64) {
        debug_assert!(offset.is_multiple_of(8) && offset as usize + 16 <= self.size as usize);
        // The caller's contract keeps the header inside the area.
        let record = self.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: as above; 4-aligned, since the record is 8-aligned.
        let tag = unsafe { copy::load_u32(record.wrapping_add(4)) };
        // SAFETY: as above; 8-aligned.
        let correlation = unsafe { copy::load_u64(record.wrapping_add(8)) };
        (tag, correlation)
    }

    #[inline(always)]
    unsafe fn copy_record_out(&self, offset: u32, target: &mut [u8]) {
        debug_assert!(offset.is_multiple_of(8) && offset as usize + target.len() <= self.size as usize);
        // The caller's contract keeps the range inside the area.
        let source = self.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: as above; 8-aligned.
        unsafe { copy::load_aligned(source, target) };
    }
}

/// The shipped platform.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Platform for Native {
    type Word = NativeWord;
    type Area = NativeArea;

    #[inline(always)]
    fn fence() {
        fence_seq_cst();
    }
}

/// A sequentially consistent fence. On x86-64 a locked no-op on the stack: the same guarantee for ordinary memory as
/// `mfence` at about half its cost (Intel SDM vol. 3, 9.2.3.9; AMD APM vol. 2, 7.4.2), and what the JVM and Linux's
/// `smp_mb` use.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fence_seq_cst() {
    // SAFETY: an atomic `or` of 0 at the top of this thread's own stack changes nothing. Without `nomem` it is a compiler fence.
    unsafe { core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack)) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fence_seq_cst() {
    core::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests;
