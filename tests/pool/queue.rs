//! Waiting: in order, to a deadline, and without losing anything.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::transport::Deadline;
use ringwire::{ErrorKind, PooledClient};

use super::common::{Random, Watchdog, wait_until};
use super::rig::{Ends, figures};

#[test]
fn callers_that_wait_are_served_in_the_order_in_which_they_asked() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(0, 2).acquire_timeout(None).build().unwrap();
    for _ in 0..5 {
        let order = Mutex::new(Vec::new());
        let held = [pool.acquire().unwrap(), pool.acquire().unwrap()];
        thread::scope(|scope| {
            for number in 0..20 {
                let (pool, order) = (&pool, &order);
                scope.spawn(move || {
                    let client = pool.acquire().unwrap();
                    order.lock().unwrap().push(number);
                    drop(client);
                });
                wait_until(|| pool.metrics().waiting == number + 1);
            }
            // One at a time: only one comes back at all.
            let [first, second] = held;
            drop(first);
            wait_until(|| pool.metrics().waiting == 0);
            drop(second);
        });
        assert!(order.into_inner().unwrap().is_sorted());
    }
    assert_eq!(figures(&pool), (2, 2, 0, 0));
}

#[test]
fn nobody_passes_the_queue() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(0, 1).acquire_timeout(None).build().unwrap();
    let held = pool.acquire().unwrap();
    let (got, has) = channel::<PooledClient>();
    thread::scope(|scope| {
        scope.spawn(|| got.send(pool.acquire().unwrap()).unwrap());
        wait_until(|| pool.metrics().waiting == 1);
        drop(held);
        // It is the waiter's from this moment on, whether or not he runs.
        assert!(pool.try_acquire().is_none());
        assert_eq!(pool.acquire_within(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(has.recv().unwrap());
    });
    assert!(pool.try_acquire().is_some());
}

#[test]
fn at_its_deadline_a_caller_hears_the_figures() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(1, 2).build().unwrap();
    let held = [pool.acquire().unwrap(), pool.acquire().unwrap()];
    let asked = Instant::now();
    let error = pool.acquire_within(Duration::from_millis(30)).unwrap_err();
    assert!(asked.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("2 of at most 2 are in use") && text.contains("raise max_connections"), "{text}");
    let deadline = Deadline::after(Duration::from_millis(5));
    assert_eq!(pool.acquire_by(deadline).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!((pool.metrics().timed_out, pool.metrics().waiting), (2, 0));
    drop(held);
    drop(pool.acquire_by(deadline).expect("an idle one is lent even after the deadline"));
}

#[test]
fn a_full_queue_turns_callers_away() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(0, 1).max_waiting(1).acquire_timeout(None).build().unwrap();
    let held = pool.acquire().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(pool.acquire().unwrap()));
        wait_until(|| pool.metrics().waiting == 1);
        let error = pool.acquire().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.to_string().contains("1 of at most 1 are in use"), "{error}");
        assert!(error.to_string().contains("1 other callers wait"), "{error}");
        drop(held);
        waiter.join().unwrap();
    });
    assert_eq!((pool.metrics().refused, pool.metrics().acquired), (1, 2));
}

/// Deadlines of the length of a hand-over: many waiters are given what they no longer wait for.
#[test]
fn a_waiter_that_times_out_loses_nothing() {
    let _watchdog = Watchdog::start();
    let ends = Ends::default();
    let pool = ends.pool(0, 2).build().unwrap();
    let per_thread = if super::is_long() { 200_000 } else { 3_000 };
    let (lent, late) = thread::scope(|scope| {
        let threads: Vec<_> = (1..=8)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let (mut random, mut lent, mut late) = (Random(seed), 0_u64, 0_u64);
                    for _ in 0..per_thread {
                        match pool.acquire_within(Duration::from_micros(random.below(60))) {
                            Ok(client) => {
                                lent += 1;
                                if random.below(4) == 0 {
                                    thread::yield_now();
                                }
                                if random.below(50) == 0 {
                                    client.discard();
                                }
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                                late += 1;
                            }
                        }
                    }
                    (lent, late)
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert!(lent > 0 && late > 0, "{lent} lent, {late} late: the race did not happen");
    let metrics = pool.metrics();
    assert_eq!((metrics.acquired, metrics.timed_out), (lent, late));
    assert_eq!((metrics.in_use, metrics.waiting, metrics.opening, metrics.size), (0, 0, 0, metrics.idle));
    assert_eq!(metrics.created, metrics.size as u64 + metrics.closed.total());
    // Both places are there to be had.
    let _both = (pool.acquire().unwrap(), pool.acquire().unwrap());
}

#[test]
fn a_closed_pool_sends_its_waiters_away_and_takes_back_what_is_lent() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(2, 2).acquire_timeout(None).build().unwrap();
    let (mut held, other) = (pool.acquire().unwrap(), pool.acquire().unwrap());
    drop(other);
    let other = pool.acquire().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.acquire().map(drop).unwrap_err());
        wait_until(|| pool.metrics().waiting == 1);
        pool.close();
        assert_eq!(waiter.join().unwrap().kind(), ErrorKind::Stopped);
    });
    assert_eq!(pool.acquire().unwrap_err().kind(), ErrorKind::Stopped);
    drop(other);
    held.notify(1, b"what is lent goes on working").unwrap();
    drop(pool.clone());
    drop(held);
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.created, metrics.closed.shut), (0, 2, 2));
}
