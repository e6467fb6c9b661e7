//! The size that follows the load, times that run out, and the thread that sees to it.

use std::fs;
use std::thread;
use std::time::Duration;

use ringwire::client::ECHO;
use ringwire::{Client, ClientPool, ErrorKind, PooledClient};

use super::common::{Watchdog, comes_true, descriptors, second, segments, wait_until};
use super::rig::{Ends, Serving, figures};

fn take(pool: &ClientPool, count: usize) -> Vec<PooledClient> {
    (0..count).map(|_| pool.acquire().unwrap()).collect()
}

#[test]
fn the_minimum_is_there_from_the_start_and_failure_to_open_it_is_the_builders() {
    let _watchdog = Watchdog::start();
    let ends = Ends::default();
    assert_eq!(figures(&ends.pool(3, 5).build().unwrap()), (3, 3, 0, 0));
    let lazy = ends.pool(3, 5).warm_up(false).build().unwrap();
    assert_eq!(figures(&lazy), (0, 0, 0, 0));
    lazy.maintain().unwrap();
    assert_eq!(figures(&lazy), (3, 3, 0, 0));
    ends.refuse(ErrorKind::NotFound);
    assert_eq!(ends.pool(3, 5).build().unwrap_err().kind(), ErrorKind::NotFound);
    let error = ClientPool::builder("/nonexistent/s.sock").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(ClientPool::builder("/nonexistent/s.sock").min_connections(0).build().is_ok());
}

#[test]
fn limits_that_make_no_sense_make_no_pool() {
    let ends = Ends::default();
    for builder in [
        ends.pool(0, 0),
        ends.pool(3, 2),
        ends.pool(1, 2).maintenance_interval(Duration::ZERO),
        ends.pool(1, 2).check_interval(Some(Duration::ZERO)),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn the_size_follows_the_load_up_and_down_without_any_thread() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default()
        .pool(2, 50)
        .idle_timeout(Some(Duration::from_millis(40)))
        .maintenance_interval(Duration::from_millis(1))
        .build()
        .unwrap();
    drop(take(&pool, 20));
    assert_eq!(figures(&pool), (20, 20, 0, 0));
    // A load of three: callers themselves close the rest, a few at a time.
    wait_until(|| {
        drop(take(&pool, 3));
        pool.metrics().size == 3
    });
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(5));
        drop(take(&pool, 3));
        assert_eq!(pool.metrics().size, 3, "what is needed stays");
    }
    wait_until(|| {
        drop(take(&pool, 1));
        pool.metrics().size == 2
    });
    thread::sleep(Duration::from_millis(60));
    pool.maintain().unwrap();
    assert_eq!(figures(&pool), (2, 2, 0, 0), "the minimum stays");
    drop(take(&pool, 30));
    assert_eq!(pool.metrics().size, 30);
    let metrics = pool.metrics();
    assert_eq!((metrics.created, metrics.closed.idle, metrics.closed.total()), (48, 18, 18));
}

#[test]
fn what_is_too_old_is_closed_wherever_it_is_found() {
    let _watchdog = Watchdog::start();
    let lifetime = Duration::from_millis(60);
    let pool = |min| Ends::default().pool(min, 5).max_lifetime(Some(lifetime)).build().unwrap();
    let (lent, idle, maintained) = (pool(1), pool(3), pool(3));
    let held = lent.acquire().unwrap();
    thread::sleep(lifetime);
    drop(held);
    assert_eq!((lent.metrics().size, lent.metrics().closed.expired), (0, 1), "when it comes back");
    drop(idle.acquire().unwrap());
    let metrics = idle.metrics();
    assert_eq!((metrics.size, metrics.closed.expired, metrics.created), (1, 3, 4), "before it is lent");
    maintained.maintain().unwrap();
    let metrics = maintained.metrics();
    assert_eq!((metrics.size, metrics.idle, metrics.closed.expired), (3, 3, 3), "and by maintenance");
}

