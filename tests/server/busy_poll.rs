//! Threads of the latency class that keep their core between requests.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use ringwire::server::{Context, Flow, Middleware};
use ringwire::transport::{Counter, DEFAULT_LATENCY_PRIORITY, LatencyGuard, enter_latency_class};
use ringwire::wait::online_cores;
use ringwire::wire::call::ECHO;
use ringwire::{Client, Error, Failure};

use super::caller::Serving;
use super::common::{Watchdog, bytes, comes_true, second};

/// The handler's thread.
const WHO: u16 = 7;
const EVENT: u16 = 9;
/// On a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn serving(window: Duration, middleware: Option<Counting>) -> Serving {
    Serving::start(|builder| {
        let builder = builder
            .latency_class(0)
            .latency_busy_poll(window)
            .handle(WHO, |_, reply| reply.send(&gettid().as_raw().to_ne_bytes()));
        middleware.into_iter().fold(builder, |builder, counting| builder.middleware(counting))
    })
}

/// The calling thread in the class, and its client.
fn client(serving: &Serving) -> Result<(LatencyGuard, Client), Error> {
    let guard = enter_latency_class(0, DEFAULT_LATENCY_PRIORITY)?;
    let client = Client::builder(&serving.path).latency_class(0).strategy(guard.wait_strategy()).connect()?;
    Ok((guard, client))
}

/// Counts what it sees.
struct Counting(Arc<Counter>);

impl Middleware for Counting {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        assert_eq!(context.connection().id(), 1, "the client's");
        self.0.add(1);
        Ok(Flow::Continue)
    }
}

#[test]
fn every_request_is_answered_whenever_it_comes_and_nobody_sees_a_rehearsal() {
    let _watchdog = Watchdog::start();
    for counted in [None, Some(Arc::new(Counter::new(0)))] {
        let serving = serving(Duration::from_millis(30), counted.clone().map(Counting));
        let (_guard, mut client) = client(&serving).unwrap();
        let mut calls = 0;
        // In a loop, while it polls and naps, and after it has gone to sleep.
        for (pause, count) in [(0, 2_000), (100, 300), (3_000, 50), (60_000, 4)] {
            for _ in 0..count {
                thread::sleep(Duration::from_micros(pause));
                let request = bytes(calls, 1 + (calls as usize * 37) % 3_000);
                assert_eq!(client.call(ECHO, &request).unwrap().to_vec(), request, "call {calls}");
                calls += 1;
            }
        }
        let stats = serving.handle.stats();
        assert_eq!((stats.requests, stats.accepted, stats.failures), (calls, 1, 0));
        assert_eq!(serving.handle.connections().len(), 1);
        assert!(counted.is_none_or(|counted| counted.get() == calls));
    }
}

/// How often of 100 looks, 2 ms apart, the thread is running, or waits for nothing but its core.
fn runs(thread: i32) -> u32 {
    let state = || {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        // Behind the name, which is in brackets.
        stat.rsplit(')').next().unwrap().trim_start().starts_with('R')
    };
    (0..100)
        .map(|_| {
            thread::sleep(Duration::from_millis(2));
            u32::from(state())
        })
        .sum()
}

#[test]
fn it_keeps_its_core_for_the_window_and_then_sleeps() {
    let _watchdog = Watchdog::start();
    let window = Duration::from_secs(2);
    let serving = serving(window, None);
    // Looks from a thread that may run elsewhere.
    let (asked, thread) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (guard, mut client) = client(&serving).unwrap();
            let thread: i32 = client.call(WHO, b"").unwrap().read().unwrap();
            (guard.is_realtime(), client, thread)
        });
        let (realtime, client, thread) = asking.join().unwrap();
        let seen = runs(thread);
        if realtime && online_cores() > 1 {
            assert!((60..100).contains(&seen), "it polls, and leaves a part to others: {seen} %");
        } else {
            assert!(seen < 40, "{seen} %");
        }
        (client, thread)
    });
    assert!(comes_true(window + SOON, || runs(thread) == 0), "it sleeps");
    drop(asked);
}

#[test]
fn while_it_polls_it_sees_events_the_end_and_death() {
    let _watchdog = Watchdog::start();
    let serving = serving(Duration::from_secs(60), None);
    let (_guard, mut client) = client(&serving).unwrap();
    assert_eq!(client.call(ECHO, b"polls").unwrap().to_vec(), b"polls");
    for _ in 0..20 {
        assert_eq!(serving.handle.broadcast(EVENT, b"now"), 1);
        let event = client.next_event(Some(SOON)).unwrap().unwrap();
        assert_eq!(event.message_type(), EVENT);
        thread::sleep(Duration::from_millis(3));
    }
    // A second connection on that core, whose thread finds the core kept.
    let path = serving.path.to_str().unwrap();
    let mut other = second("in the latency class", &[("PATH_TO_CALL", path)]);
    assert_eq!(other.hear(), "in");
    assert_eq!(serving.handle.connections().len(), 2);
    assert_eq!(client.call(ECHO, b"too").unwrap().to_vec(), b"too");
    other.kill();
    assert!(comes_true(SOON, || serving.handle.connections().len() == 1));
    let asked = Instant::now();
    serving.shut_down();
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(client.call(ECHO, b"gone").is_err());
}
