//! Real-time scheduling, which `nix` does not cover.

use nix::errno::Errno;

/// In a policy: what the thread starts does not inherit it. `libc` has no name for it on glibc.
const RESET_ON_FORK: i32 = 0x4000_0000;

/// A thread's scheduling policy with its priority.
///
/// ```
/// use ringwire::sys::Scheduling;
/// let before = Scheduling::current()?;
/// if Scheduling::fifo(10).apply().is_ok() {
///     assert_eq!(Scheduling::current()?.realtime_priority(), 10);
///     before.restore()?;
/// }
/// # Ok::<(), nix::errno::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    policy: i32,
    priority: i32,
}

impl Scheduling {
    /// `SCHED_FIFO` with `priority` (1 to 99), for one thread alone: what it starts is scheduled as usual.
    #[must_use]
    pub const fn fifo(priority: i32) -> Self {
        Self { policy: libc::SCHED_FIFO | RESET_ON_FORK, priority }
    }

    /// That of the calling thread.
    ///
    /// # Errors
    /// None that the kernel documents for the calling thread; a sandbox may refuse the question.
    pub fn current() -> nix::Result<Self> {
        // Not libc's functions: some C libraries refuse them because their meaning is a thread's, not a process's.
        // SAFETY: takes a thread id only; 0 is the calling thread.
        let policy = Errno::result(unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) })?;
        let mut parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel writes the struct, which outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut parameters) };
        Errno::result(result)?;
        // The kernel's answer is an int.
        Ok(Self { policy: i32::try_from(policy).unwrap_or(0), priority: parameters.sched_priority })
    }

    /// The priority under `SCHED_FIFO` and `SCHED_RR` (1 to 99), 0 under any other policy.
    #[must_use]
    pub const fn realtime_priority(self) -> i32 {
        match self.policy & !RESET_ON_FORK {
            libc::SCHED_FIFO | libc::SCHED_RR => self.priority,
            _ => 0,
        }
    }

    /// Gives it to the calling thread. The nice value stays.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_NICE` or a sufficient `RLIMIT_RTPRIO`; `EINVAL` for a priority out of range.
    pub fn apply(self) -> nix::Result<()> {
        let parameters = libc::sched_param { sched_priority: self.priority };
        // SAFETY: the kernel reads the struct, which outlives the call; 0 is the calling thread.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, self.policy, &raw const parameters) };
        Errno::result(result).map(drop)
    }

    /// Gives the calling thread back what [`current`](Self::current) found before [`fifo`](Self::fifo) was applied.
    ///
    /// Without `CAP_SYS_NICE` one mark stays: the kernel lets nobody else allow what the thread starts to inherit a
    /// policy again. That matters only to a thread which had been real-time before.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn restore(self) -> nix::Result<()> {
        match self.apply() {
            Err(Errno::EPERM) => Self { policy: self.policy | RESET_ON_FORK, ..self }.apply(),
            other => other,
        }
    }
}

/// Asks for turns of `slice_ns` nanoseconds for the calling thread (Linux 6.12: 0.1 to 100 ms, clamped; older kernels ignore
/// it). Its share of the processor stays the same: shorter turns come sooner. Nothing happens to a thread with another
/// policy than the usual one.
///
/// # Errors
/// `EPERM` or `ENOSYS` where a sandbox refuses the call.
pub fn set_time_slice(slice_ns: u64) -> nix::Result<()> {
    let mut attributes = attributes()?;
    if attributes.sched_policy.cast_signed() != libc::SCHED_OTHER {
        return Ok(());
    }
    attributes.sched_runtime = slice_ns;
    // SAFETY: the kernel reads as many bytes as the struct says; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(result).map(drop)
}

/// What [`set_time_slice`] set for the calling thread, or what the kernel uses otherwise, in nanoseconds; 0 from kernels
/// that do not know it.
///
/// # Errors
/// As [`set_time_slice`].
pub fn time_slice_ns() -> nix::Result<u64> {
    attributes().map(|attributes| attributes.sched_runtime)
}

fn attributes() -> nix::Result<libc::sched_attr> {
    const BYTES: usize = size_of::<libc::sched_attr>();
    let mut attributes = libc::sched_attr {
        size: BYTES as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most as many bytes as it is told, which the struct has; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, BYTES, 0) };
    Errno::result(result).map(|_| attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_slice_is_kept_within_the_kernels_limits_and_real_time_threads_have_none() {
        let before = time_slice_ns().unwrap();
        set_time_slice(700_000).unwrap();
        // Kernels before 6.12 say 0.
        assert!([700_000, before].contains(&time_slice_ns().unwrap()));
        set_time_slice(1).unwrap();
        assert!(time_slice_ns().unwrap() == before || time_slice_ns().unwrap() >= 100_000);
        if Scheduling::fifo(1).apply().is_ok() {
            assert_eq!(set_time_slice(700_000), Ok(()));
            assert_eq!(Scheduling::current().unwrap().realtime_priority(), 1);
        }
    }

    #[test]
    fn a_priority_out_of_range_is_refused() {
        let before = Scheduling::current().unwrap();
        assert_eq!(Scheduling::fifo(1000).apply(), Err(Errno::EINVAL));
        assert_eq!(Scheduling::current(), Ok(before));
    }

    #[test]
    fn only_real_time_policies_have_a_priority() {
        assert_eq!(Scheduling::fifo(7).realtime_priority(), 7);
        assert_eq!(Scheduling { policy: libc::SCHED_RR, priority: 3 }.realtime_priority(), 3);
        assert_eq!(Scheduling { policy: libc::SCHED_OTHER, priority: 0 }.realtime_priority(), 0);
    }
}
