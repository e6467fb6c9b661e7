//! Bytes in and out of memory that another process may write at the same time.
//!
//! Every access is a relaxed atomic of its size, or an asm block that stands for a sequence of them: whatever the peer
//! does meanwhile, the worst case is that the bytes are not what it committed. `copy_nonoverlapping` would be a data race.
//!
//! On x86-64 copies of less than 512 bytes go from their end to their beginning, and those of less than 4 KiB leave the
//! target's first line for the end. It is the line that the reader polls: stored into at once and again later, it is taken
//! away in between, and fetched twice. (Calls between two cores at a line's distance of 0.3 us, of 32 and 64 B: 1.45 and
//! 1.61 of it -> 1.29 and 1.44.) Of longer ones one line is a small part.
#![allow(clippy::disallowed_types, reason = "this room is where raw atomics live")]

#[cfg(target_arch = "x86_64")]
mod large;

#[cfg(not(target_arch = "x86_64"))]
use core::sync::atomic::AtomicU8;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// From this many bytes on a copy is left to [`large`].
#[cfg(target_arch = "x86_64")]
const LARGE_BYTES: usize = 512;

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
    // SAFETY: the caller's contract for the target; a slice is valid for its length; private memory and the shared
    // mapping do not overlap.
    unsafe { move_bytes::<true>(target, source.as_ptr().cast_mut(), source.len()) };
}

/// # Safety
/// `source` is valid for `target.len()` bytes and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn load_bytes(source: *mut u8, target: &mut [u8]) {
    // SAFETY: as in store_bytes, the other way round.
    unsafe { move_bytes::<false>(target.as_mut_ptr(), source, target.len()) };
}

/// # Safety
/// As [`store_bytes`], and `target` is 8-aligned.
#[inline(always)]
pub(super) unsafe fn store_aligned(target: *mut u8, source: &[u8]) {
    // SAFETY: as in store_bytes.
    unsafe { move_aligned::<true>(target, source.as_ptr().cast_mut(), source.len()) };
}

/// # Safety
/// As [`load_bytes`], and `source` is 8-aligned.
#[inline(always)]
pub(super) unsafe fn load_aligned(source: *mut u8, target: &mut [u8]) {
    // SAFETY: as in load_bytes.
    unsafe { move_aligned::<false>(target.as_mut_ptr(), source, target.len()) };
}

/// From shared memory to shared memory. Where the two overlap, what arrives is any of their bytes.
///
/// # Safety
/// Both are valid for `bytes` and only accessed atomically.
#[inline(always)]
pub(super) unsafe fn move_across(target: *mut u8, source: *mut u8, bytes: usize) {
    // On x86-64 nothing but asm blocks touches either side.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract.
    unsafe {
        move_bytes::<true>(target, source, bytes);
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's contract.
    unsafe {
        move_atomically(target, source, bytes);
    }
}

/// # Safety
/// As [`move_across`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn move_atomically(target: *mut u8, source: *mut u8, bytes: usize) {
    let aligned = (target.addr() | source.addr()) & 7 == 0;
    let words = if aligned { bytes / 8 } else { 0 };
    for at in (0..words).map(|word| word * 8) {
        // SAFETY: 8 bytes are left of both behind `at`, a multiple of 8, as both addresses are.
        unsafe { store_u64(target.wrapping_add(at), load_u64(source.wrapping_add(at))) };
    }
    for at in words * 8..bytes {
        // SAFETY: `at` is inside both.
        let byte = unsafe { AtomicU8::from_ptr(source.wrapping_add(at)) }.load(Relaxed);
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(target.wrapping_add(at)) }.store(byte, Relaxed);
    }
}

/// Moves `bytes`; the target is shared memory if `STORE`, else the source is.
///
/// # Safety
/// Both ranges are valid for `bytes` and do not overlap; the shared one is only accessed atomically.
#[inline(always)]
unsafe fn move_bytes<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    let shared = if STORE { target } else { source };
    if shared.addr() & 7 == 0 {
        // SAFETY: the caller's contract, and aligned.
        unsafe { move_aligned::<STORE>(target, source, bytes) };
    } else {
        // SAFETY: the caller's contract.
        unsafe { move_unaligned::<STORE>(target, source, bytes) };
    }
}

/// # Safety
/// As [`move_bytes`], and the shared range is 8-aligned.
#[inline(always)]
unsafe fn move_aligned<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    if bytes >= LARGE_BYTES {
        // SAFETY: the caller's contract.
        return unsafe { large::move_large::<STORE>(target, source, bytes) };
    }
    let rest = bytes % BLOCK_BYTES;
    let blocks = bytes - rest;
    if rest != 0 {
        // SAFETY: what is left of both ranges behind the blocks, which keep the alignment.
        unsafe { move_rest::<STORE>(target.wrapping_add(blocks), source.wrapping_add(blocks), rest) };
    }
    if blocks != 0 {
        // SAFETY: a whole number of blocks, inside both ranges.
        unsafe { move_blocks(target, source, blocks) };
    }
}

