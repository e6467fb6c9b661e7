//! Where threads end: shutdown, and machines that start no more of them.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::common::{Watchdog, second, wait_until};
use super::threads::{ThreadCounts, Threads};
use super::{LONG, alive, become_nobody, cache};

/// A job that lasts until the sender is dropped.
fn keep_busy(threads: &Threads) -> Sender<()> {
    let (end, ended) = channel();
    threads.reserve().unwrap().run(Box::new(move || _ = ended.recv()));
    end
}

fn after(limit: Duration) -> Option<Instant> {
    Some(Instant::now() + limit)
}

#[test]
fn shutting_down_ends_the_idle_waits_for_the_busy_and_says_who_is_left() {
    let _watchdog = Watchdog::start();
    let threads = cache("shut", 64, LONG);
    drop((0..20).map(|_| threads.reserve().unwrap()).collect::<Vec<_>>());
    let (first, second) = (keep_busy(&threads), keep_busy(&threads));
    assert_eq!(threads.counts(), ThreadCounts { alive: 20, idle: 18, busy: 2 });
    assert_eq!(threads.shut_down(after(Duration::ZERO)), 2);
    assert_eq!(threads.counts(), ThreadCounts { alive: 2, idle: 0, busy: 2 });
    wait_until(|| alive("shut") == 2);

    assert_eq!(threads.reserve().unwrap_err().kind(), io::ErrorKind::Other);
    drop(first);
    let started = Instant::now();
    assert_eq!(threads.shut_down(after(Duration::from_millis(50))), 1);
    assert!(started.elapsed() >= Duration::from_millis(50));

    let ends_later = thread::spawn(|| {
        thread::sleep(Duration::from_millis(50));
        drop(second);
    });
    assert_eq!(threads.shut_down(None), 0);
    assert_eq!(threads.counts(), ThreadCounts { alive: 0, idle: 0, busy: 0 });
    ends_later.join().unwrap();
    // Joined; the kernel takes its entry away a moment later.
    wait_until(|| alive("shut") == 0);
    assert_eq!(threads.shut_down(after(Duration::ZERO)), 0);
}

#[test]
fn a_reservation_that_shutting_down_overtakes_still_serves_or_ends() {
    let _watchdog = Watchdog::start();
    let threads = cache("overtake", 64, LONG);
    let (one, two) = (threads.reserve().unwrap(), threads.reserve().unwrap());
    assert_eq!(threads.shut_down(after(Duration::from_millis(20))), 2);
    let (tell, told) = channel();
    one.run(Box::new(move || tell.send(()).unwrap()));
    told.recv().unwrap();
    drop(two);
    assert_eq!(threads.shut_down(None), 0);
    wait_until(|| alive("overtake") == 0);
}

#[test]
fn a_dropped_cache_ends_its_threads_even_from_one_of_them() {
    let _watchdog = Watchdog::start();
    let threads = cache("dropped", 64, LONG);
    drop((0..5).map(|_| threads.reserve().unwrap()).collect::<Vec<_>>());
    let end = keep_busy(&threads);
    drop(threads);
    wait_until(|| alive("dropped") == 1);
    drop(end);
    wait_until(|| alive("dropped") == 0);

    let threads = cache("inside", 64, LONG);
    let reserved = threads.reserve().unwrap();
    drop(threads.reserve().unwrap());
    let (tell, told) = channel();
    reserved.run(Box::new(move || {
        tell.send(threads.shut_down(after(Duration::from_millis(20)))).unwrap();
        drop(threads);
    }));
    assert_eq!(told.recv(), Ok(1), "itself");
    wait_until(|| alive("inside") == 0);
}

/// The second process: may start some more threads, then none.
pub(crate) fn short_of_threads() {
    become_nobody();
    let threads = cache("short", 64, LONG);
    let first = threads.reserve().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 1, hard).unwrap();
    for _ in 0..3 {
        let refused = threads.reserve().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EAGAIN), "{refused}");
        assert_eq!(threads.counts(), ThreadCounts { alive: 1, idle: 0, busy: 1 });
    }
    // Who is there goes on serving.
    drop(first);
    drop(keep_busy(&threads));
    wait_until(|| threads.counts().idle == 1);
    setrlimit(Resource::RLIMIT_NPROC, hard, hard).unwrap();
    let both = (threads.reserve().unwrap(), threads.reserve().unwrap());
    assert_eq!(threads.counts(), ThreadCounts { alive: 2, idle: 0, busy: 2 });
    drop(both);
    assert_eq!(threads.shut_down(None), 0);
}

#[test]
fn a_machine_that_starts_no_further_thread_is_an_error_and_no_end() {
    let _watchdog = Watchdog::start();
    second("short of threads", &[]).join();
}
