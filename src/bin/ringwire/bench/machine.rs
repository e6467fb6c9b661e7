//! Cores, steal time, and pauses.

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// The cores that this process was given when it started.
fn given() -> io::Result<&'static CpuSet> {
    static GIVEN: OnceLock<CpuSet> = OnceLock::new();
    match GIVEN.get() {
        Some(given) => Ok(given),
        None => {
            let now = sched_getaffinity(Pid::from_raw(0))?;
            Ok(GIVEN.get_or_init(|| now))
        }
    }
}

/// The numbers of those cores.
pub fn cores() -> io::Result<Vec<usize>> {
    let given = given()?;
    Ok((0..CpuSet::count()).filter(|core| given.is_set(*core).unwrap_or(false)).collect())
}

/// Binds the calling thread to the `index`-th of the cores that the process was given (modulo their number).
pub fn pin(index: usize) -> io::Result<()> {
    let cores = cores()?;
    let mut only = CpuSet::new();
    only.set(cores[index % cores.len().max(1)])?;
    sched_setaffinity(Pid::from_raw(0), &only)?;
    Ok(())
}

/// Lets the calling thread run again on every core that the process was given: also what a new process inherits.
pub fn unpin() -> io::Result<()> {
    sched_setaffinity(Pid::from_raw(0), given()?)?;
    Ok(())
}

/// Allows as many descriptors as may be: a connection takes one or two. New processes inherit it.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// Time that the host took from this virtual machine since it started, in ticks of 10 ms, over all cores.
pub fn steal_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}

/// Keeps the processor busy for `pause`.
pub fn busy_wait(pause: Duration) {
    if pause.is_zero() {
        return;
    }
    let started = Instant::now();
    while started.elapsed() < pause {
        std::hint::spin_loop();
    }
}
