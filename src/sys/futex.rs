//! The futex between processes: without `FUTEX_PRIVATE_FLAG`, which std, parking_lot and atomic-wait all set.

use core::ptr;

/// Sleeps while the word at `address` holds `expected`, at most until `until_ns` (`CLOCK_MONOTONIC`, `u64::MAX`: for
/// ever).
///
/// A signal does not end the wait: the deadline is absolute, so the call is simply made again. May return early for no
/// reason, as futexes do. Any address is safe to pass: the kernel reads it, and answers `EFAULT` where there is nothing.
#[allow(clippy::not_unsafe_ptr_arg_deref, reason = "the kernel checks the address")]
pub fn futex_wait(address: *const u32, expected: u32, until_ns: u64) {
    let until = libc::timespec {
        tv_sec: libc::time_t::try_from(until_ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(until_ns % 1_000_000_000).unwrap_or(0),
    };
    let timeout = if until_ns == u64::MAX { ptr::null() } else { ptr::from_ref(&until) };
    loop {
        // FUTEX_WAIT_BITSET because plain FUTEX_WAIT takes a relative timeout.
        // SAFETY: the kernel only reads the word and the timespec, which outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                address,
                libc::FUTEX_WAIT_BITSET,
                expected,
                timeout,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        if result == 0 || nix::errno::Errno::last() != nix::errno::Errno::EINTR {
            return;
        }
    }
}

/// Wakes one thread, of any process, that sleeps on the word at `address`; says whether there was one.
#[allow(clippy::not_unsafe_ptr_arg_deref, reason = "the kernel only compares the address")]
pub fn futex_wake(address: *const u32) -> bool {
    // SAFETY: the kernel uses the address as a key and does not access what is there.
    let woken = unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, 1) };
    woken > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_and_a_past_deadline_return_at_once() {
        let word = 7u32;
        futex_wait(&word, 8, u64::MAX);
        futex_wait(&word, 7, 1);
        assert!(!futex_wake(&word));
    }

    #[test]
    fn no_memory_is_no_harm() {
        futex_wait(ptr::null(), 0, u64::MAX);
        futex_wait(ptr::without_provenance(3), 0, u64::MAX);
    }
}
