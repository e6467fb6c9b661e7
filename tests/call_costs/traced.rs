//! Threads of second processes, stopped by a debugger: this thread, which has started their processes.

use std::arch::asm;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

/// The debugger takes over here.
#[inline(always)]
pub(crate) fn breakpoint() {
    // SAFETY: the trap is the tracer's; nothing is read or written.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// In a second process: from here on the parent's thread traces this one. Says which it is.
pub(crate) fn trace_me() -> i32 {
    ptrace::traceme().unwrap();
    gettid().as_raw()
}

const TRAP_TRACE: i32 = 2;

/// Waits for a thread that this one traces; `None` for any of them.
pub(crate) fn wait(thread: Option<Pid>) -> WaitStatus {
    waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap()
}

/// Waits until a thread is at a breakpoint.
pub(crate) fn until_breakpoint(thread: Pid) {
    assert_eq!(wait(Some(thread)), WaitStatus::Stopped(thread, Signal::SIGTRAP));
    assert!(is_at_breakpoint(thread));
}

/// And not behind a step.
fn is_at_breakpoint(thread: Pid) -> bool {
    ptrace::getsiginfo(thread).unwrap().si_code != TRAP_TRACE
}

/// Goes from one breakpoint to the next, with a look at each instruction in between; how many there were.
#[cfg(not(coverage))]
pub(crate) fn step_through(thread: Pid, mut look: impl FnMut(u64)) -> u64 {
    let mut steps = 0;
    loop {
        look(ptrace::getregs(thread).unwrap().rip);
        ptrace::step(thread, None).unwrap();
        assert_eq!(wait(Some(thread)), WaitStatus::Stopped(thread, Signal::SIGTRAP));
        if is_at_breakpoint(thread) {
            return steps;
        }
        steps += 1;
    }
}

/// The bytes of the code at `address`.
#[cfg(not(coverage))]
pub(crate) fn code(thread: Pid, address: u64) -> [u8; 8] {
    ptrace::read(thread, address as ptrace::AddressType).unwrap().to_ne_bytes()
}
