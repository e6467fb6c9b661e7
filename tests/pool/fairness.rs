//! Many threads on few connections.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::client::ECHO;
use ringwire::sync::Counter;

use super::common::Watchdog;
use super::rig::{Serving, figures};

const THREADS: usize = 64;
const CONNECTIONS: usize = 8;

#[test]
fn sixty_four_threads_on_eight_connections_have_equal_shares() {
    let _watchdog = Watchdog::lasting(Duration::from_secs(if super::is_long() { 600 } else { 60 }));
    let calls: u64 = if super::is_long() { 1_000_000 } else { 20_000 };
    let serving = Serving::start(|builder| builder);
    let pool = serving.pool(CONNECTIONS, CONNECTIONS).acquire_timeout(None).build().unwrap();
    let (started, made) = (Barrier::new(THREADS + 1), Counter::new(0));
    let (shares, took) = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|number| {
                let (pool, started, made) = (&pool, &started, &made);
                let work = move || {
                    let mut share = 0_u64;
                    started.wait();
                    while made.add_below(calls) {
                        let mut client = pool.acquire().unwrap();
                        let question = (number << 32 | share).to_ne_bytes();
                        assert_eq!(client.call(ECHO, &question).unwrap().to_vec(), question);
                        share += 1;
                    }
                    share
                };
                thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).unwrap()
            })
            .collect();
        started.wait();
        let began = Instant::now();
        let shares: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        (shares, began.elapsed())
    });
    assert_eq!(shares.iter().sum::<u64>(), calls);
    let (worst, best) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
    let mean = calls / THREADS as u64;
    let metrics = pool.metrics();
    println!(
        "{calls} loans among {THREADS} threads on {CONNECTIONS} connections: {:.1} us each; worst thread {worst}, mean \
         {mean}, best {best}; waited {} times, p50 < {:?}, p99 < {:?}, longest {:?}",
        took.as_secs_f64() * 1e6 / calls as f64,
        metrics.wait_times.count(),
        metrics.wait_times.quantile(0.5),
        metrics.wait_times.quantile(0.99),
        metrics.wait_times.longest(),
    );
    assert!(2 * worst >= mean, "the worst thread had {worst} of {mean} on average");
    assert_eq!((metrics.acquired, metrics.created, metrics.timed_out), (calls, CONNECTIONS as u64, 0));
    assert_eq!(figures(&pool), (CONNECTIONS, CONNECTIONS, 0, 0));
}
