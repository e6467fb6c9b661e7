//! Copies of many cache lines, in the way that suits their number; out of the path of the small ones.

use super::{BLOCK_BYTES, move_blocks, move_rest};
use crate::sync::prefetch;

/// From this many bytes on a copy uses the processor's string move; below it that takes longer to start than it saves.
const COPY_BY_STRING_BYTES: usize = 4096;
/// Copies in of this size go past the caches: see [`store_past_cache`]. Of shorter ones a near core has more from the cache;
/// longer ones the string move keeps out of it by itself.
const PAST_CACHE_BYTES: core::ops::Range<usize> = 8 << 10..512 << 10;

/// Stores take the lines of their target one after the other, and so they are asked for first (1 KiB round trips between
/// two distant cores: 1.9 -> 1.5 us).
///
/// # Safety
/// As [`super::move_bytes`], and the shared range is 8-aligned; at least [`super::LARGE_BYTES`].
#[inline(never)]
pub(super) unsafe fn move_large<const STORE: bool>(target: *mut u8, source: *mut u8, bytes: usize) {
    if STORE && PAST_CACHE_BYTES.contains(&bytes) {
        // SAFETY: the caller's contract; longer than a line.
        return unsafe { store_past_cache(target, source, bytes) };
    }
    if bytes >= COPY_BY_STRING_BYTES {
        // SAFETY: the caller's contract.
        return unsafe { string_move(target, source, bytes) };
    }
    // What lies in the target's first line, if it is a part of that.
    let head = if STORE { target.addr().wrapping_neg() % BLOCK_BYTES } else { 0 };
    let (first_target, first_source) = (target, source);
    let (target, source, bytes) = (target.wrapping_add(head), source.wrapping_add(head), bytes - head);
    let rest = bytes % BLOCK_BYTES;
    let lines = bytes - rest;
    if std::arch::is_x86_feature_detected!("avx") {
        if STORE {
            // SAFETY: the processor has AVX.
            unsafe { prefetch::for_writing(target, bytes) };
        }
        // SAFETY: a whole number of lines, inside both ranges; the processor has AVX.
        unsafe { move_lines(target, source, lines) };
    } else {
        // SAFETY: a whole number of lines, inside both ranges.
        unsafe { move_blocks(target, source, lines) };
    }
    // SAFETY: what is left of both ranges behind the lines, which keep the alignment.
    unsafe { move_rest::<STORE>(target.wrapping_add(lines), source.wrapping_add(lines), rest) };
    // SAFETY: what is left of both ranges in front of them; 8-aligned, as the caller's target.
    unsafe { move_rest::<STORE>(first_target, first_source, head) };
}

/// As [`super::move_blocks`], a line in two moves (1 KiB round trips between two distant cores: 1.47 -> 1.33 us; between
/// near ones 0.46 -> 0.43).
///
/// # Safety
/// As [`super::move_blocks`].
#[target_feature(enable = "avx")]
unsafe fn move_lines(target: *mut u8, source: *mut u8, bytes: usize) {
    // SAFETY: the caller's contract. Both addresses are those of the ends, less what is left. The upper half of every wide
    // register ends as 0, so none of them is the caller's meanwhile.
    unsafe {
        core::arch::asm!(
            "2:",
            "vmovups ymm0, [{source} + rcx]",
            "vmovups ymm1, [{source} + rcx + 32]",
            "vmovups [{target} + rcx], ymm0",
            "vmovups [{target} + rcx + 32], ymm1",
            "add rcx, 64",
            "jnz 2b",
            "vzeroupper",
            source = in(reg) source.wrapping_add(bytes),
            target = in(reg) target.wrapping_add(bytes),
            inout("rcx") bytes.wrapping_neg() => _,
            clobber_abi("sysv64"),
            options(nostack)
        );
    }
}

/// `rep movsb`: relaxed byte moves in no promised order, all done before a later store is visible (stores of one string
/// move may pass each other, but not what follows: Intel SDM vol. 3, 9.2.4.2).
///
/// # Safety
/// Both ranges are valid for `bytes` and do not overlap.
#[inline(always)]
unsafe fn string_move(target: *mut u8, source: *mut u8, bytes: usize) {
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

/// Stores that leave the line to no cache: what a core has written into its own cache, another core fetches line by line, a
/// dozen at a time; from memory (or the cache that they share) the lines come in a stream. (64 KiB messages one way
/// between two cores of different caches: 2.2 -> 14 GB/s; of one cache: 8 -> 14. Round trips of 8 KiB: 8.9 -> 3.5 us, and
/// 2.4 -> 2.9.)
///
/// Relaxed stores in no promised order, all done before a later store is visible: the fence at the end (Intel SDM vol. 3,
/// 9.2.5 and 11.3.1; AMD APM vol. 2, 7.4.1).
///
/// # Safety
/// Both ranges are valid for `bytes`, at least 64, and do not overlap; the target is 8-aligned.
#[inline(never)]
unsafe fn store_past_cache(target: *mut u8, source: *mut u8, bytes: usize) {
    let head = target.addr().wrapping_neg() % BLOCK_BYTES;
    // SAFETY: less than a block, and so no more than there is; 8-aligned.
    unsafe { move_rest::<true>(target, source, head) };
    let (target, source, bytes) = (target.wrapping_add(head), source.wrapping_add(head), bytes - head);
    let rest = bytes % BLOCK_BYTES;
    let lines = bytes - rest;
    if lines != 0 {
        // SAFETY: a whole number of lines inside both ranges, at a line's start of the target; every x86-64 has SSE2.
        unsafe {
            core::arch::asm!(
                "2:",
                "movups {a}, [{source}]",
                "movups {b}, [{source} + 16]",
                "movups {c}, [{source} + 32]",
                "movups {d}, [{source} + 48]",
                "movntdq [{target}], {a}",
                "movntdq [{target} + 16], {b}",
                "movntdq [{target} + 32], {c}",
                "movntdq [{target} + 48], {d}",
                "add {source}, 64",
                "add {target}, 64",
                "sub {bytes}, 64",
                "jnz 2b",
                "sfence",
                source = inout(reg) source => _,
                target = inout(reg) target => _,
                bytes = inout(reg) lines => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack)
            );
        }
    }
    // SAFETY: what is left of both ranges behind the lines.
    unsafe { move_rest::<true>(target.wrapping_add(lines), source.wrapping_add(lines), rest) };
}
