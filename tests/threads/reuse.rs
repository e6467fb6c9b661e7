//! Who serves: threads that wait are taken before new ones are started, and wait only so long.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use ringwire::sync::Counter;

use super::common::{Watchdog, wait_until};
use super::threads::{ThreadCounts, Threads};
use super::{LONG, alive, cache};

/// The thread that does a job, once it is idle again. Others may end meanwhile.
fn server(threads: &Threads) -> ThreadId {
    let (tell, told) = channel();
    threads.reserve().unwrap().run(Box::new(move || tell.send(thread::current().id()).unwrap()));
    let id = told.recv().unwrap();
    wait_until(|| threads.counts().busy == 0);
    id
}

/// `count` threads at once, then idle.
fn start(threads: &Threads, count: usize) {
    let reserved: Vec<_> = (0..count).map(|_| threads.reserve().unwrap()).collect();
    assert_eq!(threads.counts().busy, count);
    drop(reserved);
}

#[test]
fn no_thread_is_there_before_the_first_job_and_one_serves_many() {
    let _watchdog = Watchdog::start();
    let threads = cache("one", 8, LONG);
    assert_eq!((threads.counts(), alive("one")), (ThreadCounts { alive: 0, idle: 0, busy: 0 }, 0));
    let first = server(&threads);
    for _ in 0..100 {
        assert_eq!(server(&threads), first);
    }
    assert_eq!((threads.counts(), alive("one")), (ThreadCounts { alive: 1, idle: 1, busy: 0 }, 1));
}

#[test]
fn the_thread_that_became_idle_last_is_taken_first() {
    let _watchdog = Watchdog::start();
    let threads = cache("last", 8, LONG);
    start(&threads, 3);
    let last = server(&threads);
    assert!((0..20).all(|_| server(&threads) == last));
}

#[test]
fn a_reserved_thread_that_gets_no_job_goes_back() {
    let _watchdog = Watchdog::start();
    let threads = cache("back", 8, LONG);
    let first = server(&threads);
    let reserved = threads.reserve().unwrap();
    assert_eq!(threads.counts(), ThreadCounts { alive: 1, idle: 0, busy: 1 });
    drop(reserved);
    assert_eq!(threads.counts(), ThreadCounts { alive: 1, idle: 1, busy: 0 });
    assert_eq!(server(&threads), first);
    // One that was started for the reservation, too.
    start(&threads, 2);
    assert_eq!(threads.counts(), ThreadCounts { alive: 2, idle: 2, busy: 0 });
}

#[test]
fn a_reservation_outlasts_the_idle_timeout() {
    let _watchdog = Watchdog::start();
    let threads = cache("outlasts", 8, Duration::from_millis(20));
    start(&threads, 1);
    let reserved = threads.reserve().unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(threads.counts(), ThreadCounts { alive: 1, idle: 0, busy: 1 });
    let (tell, told) = channel();
    reserved.run(Box::new(move || tell.send(()).unwrap()));
    told.recv().unwrap();
    wait_until(|| threads.counts().alive == 0 && alive("outlasts") == 0);
}

#[test]
fn a_thread_that_is_reserved_while_it_is_about_to_end_stays() {
    let _watchdog = Watchdog::start();
    let timeout = Duration::from_millis(1);
    let threads = cache("about", 8, timeout);
    let over = Counter::new(0);
    thread::scope(|scope| {
        // Hold up who is between its last look and its end.
        for _ in 0..2 {
            scope.spawn(|| {
                while over.get() == 0 {
                    threads.counts();
                }
            });
        }
        for round in 0..300 {
            let (tell, told) = channel();
            threads.reserve().unwrap().run(Box::new(move || tell.send(()).unwrap()));
            let done = told.recv_timeout(Duration::from_secs(20));
            thread::sleep(timeout.saturating_sub(Duration::from_micros(round % 16 * 10)));
            if done.is_err() {
                over.add(1);
                panic!("round {round}: the job is lost");
            }
        }
        over.add(1);
    });
    wait_until(|| threads.counts() == ThreadCounts { alive: 0, idle: 0, busy: 0 });
}

#[test]
fn who_is_not_needed_ends_and_who_is_needed_stays() {
    let _watchdog = Watchdog::start();
    let timeout = Duration::from_millis(400);
    let threads = cache("needed", 8, timeout);
    start(&threads, 5);
    let needed = server(&threads);
    while alive("needed") > 1 {
        assert_eq!(server(&threads), needed);
        thread::sleep(timeout / 40);
    }
    wait_until(|| alive("needed") == 0);
    assert_eq!(threads.counts(), ThreadCounts { alive: 0, idle: 0, busy: 0 });
    assert_ne!(server(&threads), needed);
}

#[test]
fn no_more_threads_wait_than_are_allowed_to() {
    let _watchdog = Watchdog::start();
    let threads = cache("most", 2, LONG);
    start(&threads, 5);
    wait_until(|| threads.counts() == ThreadCounts { alive: 2, idle: 2, busy: 0 } && alive("most") == 2);
    let all = Arc::new(Barrier::new(6));
    for _ in 0..5 {
        let all = Arc::clone(&all);
        threads.reserve().unwrap().run(Box::new(move || _ = all.wait()));
    }
    all.wait();
    wait_until(|| threads.counts() == ThreadCounts { alive: 2, idle: 2, busy: 0 } && alive("most") == 2);
    let none = cache("none", 0, LONG);
    start(&none, 1);
    wait_until(|| none.counts().alive == 0 && alive("none") == 0);
}

/// Panics when it is dropped, as what a panic carries.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("on drop");
    }
}

#[test]
fn a_job_that_panics_takes_no_thread_along() {
    let _watchdog = Watchdog::start();
    let threads = cache("panics", 8, LONG);
    let first = server(&threads);
    for number in 0..12 {
        threads.reserve().unwrap().run(Box::new(move || match number % 4 {
            0 => panic!("with words"),
            1 => panic!("with the number {number}"),
            2 => std::panic::panic_any(Nasty),
            _ => drop(Nasty),
        }));
        wait_until(|| threads.counts() == ThreadCounts { alive: 1, idle: 1, busy: 0 });
        assert_eq!(server(&threads), first);
    }
}

#[test]
fn every_job_is_done_once_whatever_comes_together() {
    let _watchdog = Watchdog::start();
    const EACH: usize = 2_000;
    let threads = cache("hammer", 2, Duration::from_micros(300));
    let done = Mutex::new(vec![0_u8; 4 * EACH]);
    thread::scope(|scope| {
        let (done, threads) = (&done, &threads);
        let (tell, told) = channel();
        for part in 0..4 {
            let tell = tell.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    let reserved = threads.reserve().unwrap();
                    if number % 7 == part {
                        drop(reserved);
                        threads.reserve().unwrap().run(job(&tell, part * EACH + number));
                    } else {
                        reserved.run(job(&tell, part * EACH + number));
                    }
                    if number % 50 == 0 {
                        thread::sleep(Duration::from_micros(400));
                    }
                }
            });
        }
        drop(tell);
        told.iter().for_each(|number: usize| done.lock().unwrap()[number] += 1);
    });
    assert!(done.into_inner().unwrap().iter().all(|times| *times == 1));
    wait_until(|| threads.counts() == ThreadCounts { alive: 0, idle: 0, busy: 0 } && alive("hammer") == 0);
}

fn job(tell: &std::sync::mpsc::Sender<usize>, number: usize) -> super::threads::Job {
    let tell = tell.clone();
    Box::new(move || tell.send(number).unwrap())
}
