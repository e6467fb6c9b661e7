//! What a thread costs, what a burst of them leaves behind, and what the allocator's arenas add: each in a process of
//! its own.

use std::fs;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringwire::transport::{limit_malloc_arenas, release_freed_memory};

use super::common::{Watchdog, say, second, setting, wait_until};
use super::threads::{Threads, ThreadsConfig};
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

/// Arenas beside the first one: 64 MiB of addresses, where that begins, of which the first part is in use.
fn arenas() -> usize {
    const HEAP: u64 = 64 << 20;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let maps: Vec<(u64, u64, &str)> = maps.lines().map(parts).collect();
    let is_arena = |pair: &&[(u64, u64, &str)]| {
        let [(start, end, used), (next, rest, unused)] = **pair else { return false };
        start % HEAP == 0 && rest - start == HEAP && end == next && used == "rw-p" && unused == "---p"
    };
    maps.windows(2).filter(is_arena).count()
}

/// Start, end and permissions of a line of `/proc/self/maps`.
fn parts(line: &str) -> (u64, u64, &str) {
    let mut words = line.split(' ');
    let (start, end) = words.next().unwrap().split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    (number(start), number(end), words.next().unwrap())
}

/// The second process: starts threads, and says what is in use once they are idle, and in how many arenas.
pub(crate) fn keep_threads() {
    let count = setting("THREADS").parse().unwrap();
    let threads = cache("keep", usize::MAX, LONG);
    jobs(&threads, count, setting("CHURN_BYTES").parse().unwrap());
    wait_until(|| threads.counts().idle == count);
    say(&format!("{} {}", private_kib(), arenas()));
    assert_eq!(threads.shut_down(None), 0);
}

/// What such a second process says.
fn kept(role: &str, count: u64, churn_bytes: u64) -> [u64; 2] {
    let settings = [("THREADS", &*count.to_string()), ("CHURN_BYTES", &*churn_bytes.to_string())];
    numbers(&second(role, &settings).hear())
}

fn numbers<const N: usize>(said: &str) -> [u64; N] {
    let numbers: Vec<u64> = said.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn an_idle_thread_costs_some_10_kib_of_memory() {
    let _watchdog = Watchdog::start();
    let [few, many] = [100, 1_000].map(|count| kept("threads with two arenas", count, 0)[0]);
    let each_bytes = (many - few) * 1024 / 900;
    println!("each further idle thread: {each_bytes} bytes");
    // Unoptimised frames are on a third page.
    let bar = if cfg!(debug_assertions) { 16 } else { 11 };
    assert!(each_bytes <= bar * 1024, "{few} KiB with 100, {many} KiB with 1,000");
}

/// The second process: bursts of threads, each of which ends at its idle timeout.
pub(crate) fn burst() {
    let (max_idle, idle_timeout) = (usize::MAX, Duration::from_millis(100));
    let when_shrunk: Option<fn()> = Some(|| _ = release_freed_memory());
    let name_prefix = "burst".to_owned();
    let config =
        ThreadsConfig { name_prefix, max_idle, idle_timeout, when_shrunk, ..ThreadsConfig::default() };
    let threads = Threads::new(config);
    let mut said = private_kib().to_string();
    for _ in 0..5 {
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
    let said = second("burst", &[("MALLOC_ARENA_MAX", "2")]).hear();
    println!("KiB before, then with 1,000 threads and after them, five times: {said}");
    let [before, full, first, .., last] = numbers::<11>(&said);
    // The C library keeps some stacks for the next burst: that comes once.
    assert!(first - before <= (full - before) / 3, "{said}");
    assert!(last <= first + 512, "{said}");
}

/// The second process: `keep_threads` in one that was forked, and so begins with a single thread.
pub(crate) fn keep_threads_with_two_arenas() {
    // SAFETY: this process's other thread only waits for this one, and so holds no lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
            let done = std::panic::catch_unwind(|| {
                limit_malloc_arenas(2).unwrap();
                keep_threads();
            });
            std::process::exit(i32::from(done.is_err()));
        }
    }
}

#[test]
#[cfg(target_env = "gnu")]
fn fewer_arenas_keep_less_of_what_was_freed() {
    let _watchdog = Watchdog::start();
    let [many, few] = ["threads", "threads with two arenas"].map(|role| kept(role, 100, 100_000));
    println!(
        "100 threads that have allocated 100 KB each, [KiB, further arenas]: {many:?}, limited to two: {few:?}"
    );
    assert!(few[1] < 2 && many[1] > 2, "{many:?}, limited: {few:?}");
    assert!(few[0] < many[0], "{many:?}, limited: {few:?}");
}

#[test]
fn arenas_are_limited_before_there_are_threads_or_not_at_all() {
    let _watchdog = Watchdog::start(); // is a thread
    let error = limit_malloc_arenas(2).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{error}");
    assert_eq!(limit_malloc_arenas(u32::MAX).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
