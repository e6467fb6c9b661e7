//! The latency class: threads that answer first, because they own a core's attention.

use std::marker::PhantomData;
use std::sync::{Arc, Once};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{Error, ErrorKind};
use crate::sync::Permits;
use crate::sys::Scheduling;
use crate::wait::{WaitStrategy, online_cores};

/// The real-time priority of the latency class unless asked otherwise: above every thread without one, below the
/// kernel's own (interrupt threads have 50).
pub const DEFAULT_LATENCY_PRIORITY: i32 = 10;

/// 0 is the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// What the threads of one core share, of which one polls at a time: more would pass the core on to each other.
#[derive(Clone, Debug)]
pub(crate) struct CorePoller(Arc<Permits>);

impl CorePoller {
    pub(crate) fn new() -> Self {
        // The only core of a machine is everybody's.
        Self(Arc::new(Permits::new(u64::from(online_cores() > 1))))
    }

    pub(super) fn permits(&self) -> Arc<Permits> {
        Arc::clone(&self.0)
    }
}

/// A thread's membership of the latency class: see [`enter_latency_class`]. Dropped, it gives the thread back the cores
/// and the scheduling that it had.
///
/// It stays with the thread that entered; for a thread that never leaves, [`std::mem::forget`] it.
#[derive(Debug)]
#[must_use = "dropped, it leaves the latency class at once"]
pub struct LatencyGuard {
    core: u32,
    cores_before: CpuSet,
    /// `None` if it was not changed.
    scheduling_before: Option<Scheduling>,
    realtime: bool,
    /// Not `Send`: what it restores is its own thread's.
    of_this_thread: PhantomData<*const ()>,
}

impl LatencyGuard {
    /// The core that the thread runs on.
    #[must_use]
    pub fn core(&self) -> u32 {
        self.core
    }

    /// How the thread should wait on its connection: [`WaitStrategy::YieldThenPark`] with a real-time priority, else
    /// [`WaitStrategy::ParkAtOnce`].
    #[must_use]
    pub fn wait_strategy(&self) -> WaitStrategy {
        if self.realtime { WaitStrategy::YieldThenPark } else { WaitStrategy::ParkAtOnce }
    }

    /// Whether the thread has a real-time priority. Without one it shares the core with whatever else runs there.
    #[must_use]
    pub fn is_realtime(&self) -> bool {
        self.realtime
    }
}

impl Drop for LatencyGuard {
    fn drop(&mut self) {
        let scheduling = self.scheduling_before.map_or(Ok(()), Scheduling::restore);
        let cores = sched_setaffinity(THIS_THREAD, &self.cores_before);
        if let Err(error) = scheduling.and(cores) {
            log::warn!("a thread leaves the latency class, and keeps some of it: {error}");
        }
    }
}

/// Puts the calling thread into the latency class until the guard is dropped: it runs on `core` alone, under
/// `SCHED_FIFO` with `priority` (1 to 99, as a rule [`DEFAULT_LATENCY_PRIORITY`]).
///
/// For both ends of a connection on *one* core: what sleeps there is woken without a message to another core, and
/// nothing without a real-time priority is in front of it. The two must not spin while they wait, or they starve each
/// other: [`LatencyGuard::wait_strategy`] says what to do instead. Cores are
/// numbered from 0, as in `/proc/cpuinfo`. A thread that has a higher real-time priority already keeps it. The thread's
/// own children do not inherit the priority, but they do inherit the core.
///
/// Give both ends the same priority (the server's has [`DEFAULT_LATENCY_PRIORITY`]): then who waits yields the core to the
/// other, which answers without a system call to wake anybody, and goes to sleep when the answer has been read (unless it
/// [keeps its core](crate::server::ServerBuilder::latency_busy_poll)). What is called rarely is best
/// [rehearsed](crate::client::rehearse_until). `ringwire bench latency` measures it beside 999 busy connections.
///
/// A real-time priority needs `CAP_SYS_NICE`, or a limit of at least `priority` (`ulimit -r`, `RLIMIT_RTPRIO`). Where it
/// is refused the thread keeps to the core alone; the first time in a process, a warning is logged.
///
/// The kernel reserves 5 % of a core's time for the other threads (`/proc/sys/kernel/sched_rt_runtime_us`): a real-time
/// thread that never sleeps is held up for 50 ms in every second.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a core that this process may not use, or a priority out of range;
/// [`ErrorKind::PermissionDenied`] where a sandbox refuses to bind a thread to a core. Nothing is changed then.
///
/// # Examples
/// ```
/// use ringwire::transport::{DEFAULT_LATENCY_PRIORITY, enter_latency_class};
/// let guard = enter_latency_class(0, DEFAULT_LATENCY_PRIORITY)?;
/// println!("on core {}, real-time: {}", guard.core(), guard.is_realtime());
/// // Client::builder(path).latency_class(0).strategy(guard.wait_strategy()).connect()
/// drop(guard); // as before
/// # Ok::<(), ringwire::Error>(())
/// ```
pub fn enter_latency_class(core: u32, priority: i32) -> Result<LatencyGuard, Error> {
    if !(1..=99).contains(&priority) {
        let message = format!("real-time priority {priority} is out of range: choose one from 1 to 99");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let asking = |error| Error::system("asking for this thread's cores and scheduling", error);
    let cores_before = sched_getaffinity(THIS_THREAD).map_err(asking)?;
    let scheduling = Scheduling::current().map_err(asking)?;
    bind_to(core)?;
    let mut guard = LatencyGuard {
        core,
        cores_before,
        scheduling_before: None,
        realtime: scheduling.realtime_priority() >= priority,
        of_this_thread: PhantomData,
    };
    if !guard.realtime {
        match Scheduling::fifo(priority).apply() {
            Ok(()) => (guard.scheduling_before, guard.realtime) = (Some(scheduling), true),
            Err(error) => warn_once(priority, error),
        }
    }
    Ok(guard)
}

fn bind_to(core: u32) -> Result<(), Error> {
    let mut only = CpuSet::new();
    let bound = only.set(core as usize).and_then(|()| sched_setaffinity(THIS_THREAD, &only));
    bound.map_err(|error| match error {
        Errno::EINVAL => {
            let message = format!(
                "core {core} is none that this process may run on: choose one of \
                 /sys/devices/system/cpu/online that its cpuset allows"
            );
            Error::new(ErrorKind::InvalidInput, message)
        }
        _ => Error::system(format!("binding this thread to core {core}"), error),
    })
}

#[cold]
fn warn_once(priority: i32, error: Errno) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        log::warn!(
            "the latency class goes on without real-time priority {priority} ({error}): its threads keep to their \
             core, but wait there behind other threads. Give the process CAP_SYS_NICE, or a limit of at least \
             {priority} (`ulimit -r`)"
        );
    });
}