/// Less than a block, without a loop: a part for each bit of the length, the last first.
///
/// # Safety
/// As [`move_bytes`]; the shared range is 8-aligned.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn move_rest<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    macro_rules! part {
        ($size:literal, $move:expr) => {
            if bytes & $size != 0 {
                // Behind the larger parts.
                let at = bytes & !(2 * $size - 1);
                // SAFETY: the bit says that this many bytes are left of both ranges there; the parts in front are multiples
                // of this size, so the shared one is aligned for it.
                unsafe { $move(target.wrapping_add(at), source.wrapping_add(at)) };
            }
        };
    }
    if bytes & 7 != 0 {
        part!(1, move_byte::<STORE>);
        part!(2, move_two_bytes::<STORE>);
        part!(4, move_half_word::<STORE>);
    }
    part!(8, move_word::<STORE>);
    part!(16, move_quarter_block);
    part!(32, move_half_block);
}

/// # Safety
/// As [`move_bytes`]; the shared range is 8-aligned.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn move_rest<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    let mut at = 0;
    while bytes - at >= 8 {
        // SAFETY: 8 bytes are left behind `at`, a multiple of 8.
        unsafe { move_word::<STORE>(target.wrapping_add(at), source.wrapping_add(at)) };
        at += 8;
    }
    while at < bytes {
        // SAFETY: `at` is inside both ranges.
        unsafe { move_byte::<STORE>(target.wrapping_add(at), source.wrapping_add(at)) };
        at += 1;
    }
}

/// # Safety
/// As [`move_bytes`], for any alignment.
#[cold]
unsafe fn move_unaligned<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    let shared = if STORE { target } else { source };
    let head = (8 - (shared.addr() & 7)).min(bytes);
    for at in 0..head {
        // SAFETY: `at` is inside both ranges.
        unsafe { move_byte::<STORE>(target.wrapping_add(at), source.wrapping_add(at)) };
    }
    if head < bytes {
        // SAFETY: what is left of both ranges behind `head`, where the shared one is 8-aligned.
        unsafe { move_aligned::<STORE>(target.wrapping_add(head), source.wrapping_add(head), bytes - head) };
    }
}

