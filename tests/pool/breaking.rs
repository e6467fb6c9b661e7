//! Servers that die, stop, refuse and go: what is lent works again as soon as the server does.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringwire::client::ECHO;
use ringwire::{Client, ClientPool, Error, ErrorKind, Server};

use super::common::{Second, Watchdog, say, second, setting, wait_until};
use super::rig::{Ends, Serving, figures};

const PATH: &str = "RINGWIRE_TEST_PATH";

/// In a second process: serves until it is killed.
pub(crate) fn serves() {
    let server = Server::builder(PathBuf::from(setting(PATH))).build().unwrap();
    say("listening");
    server.serve().unwrap();
}

fn start(path: &std::path::Path) -> Second {
    let mut server = second("serves", &[(PATH, path.to_str().unwrap())]);
    assert_eq!(server.hear(), "listening");
    server
}

/// What a caller sees of a server that is killed; the last, who is just connecting.
fn is_death(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PeerDied | ErrorKind::PeerClosed | ErrorKind::Handshake)
}

fn call(pool: &ClientPool) -> Result<(), Error> {
    let mut client = pool.acquire()?;
    client.call(ECHO, b"?").map(drop)
}

#[test]
fn after_a_restart_of_its_server_all_connections_are_new_and_no_call_fails() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let mut server = start(&path);
    let pool = ClientPool::builder(&path).min_connections(8).max_connections(8).build().unwrap();
    for round in 1..=3 {
        let held: Vec<_> = (0..8).map(|_| pool.acquire().unwrap()).collect();
        drop(held);
        server.kill();
        drop(server);
        // Long enough that idle connections are looked at: before that, the first borrower finds out.
        thread::sleep(Duration::from_millis(50));
        server = start(&path);
        for _ in 0..16 {
            call(&pool).unwrap();
        }
        let held: Vec<_> = (0..8).map(|_| pool.acquire().unwrap()).collect();
        drop(held);
        let metrics = pool.metrics();
        assert_eq!((metrics.size, metrics.closed.broken, metrics.created), (8, 8 * round, 8 * (round + 1)));
    }
}

#[test]
fn one_that_breaks_warns_of_the_others() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let mut server = start(&path);
    let pool = ClientPool::builder(&path).min_connections(8).max_connections(8).build().unwrap();
    drop((0..8).map(|_| pool.acquire().unwrap()).collect::<Vec<_>>());
    server.kill();
    // At once: nothing has been idle for long.
    let errors: Vec<ErrorKind> = (0..10).map(|_| call(&pool).unwrap_err().kind()).collect();
    assert!(errors.iter().filter(|kind| is_death(**kind)).count() <= 1, "{errors:?}");
    assert!(errors[1..].iter().all(|kind| *kind == ErrorKind::ConnectionRefused), "{errors:?}");
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.closed.broken), (0, 8));
    assert!(metrics.failed >= 9, "{metrics:?}");
    assert_eq!(pool.maintain().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let _server = start(&path);
    call(&pool).unwrap();
    pool.maintain().unwrap();
    assert_eq!(figures(&pool), (8, 8, 0, 0));
}

#[test]
fn a_server_killed_under_load_costs_each_caller_one_error_and_no_place() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let mut server = start(&path);
    let pool = Client::builder(&path)
        .wait_for_server(true)
        .timeout(Duration::from_secs(20))
        .pooled()
        .min_connections(4)
        .max_connections(4)
        .acquire_timeout(Some(Duration::from_secs(20)))
        .build()
        .unwrap();
    let kills = if super::is_long() { 50 } else { 3 };
    let over = ringwire::sync::Counter::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let (mut calls, mut errors) = (0_u64, 0_u64);
                    while over.get() == 0 {
                        match call(&pool) {
                            Ok(()) => calls += 1,
                            Err(error) => {
                                let died =
                                    matches!(error.kind(), ErrorKind::PeerDied | ErrorKind::PeerClosed);
                                assert!(died, "{error:?}");
                                errors += 1;
                            }
                        }
                    }
                    (calls, errors)
                })
            })
            .collect();
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(100));
            server.kill();
            server = start(&path);
            let before = pool.metrics().acquired;
            wait_until(|| pool.metrics().acquired > before + 100);
        }
        over.set(1);
        let (mut calls, mut errors) = (0, 0);
        for thread in threads {
            let (one_calls, one_errors) = thread.join().unwrap();
            (calls, errors) = (calls + one_calls, errors + one_errors);
        }
        println!("{kills} kills: {calls} calls, {errors} of them failed");
        assert!(errors <= kills * 4 * 2, "{errors} of {calls} calls failed");
    });
    let metrics = pool.metrics();
    assert_eq!((metrics.in_use, metrics.waiting, metrics.opening), (0, 0, 0));
    assert_eq!(metrics.created, metrics.size as u64 + metrics.closed.total());
}

