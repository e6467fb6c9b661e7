//! Bytes in and out of memory that another process may write at the same time.
//!
//! Every access is a relaxed atomic of its size, or an asm block that stands for a sequence of them: whatever the peer
//! does meanwhile, the worst case is that the bytes are not what it committed. `copy_nonoverlapping` would be a data race.
#![allow(clippy::disallowed_types, reason = "this room is where raw atomics live")]

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// From this many bytes on a copy uses the processor's string move. Below it, whole words: a string move costs about
/// 30 ns to start (measured here: even at 64 B u64 stores equal `memcpy`).
pub const COPY_BY_STRING_BYTES: usize = 1024;

/// # Safety
/// `target` is valid for 4 bytes, 4-aligned, and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn store_u32(target: *mut u8, value: u32) {
    // SAFETY: the caller's contract.
    unsafe { AtomicU32::from_ptr(target.cast()) }.store(value, Relaxed);
}

/// # Safety
/// `source` is valid for 4 bytes, 4-aligned, and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn load_u32(source: *mut u8) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { AtomicU32::from_ptr(source.cast()) }.load(Relaxed)
}

/// # Safety
/// `target` is valid for 8 bytes, 8-aligned, and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn store_u64(target: *mut u8, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { AtomicU64::from_ptr(target.cast()) }.store(value, Relaxed);
}

/// # Safety
/// `source` is valid for 8 bytes, 8-aligned, and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn load_u64(source: *mut u8) -> u64 {
    // SAFETY: the caller's contract.
    unsafe { AtomicU64::from_ptr(source.cast()) }.load(Relaxed)
}

/// # Safety
/// `target` is valid for `source.len()` bytes and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn store_bytes(target: *mut u8, source: &[u8]) {
    if source.len() >= COPY_BY_STRING_BYTES {
        // SAFETY: the caller's contract for the target; a slice is valid for its length; private memory and the shared
        // mapping do not overlap.
        return unsafe { string_move(target, source.as_ptr(), source.len()) };
    }
    let head = target.align_offset(8).min(source.len());
    let (first, rest) = source.split_at(head);
    // SAFETY: the first `head` bytes of the caller's range.
    unsafe { store_single_bytes(target, first) };
    let mut words = rest.chunks_exact(8);
    let mut at = head;
    for word in words.by_ref() {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        // SAFETY: `at` counts the bytes before this word, all inside the range; 8-aligned since `head`.
        unsafe { store_u64(target.add(at), u64::from_ne_bytes(bytes)) };
        at += 8;
    }
    // SAFETY: what is left of the range behind `at`.
    unsafe { store_single_bytes(target.add(at), words.remainder()) };
}

/// # Safety
/// `source` is valid for `target.len()` bytes and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn load_bytes(source: *mut u8, target: &mut [u8]) {
    if target.len() >= COPY_BY_STRING_BYTES {
        // SAFETY: as in store_bytes, the other way round.
        return unsafe { string_move(target.as_mut_ptr(), source, target.len()) };
    }
    let head = source.align_offset(8).min(target.len());
    let (first, rest) = target.split_at_mut(head);
    // SAFETY: the first `head` bytes of the caller's range.
    unsafe { load_single_bytes(source, first) };
    let mut words = rest.chunks_exact_mut(8);
    let mut at = head;
    for word in words.by_ref() {
        // SAFETY: `at` counts the bytes before this word, all inside the range; 8-aligned since `head`.
        word.copy_from_slice(&unsafe { load_u64(source.add(at)) }.to_ne_bytes());
        at += 8;
    }
    // SAFETY: what is left of the range behind `at`.
    unsafe { load_single_bytes(source.add(at), words.into_remainder()) };
}

/// # Safety
/// `target` is valid for `source.len()` bytes and only accessed atomically.
#[inline(always)]
unsafe fn store_single_bytes(target: *mut u8, source: &[u8]) {
    for (i, byte) in source.iter().enumerate() {
        // SAFETY: `i` is below the length.
        let target = unsafe { target.add(i) };
        // SAFETY: one byte of the caller's range.
        unsafe { AtomicU8::from_ptr(target) }.store(*byte, Relaxed);
    }
}

/// # Safety
/// `source` is valid for `target.len()` bytes and only accessed atomically.
#[inline(always)]
unsafe fn load_single_bytes(source: *mut u8, target: &mut [u8]) {
    for (i, byte) in target.iter_mut().enumerate() {
        // SAFETY: `i` is below the length.
        let source = unsafe { source.add(i) };
        // SAFETY: one byte of the caller's range.
        *byte = unsafe { AtomicU8::from_ptr(source) }.load(Relaxed);
    }
}

/// `rep movsb`: relaxed byte moves in no promised order, all done before a later store is visible (stores of one string
/// move may pass each other, but not what follows: Intel SDM vol. 3, 9.2.4.2).
///
/// # Safety
/// Both ranges are valid for `bytes` and do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn string_move(target: *mut u8, source: *const u8, bytes: usize) {
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rdi") target => _,
            inout("rsi") source => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// Both ranges are valid for `bytes` and do not overlap.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn string_move(target: *mut u8, source: *const u8, bytes: usize) {
    for i in 0..bytes {
        // SAFETY: `i` is below the length of both ranges.
        let from = unsafe { AtomicU8::from_ptr(source.add(i).cast_mut()) };
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(target.add(i)) }.store(from.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_alignment_and_length_arrives_whole_and_touches_nothing_else() {
        for length in (0..70).chain([1023, 1024, 1025, 4096, 5000]) {
            for shift in 0..9 {
                let source: Vec<u8> = (0..length).map(|i| (i * 7 + shift) as u8 | 1).collect();
                let mut memory = vec![0u64; length / 8 + 4];
                let base = memory.as_mut_ptr().cast::<u8>();
                let mut back = vec![0; length];
                // SAFETY: `shift + length` bytes fit the vector, with at least 8 to spare.
                unsafe { store_bytes(base.add(shift), &source) };
                // SAFETY: as above.
                unsafe { load_bytes(base.add(shift), &mut back) };
                assert_eq!(back, source, "{length} bytes at {shift}");
                let written = memory.iter().flat_map(|word| word.to_ne_bytes()).filter(|byte| *byte != 0).count();
                assert_eq!(written, length, "{length} bytes at {shift}");
            }
        }
    }
}
