//! Hints to the processor: which lines will be wanted soon.

#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Asks for the line of `address`, to be read soon. A hint: any address will do.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn for_reading(address: *mut u8) {
    // SAFETY: accesses no memory as far as the program can tell, and does not fault.
    unsafe {
        core::arch::asm!("prefetcht0 [{line}]", line = in(reg) address, options(nostack, preserves_flags))
    };
}

/// Asks for the lines of `bytes` from `address` on, to be written soon. A hint: any address will do.
///
/// # Safety
/// The processor has AVX: such a one takes the instruction, if perhaps as one that does nothing; the first ones with 64-bit
/// mode do not all (AMD APM vol. 3, PREFETCHW; Intel SDM vol. 2, PREFETCHW).
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn for_writing(address: *mut u8, bytes: usize) {
    let into_line = address.addr() % LINE_BYTES;
    let first = address.wrapping_sub(into_line);
    for line in (0..into_line + bytes).step_by(LINE_BYTES) {
        // SAFETY: changes no memory as far as the program can tell, and does not fault; the caller's contract.
        unsafe {
            core::arch::asm!(
                "prefetchw [{line}]",
                line = in(reg) first.wrapping_add(line),
                options(nostack, preserves_flags)
            );
        }
    }
}

/// No hint.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn for_reading(_: *mut u8) {}
