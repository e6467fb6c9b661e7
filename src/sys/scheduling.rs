//! Real-time scheduling, which `nix` does not cover.

use nix::errno::Errno;

/// Gives the calling thread `SCHED_FIFO` with `priority` (1 to 99).
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` or a sufficient `RLIMIT_RTPRIO`; `EINVAL` for a priority out of range.
pub fn set_realtime_priority(priority: i32) -> nix::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads the struct, which outlives the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_out_of_range_is_refused() {
        assert_eq!(set_realtime_priority(1000), Err(Errno::EINVAL));
    }
}