#[test]
fn connections_made_together_do_not_expire_together() {
    let _watchdog = Watchdog::start();
    let lifetime = Duration::from_secs(1);
    let pool = Ends::default().pool(16, 16).max_lifetime(Some(lifetime)).build().unwrap();
    thread::sleep(lifetime - Duration::from_millis(50));
    pool.maintain().unwrap();
    let expired = pool.metrics().closed.expired;
    // On a machine that held this up, all of them are.
    assert!(expired > 0, "none a tenth earlier");
}

#[test]
fn idle_connections_are_asked_for_a_sign_of_life() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let pool = serving.pool(3, 3).check_interval(Some(Duration::from_millis(10))).build().unwrap();
    let rest = || serving.handle.connections();
    thread::sleep(Duration::from_millis(30));
    pool.maintain().unwrap();
    assert_eq!((figures(&pool), pool.metrics().created), ((3, 3, 0, 0), 3), "they live");
    let gone = serving.handle.connection(rest()[1].id).unwrap();
    gone.disconnect();
    wait_until(|| rest().len() == 2);
    thread::sleep(Duration::from_millis(30));
    pool.maintain().unwrap();
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.closed.broken, metrics.created, metrics.checking), (3, 1, 4, 0));
    // Nobody answers here at all.
    let ends = Ends::default();
    let pool = ends.pool(2, 2).check_interval(Some(Duration::from_millis(1)));
    let pool = pool.check_timeout(Duration::from_millis(5)).build().unwrap();
    thread::sleep(Duration::from_millis(30));
    pool.maintain().unwrap();
    assert_eq!((pool.metrics().closed.broken, pool.metrics().size), (2, 2));
}

/// In a process of its own, whose threads, descriptors and mappings are all the pool's.
pub(crate) fn leaves_nothing() {
    let serving = Serving::start(|builder| builder.idle_threads(0));
    drop(Client::connect(&serving.path).unwrap());
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        };
        tasks.map(name).filter(|name| name.starts_with("ringwire-pool")).count()
    };
    let id = std::process::id();
    wait_until(|| serving.handle.connections().is_empty() && segments(id) == 0);
    let before = descriptors(id);
    for has_thread in [false, true] {
        let pool = serving
            .pool(4, 8)
            .idle_timeout(Some(Duration::from_millis(20)))
            .maintenance_interval(Duration::from_millis(1))
            .maintenance_thread(has_thread)
            .build()
            .unwrap();
        drop(take(&pool, 8));
        for mut client in take(&pool, 8) {
            client.call(ECHO, b"?").unwrap();
        }
        // It names itself.
        wait_until(|| threads() == usize::from(has_thread));
        let shrinks =
            comes_true(Duration::from_secs(if has_thread { 30 } else { 0 }), || pool.metrics().size == 4);
        assert_eq!(shrinks, has_thread, "nobody else does it");
        let lent = pool.acquire().unwrap();
        let clone = pool.clone();
        drop(pool);
        assert_eq!(threads(), usize::from(has_thread), "while there is a handle");
        drop(clone);
        // What is lent does not keep it. The kernel takes it off the list a moment after it has been joined.
        wait_until(|| threads() == 0);
        drop(lent);
        wait_until(|| serving.handle.connections().is_empty() && segments(id) == 0);
        assert_eq!(descriptors(id), before);
    }
}

#[test]
fn the_thread_ends_with_the_pool_and_nothing_is_left() {
    let _watchdog = Watchdog::start();
    second("leaves nothing", &[]).join();
}

#[test]
fn the_thread_replaces_what_breaks() {
    let _watchdog = Watchdog::start();
    let ends = Ends::default();
    let pool = ends
        .pool(2, 2)
        .check_interval(Some(Duration::from_millis(10)))
        .check_timeout(Duration::from_millis(10))
        .maintenance_interval(Duration::from_millis(5))
        .maintenance_thread(true)
        .build()
        .unwrap();
    ends.refuse(ErrorKind::ConnectionRefused);
    ends.close(0);
    ends.close(1);
    wait_until(|| pool.metrics().size == 0 && pool.metrics().failed > 2);
    ends.refuse(None);
    wait_until(|| pool.metrics().size == 2);
}