/// An integer, by one load and one store: relaxed and atomic on the side that is shared (or on both: see [`move_across`]),
/// wherever that one is aligned.
#[cfg(target_arch = "x86_64")]
macro_rules! move_integer {
    ($name:ident, $register:ident, $load:literal, $store:literal) => {
        /// # Safety
        /// Both are valid for the integer.
        #[inline(always)]
        unsafe fn $name<const STORE: bool>(target: *mut u8, source: *mut u8) {
            // SAFETY: the caller's contract.
            unsafe {
                core::arch::asm!(
                    $load,
                    $store,
                    source = in(reg) source,
                    target = in(reg) target,
                    value = out($register) _,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
move_integer!(move_word, reg, "mov {value}, [{source}]", "mov [{target}], {value}");
#[cfg(target_arch = "x86_64")]
move_integer!(move_half_word, reg, "mov {value:e}, [{source}]", "mov [{target}], {value:e}");
#[cfg(target_arch = "x86_64")]
move_integer!(move_two_bytes, reg, "movzx {value:e}, word ptr [{source}]", "mov [{target}], {value:x}");
#[cfg(target_arch = "x86_64")]
move_integer!(move_byte, reg_byte, "mov {value}, [{source}]", "mov [{target}], {value}");

/// One atomic access of the shared side's integer type, one plain access of the private side.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! move_integer {
    ($name:ident, $integer:ty, $atomic:ty) => {
        /// # Safety
        /// Both are valid for the integer; the shared one is aligned for it and only accessed atomically.
        #[inline(always)]
        unsafe fn $name<const STORE: bool>(target: *mut u8, source: *mut u8) {
            if STORE {
                // SAFETY: private memory, valid for the integer.
                let value = unsafe { source.cast::<$integer>().read_unaligned() };
                // SAFETY: the caller's contract.
                unsafe { <$atomic>::from_ptr(target.cast()) }.store(value, Relaxed);
            } else {
                // SAFETY: the caller's contract.
                let value = unsafe { <$atomic>::from_ptr(source.cast()) }.load(Relaxed);
                // SAFETY: private memory, valid for the integer.
                unsafe { target.cast::<$integer>().write_unaligned(value) };
            }
        }
    };
}
#[cfg(not(target_arch = "x86_64"))]
move_integer!(move_word, u64, AtomicU64);
#[cfg(not(target_arch = "x86_64"))]
move_integer!(move_byte, u8, AtomicU8);

/// What one turn of [`move_blocks`] moves: a cache line.
#[cfg(target_arch = "x86_64")]
const BLOCK_BYTES: usize = 64;
/// No blocks: words all the way.
#[cfg(not(target_arch = "x86_64"))]
const BLOCK_BYTES: usize = 1 << 62;

/// Cache lines in four moves each, the last first: stands for relaxed loads and stores in no promised order.
///
/// # Safety
/// Both are valid for `bytes`, a multiple of 64 but not 0, and do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn move_blocks(target: *mut u8, source: *mut u8, bytes: usize) {
    // SAFETY: the caller's contract; every x86-64 has SSE2.
    unsafe {
        core::arch::asm!(
            "2:",
            "sub {bytes}, 64",
            "movups {d}, [{source} + {bytes} + 48]",
            "movups {c}, [{source} + {bytes} + 32]",
            "movups {b}, [{source} + {bytes} + 16]",
            "movups {a}, [{source} + {bytes}]",
            "movups [{target} + {bytes} + 48], {d}",
            "movups [{target} + {bytes} + 32], {c}",
            "movups [{target} + {bytes} + 16], {b}",
            "movups [{target} + {bytes}], {a}",
            "jnz 2b",
            source = in(reg) source,
            target = in(reg) target,
            bytes = inout(reg) bytes => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
}

/// Half a block.
///
/// # Safety
/// Both are valid for 32 bytes and do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn move_half_block(target: *mut u8, source: *mut u8) {
    // SAFETY: the caller's contract; every x86-64 has SSE2.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{source}]",
            "movups {b}, [{source} + 16]",
            "movups [{target} + 16], {b}",
            "movups [{target}], {a}",
            source = in(reg) source,
            target = in(reg) target,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// A quarter of a block.
///
/// # Safety
/// Both are valid for 16 bytes and do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn move_quarter_block(target: *mut u8, source: *mut u8) {
    // SAFETY: the caller's contract; every x86-64 has SSE2.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{source}]",
            "movups [{target}], {a}",
            source = in(reg) source,
            target = in(reg) target,
            a = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// Never called: no range is that long.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn move_blocks(_: *mut u8, _: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_alignment_and_length_arrives_whole_and_touches_nothing_else() {
        for length in
            (0..150).chain([511, 512, 1023, 1024, 1025, 4095, 4096, 5000, 8191, 8192, 8200, 9001, 600_000])
        {
            for shift in 0..9 {
                let source: Vec<u8> = (0..length).map(|i| (i * 7 + shift) as u8 | 1).collect();
                let mut memory = vec![0u64; length / 8 + 4];
                let base = memory.as_mut_ptr().cast::<u8>();
                let mut back = vec![0; length];
                // SAFETY: `shift + length` bytes fit the vector, with at least 8 to spare.
                unsafe { store_bytes(base.wrapping_add(shift), &source) };
                // SAFETY: as above.
                unsafe { load_bytes(base.wrapping_add(shift), &mut back) };
                assert_eq!(back, source, "{length} bytes at {shift}");
                let written =
                    memory.iter().flat_map(|word| word.to_ne_bytes()).filter(|byte| *byte != 0).count();
                assert_eq!(written, length, "{length} bytes at {shift}");
            }
        }
    }

    #[test]
    fn from_shared_to_shared_memory_too() {
        for length in (0..150).chain([511, 512, 1000, 1024, 1025, 4096, 9001]) {
            for (from, to) in [(0, 0), (8, 0), (0, 24), (3, 0), (0, 5), (7, 2)] {
                let mut source: Vec<u64> =
                    (0..length as u64 / 8 + 4).map(|i| (i << 8 | 1) * 0x0101).collect();
                let mut target = vec![0u64; length / 8 + 5];
                let [base, beyond] =
                    [&mut source, &mut target].map(|memory| memory.as_mut_ptr().cast::<u8>());
                // SAFETY: at most 31 bytes more than `length` lie in both.
                unsafe { move_across(beyond.wrapping_add(to), base.wrapping_add(from), length) };
                let bytes = |memory: &[u64]| -> Vec<u8> {
                    memory.iter().flat_map(|word| word.to_ne_bytes()).collect()
                };
                let (sent, arrived) = (bytes(&source), bytes(&target));
                assert_eq!(arrived[to..to + length], sent[from..from + length], "{length}: {from} to {to}");
                let around = arrived[..to].iter().chain(&arrived[to + length..]);
                assert!(around.into_iter().all(|byte| *byte == 0), "{length}: {from} to {to}");
            }
        }
    }
}
