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
    let mut line = address.wrapping_sub(address.addr() % LINE_BYTES);
    let end = address.wrapping_add(bytes);
    while line < end {
        // SAFETY: changes no memory as far as the program can tell, and does not fault; the caller's contract.
        unsafe {
            core::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags));
        }
        line = line.wrapping_add(LINE_BYTES);
    }
}

/// No hint.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn for_reading(_: *mut u8) {}
