//! Hints to the processor: which lines will be wanted soon.

/// Asks for the line of `address`, to be read soon. A hint: any address will do.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn for_reading(address: *mut u8) {
    // SAFETY: accesses no memory as far as the program can tell, and does not fault.
    unsafe {
        core::arch::asm!("prefetcht0 [{line}]", line = in(reg) address, options(nostack, preserves_flags))
    };
}

/// Asks for the lines of `bytes` from `address` on, and up to three more, to be written soon. A hint: any address will do.
///
/// Every processor with 64-bit mode takes the instruction, some as one that does nothing (AMD APM vol. 3, PREFETCHW; Intel
/// SDM vol. 2, PREFETCHW).
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn for_writing(address: *mut u8, bytes: usize) {
    for four_lines in (0..bytes).step_by(256) {
        // SAFETY: changes no memory as far as the program can tell, and does not fault.
        unsafe {
            core::arch::asm!(
                "prefetchw [{line}]",
                "prefetchw [{line} + 64]",
                "prefetchw [{line} + 128]",
                "prefetchw [{line} + 192]",
                line = in(reg) address.wrapping_add(four_lines),
                options(nostack, preserves_flags)
            );
        }
    }
}

/// No hint.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn for_reading(_: *mut u8) {}
