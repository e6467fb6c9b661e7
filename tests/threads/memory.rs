//! What a thread costs, what a burst of them leaves behind, and what the allocator's arenas add: each in a process of
//! its own.

use std::fs;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use ringwire::transport::limit_malloc_arenas;

use super::common::{Watchdog, say, second, setting, wait_until};
use super::threads::Threads;
use super::{LONG, alive, cache};

/// Of all that this process alone uses, in KiB.
fn private_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `count` jobs at once, each of which allocates, and frees, `churn_bytes` in blocks of 1,000 bytes. Answers with the
/// memory while all are there.
fn jobs(threads: &Threads, count: usize, churn_bytes: usize) -> u64 {
    let all = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let all = Arc::clone(&all);
        let job = Box::new(move || {
            drop((0..churn_bytes / 1_000).map(|_| black_box(vec![1_u8; 1_000])).collect::<Vec<_>>());
            all.wait();
            all.wait();
        });
        threads.reserve().unwrap().run(job);
    }
    all.wait();
    let found = private_kib();
    all.wait();
    found
}

/// The second process: starts threads, and says what is in use without them, with them, and with them idle.
pub(crate) fn keep_threads() {
    let count = setting("THREADS").parse().unwrap();
    let threads = cache("keep", usize::MAX, LONG);
    let before = private_kib();
    let busy = jobs(&threads, count, setting("CHURN_BYTES").parse().unwrap());
    wait_until(|| threads.counts().idle == count);
    say(&format!("{before} {busy} {}", private_kib()));
    assert_eq!(threads.shut_down(None), 0);
}

/// What `keep_threads` says with so many threads, with the allocator's `arenas` given by its environment.
fn memory_with(count: u64, churn_bytes: u64, arenas: &str, limit: &str) -> [u64; 3] {
    let settings = [
        ("THREADS", &*count.to_string()),
        ("CHURN_BYTES", &*churn_bytes.to_string()),
        ("GLIBC_TUNABLES", &format!("glibc.malloc.arena_max={arenas}")),
        ("LIMIT_ARENAS", limit),
    ];
    numbers(&second("threads", &settings).hear())
}

fn numbers<const N: usize>(said: &str) -> [u64; N] {
    let numbers: Vec<u64> = said.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn an_idle_thread_costs_some_10_kib_of_memory() {
    let _watchdog = Watchdog::start();
    let [few, many] = [100, 1_000].map(|count| memory_with(count, 0, "2", "")[2]);
    let each_bytes = (many - few) * 1024 / 900;
    println!("each further idle thread: {each_bytes} bytes");
    // Unoptimised frames are on a third page.
    let bar = if cfg!(debug_assertions) { 16 } else { 11 };
    assert!(each_bytes <= bar * 1024, "{few} KiB with 100, {many} KiB with 1,000");
}

/// The second process: three bursts of threads, each of which ends at its idle timeout.
pub(crate) fn burst() {
    let threads = cache("burst", usize::MAX, Duration::from_millis(100));
    let mut said = private_kib().to_string();
    for _ in 0..3 {
        let full = jobs(&threads, 1_000, 10_000);
        assert!(alive("burst") > 0);
        wait_until(|| alive("burst") == 0);
        assert_eq!(threads.counts().alive, 0);
        said += &format!(" {full} {}", private_kib());
    }
    say(&said);
}

#[test]
fn after_a_burst_of_1_000_jobs_the_threads_are_gone_and_their_memory_too() {
    let _watchdog = Watchdog::start();
    let said = second("burst", &[]).hear();
    println!("KiB before, then with 1,000 threads and after them, three times: {said}");
    let [before, full, first, .., last] = numbers::<7>(&said);
    // The C library keeps some stacks, and what the heap still holds, for the next burst: that comes once.
    assert!(first - before <= (full - before) / 2, "{said}");
    assert!(last <= first + 512, "{said}");
}

/// In a second process, before it has a second thread.
pub(crate) fn limit_arenas() {
    if let Ok(limit) = std::env::var("LIMIT_ARENAS")
        && !limit.is_empty()
    {
        limit_malloc_arenas(limit.parse().unwrap()).unwrap();
    }
}

#[test]
#[cfg(target_env = "gnu")]
fn fewer_arenas_keep_less_of_what_was_freed() {
    let _watchdog = Watchdog::start();
    let [many, few] = ["", "2"].map(|limit| memory_with(100, 100_000, "100", limit)[2]);
    println!("100 threads that have allocated 100 KB each, KiB: {many} with 100 arenas, {few} with 2");
    assert!(few * 3 < many, "{many} KiB with 100 arenas, {few} KiB with 2");
}

#[test]
fn arenas_are_limited_before_there_are_threads_or_not_at_all() {
    let _watchdog = Watchdog::start(); // is a thread
    let error = limit_malloc_arenas(2).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{error}");
    assert_eq!(limit_malloc_arenas(u32::MAX).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