#[test]
fn a_server_that_hangs_is_found_by_the_ping() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let server = start(&path);
    let pool = ClientPool::builder(&path)
        .min_connections(1)
        .max_connections(1)
        .check_after(Duration::from_millis(1))
        .check_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    server.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(30));
    let asked = Instant::now();
    let error = pool.acquire_within(Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5), "within the deadline, generously");
    assert_eq!((pool.metrics().closed.broken, pool.metrics().size), (1, 0));
    server.signal(Signal::SIGCONT);
    call(&pool).unwrap();
}

#[test]
fn a_server_that_takes_fewer_than_the_maximum_makes_callers_wait() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.max_connections(2));
    let pool = serving.pool(0, 8).acquire_timeout(Some(Duration::from_secs(30))).build().unwrap();
    let done = ringwire::sync::Counter::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    call(&pool).unwrap();
                    done.add(1);
                }
            });
        }
    });
    let metrics = pool.metrics();
    assert_eq!((done.get(), metrics.created, metrics.in_use, metrics.opening), (400, 2, 0, 0));
    let held = [pool.acquire().unwrap(), pool.acquire().unwrap()];
    assert_eq!(pool.acquire_within(Duration::from_millis(10)).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(held);
    // Others have all the places.
    let full = Serving::start(|builder| builder.max_connections(1));
    let _other = Client::connect(&full.path).unwrap();
    let error = full.pool(0, 8).build().unwrap().acquire().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyConnections, "nothing to wait for");
}

#[test]
fn a_failure_to_connect_is_the_callers_and_its_place_the_next_ones() {
    let _watchdog = Watchdog::start();
    let ends = Ends::default();
    let pool = Arc::new(ends.pool(0, 1).acquire_timeout(None).build().unwrap());
    let held = pool.acquire().unwrap();
    ends.refuse(ErrorKind::NotFound);
    let waiters: Vec<_> = (0..3)
        .map(|number| {
            let waiter = thread::spawn({
                let pool = Arc::clone(&pool);
                move || pool.acquire().map(drop).unwrap_err().kind()
            });
            wait_until(|| pool.metrics().waiting == number + 1);
            waiter
        })
        .collect();
    held.discard();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), ErrorKind::NotFound, "each is told, and none left waiting");
    }
    ends.refuse(None);
    drop(pool.acquire().unwrap());
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.opening, metrics.failed), (1, 0, 3));
}

#[test]
fn a_connect_that_panics_takes_no_place_with_it() {
    let _watchdog = Watchdog::start();
    let broken = Arc::new(ringwire::sync::Counter::new(1));
    let (one, _other) = ringwire::Stream::pair().unwrap();
    let connect = {
        let (broken, one) = (Arc::clone(&broken), std::sync::Mutex::new(Some(one)));
        move |_| {
            assert_eq!(broken.get(), 0, "on purpose");
            Ok(Client::builder("").over(one.lock().unwrap().take().unwrap()))
        }
    };
    let pool = ClientPool::over(connect).min_connections(0).max_connections(1).build().unwrap();
    thread::scope(|scope| {
        assert!(scope.spawn(|| pool.acquire().map(drop)).join().is_err());
    });
    broken.set(0);
    drop(pool.acquire_within(Duration::from_secs(5)).unwrap());
    assert_eq!((figures(&pool), pool.metrics().failed), ((1, 1, 0, 0), 1));
}
