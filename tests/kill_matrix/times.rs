//! How long a death takes to be seen: from `waitpid` in the killer to the survivor's error.
//!
//! The bars of the design (lifeline: half of them below 1 ms; otherwise 99 % below 20 ms, all below 200 ms) are for a
//! quiet machine: here the figures are printed, and only what no load explains fails.

use std::thread;
use std::time::{Duration, Instant};

use ringwire::{Listener, Stream};

use super::common::{Watchdog, bytes, say, second, setting, told};
use super::rows::Wait;
use super::survivor::Survivor;
use super::victims::header;
use super::{alone, number};

/// Memory of the connection that the victim has touched.
const TOUCHED_BYTES: u64 = 1 << 20;
const MANY_THREADS: usize = 1_000;
const BOUND: Duration = Duration::from_secs(10);

/// The second process: sends something, then waits for its death.
pub(crate) fn timed() {
    for _ in 0..setting("THREADS").parse().unwrap() {
        let sleeper = thread::Builder::new().stack_size(64 << 10);
        sleeper.spawn(|| thread::sleep(Duration::from_secs(600))).unwrap();
    }
    let mut stream = Stream::builder(setting("SOCKET")).ring_bytes(1 << 21).connect().unwrap();
    let mut batch = stream.batch();
    for number in 0..TOUCHED_BYTES >> 15 {
        batch.send(header(number, 1 << 15), &bytes(number, 1 << 15)).unwrap();
    }
    batch.finish();
    say("sent");
    told();
}

/// One death: how much later than the killer the survivor knows; zero if it knew before.
fn time(listener: &mut Listener, wait: Wait, threads: usize) -> Duration {
    let _watchdog = Watchdog::start();
    let path = listener.path().to_str().unwrap().to_owned();
    let threads = threads.to_string();
    let mut victim = second("timed", &[("SOCKET", &path), ("THREADS", &threads)]);
    let mut survivor = Survivor::new(listener.accept().unwrap());
    assert_eq!(victim.hear(), "sent");
    survivor.take(TOUCHED_BYTES >> 15);
    let waiting = survivor.begin(wait);
    waiting.until_it_waits();
    victim.kill();
    let gone = Instant::now();
    waiting.end().seen.saturating_duration_since(gone)
}

fn report(wait: Wait, threads: usize, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{wait:?}, victim of {} threads: {} deaths, seen after p50 {:?}, p99 {:?}, most {:?}",
        threads + 3, // the test's, its runner's, the watchdog's
        times.len(),
        at(50),
        at(99),
        times[times.len() - 1],
    );
    assert!(times[times.len() - 1] < BOUND, "{wait:?}: {:?}", times[times.len() - 1]);
}

#[test]
fn deaths_are_seen_in_time() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::bind(directory.path().join("s.sock")).unwrap();
    let count = number("RINGWIRE_KILL_TIMES");
    for wait in [Wait::Lifeline, Wait::Futex, Wait::Spin, Wait::Room, Wait::RoomSpin] {
        let times = (0..count.unwrap_or(5)).map(|_| time(&mut listener, wait, 0));
        report(wait, 0, times.collect());
        if let Some(count) = count {
            let times = (0..count.div_ceil(10)).map(|_| time(&mut listener, wait, MANY_THREADS));
            report(wait, MANY_THREADS, times.collect());
        }
    }
}
