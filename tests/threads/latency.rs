//! The latency class and the limit of descriptors, as root and as anybody else.

use std::fs::File;
use std::sync::Mutex;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use ringwire::ErrorKind;
use ringwire::sys::Scheduling;
use ringwire::transport::{DEFAULT_LATENCY_PRIORITY, enter_latency_class, raise_fd_limit};

use super::become_nobody;
use super::common::{Watchdog, second};

fn cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap()).collect()
}

/// The last core that this process may use.
fn core() -> u32 {
    u32::try_from(*cores().last().unwrap()).unwrap()
}

/// Everything about the calling thread that the latency class changes.
fn situation() -> (Vec<usize>, Scheduling) {
    (cores(), Scheduling::current().unwrap())
}

/// Whether this process may have real-time priorities, by trying.
fn may_be_realtime(priority: i32) -> bool {
    thread::spawn(move || Scheduling::fifo(priority).apply().is_ok()).join().unwrap()
}

#[test]
fn a_thread_of_the_latency_class_has_a_core_and_a_priority_until_it_leaves() {
    let _watchdog = Watchdog::start();
    let (before, core) = (situation(), core());
    let guard = enter_latency_class(core, DEFAULT_LATENCY_PRIORITY).unwrap();
    assert_eq!((guard.core(), guard.is_realtime()), (core, may_be_realtime(DEFAULT_LATENCY_PRIORITY)));
    assert_eq!(cores(), [core as usize]);
    let priority = if guard.is_realtime() { DEFAULT_LATENCY_PRIORITY } else { 0 };
    assert_eq!(situation().1.realtime_priority(), priority);
    // What it starts is on its core, but not in its way.
    let (of_child, scheduling) = thread::spawn(situation).join().unwrap();
    assert_eq!((of_child, scheduling.realtime_priority()), (cores(), 0));
    let again = enter_latency_class(core, DEFAULT_LATENCY_PRIORITY).unwrap();
    assert_eq!(again.is_realtime(), guard.is_realtime());
    drop(again);
    assert_eq!(situation().1.realtime_priority(), priority);
    drop(guard);
    assert_eq!(situation(), before);
}

#[test]
fn a_higher_priority_is_kept() {
    let _watchdog = Watchdog::start();
    if may_be_realtime(20) {
        Scheduling::fifo(20).apply().unwrap();
        let before = situation();
        let guard = enter_latency_class(core(), 10).unwrap();
        assert!(guard.is_realtime());
        assert_eq!(situation().1, before.1);
        drop(guard);
        assert_eq!(situation(), before);
    }
}

#[test]
fn a_core_or_a_priority_that_there_is_not_changes_nothing() {
    let _watchdog = Watchdog::start();
    let before = situation();
    for (core, priority) in [(1_023, 10), (u32::MAX, 10), (core(), 0), (core(), 100), (core(), -1)] {
        let error = enter_latency_class(core, priority).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("choose one"), "{error}");
        assert_eq!(situation(), before);
    }
}

/// Keeps what is logged.
struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

static LOG: Log = Log(Mutex::new(Vec::new()));

/// The second process: nobody in particular, first with real-time priorities if they can be granted (a sandbox may
/// refuse them nevertheless), then without.
pub(crate) fn unprivileged() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let granted = setrlimit(Resource::RLIMIT_RTPRIO, 30, 30).is_ok();
    let (before, core) = (situation(), core());
    // Privileges that are lost meanwhile do not keep a thread in the class.
    let guard = enter_latency_class(core, 30);
    become_nobody();
    drop(guard);
    assert_eq!((cores(), situation().1.realtime_priority()), (before.0, 0));
    if granted && may_be_realtime(30) {
        let guard = enter_latency_class(core, 30).unwrap();
        assert!(guard.is_realtime());
        drop(guard);
        assert_eq!(situation().1.realtime_priority(), 0);
    }
    setrlimit(Resource::RLIMIT_RTPRIO, 0, 0).unwrap();
    for _ in 0..2 {
        thread::spawn(move || {
            let before = situation();
            for _ in 0..3 {
                let guard = enter_latency_class(core, DEFAULT_LATENCY_PRIORITY).unwrap();
                assert!(!guard.is_realtime());
                assert_eq!((cores(), situation().1), (vec![core as usize], before.1));
                drop(guard);
                assert_eq!(situation(), before);
            }
        })
        .join()
        .unwrap();
    }
    let logged = LOG.0.lock().unwrap();
    assert!(logged.len() == 1 && logged[0].starts_with("WARN"), "{logged:?}");
    assert!(logged[0].contains("CAP_SYS_NICE") && logged[0].contains("ulimit -r"), "{logged:?}");
}

#[test]
fn without_the_privilege_the_core_is_enough_and_one_warning_says_what_is_missing() {
    let _watchdog = Watchdog::start();
    second("unprivileged", &[]).join();
}

/// The second process: as most systems start one, with few descriptors and a limit that can be lifted.
pub(crate) fn descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let open = || (0..100).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>();
    assert!(open().is_err());
    assert_eq!(raise_fd_limit().unwrap(), (64, hard));
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    assert_eq!(raise_fd_limit().unwrap(), (hard, hard));
    open().unwrap();
}

#[test]
fn the_limit_of_descriptors_is_lifted_on_request() {
    let _watchdog = Watchdog::start();
    second("descriptors", &[]).join();
}
