//! The circuit breaker: around calls, in a client, and among threads.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::client::{BreakerState, CircuitBreaker};
use ringwire::server::Failure;
use ringwire::sync::Counter;
use ringwire::wire::Status;
use ringwire::{Error, ErrorKind};

use crate::common::{Watchdog, comes_true};
use crate::{LONG, Serving, WORK, client, path};

fn is_refusal(error: &Error) -> bool {
    error.status() == Some(Status::Unavailable) && error.may_have_executed() == Some(false)
}

#[test]
fn a_server_that_fails_half_of_its_calls_is_left_alone_and_tried_again() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let (asked, is_ill) = (Arc::new(Counter::new(0)), Arc::new(Counter::new(1)));
    let (counted, ill) = (Arc::clone(&asked), Arc::clone(&is_ill));
    let _serving = Serving::at(&path, |builder| {
        builder.handle(WORK, move |_, reply| match counted.add(1) % 2 == 0 && ill.get() == 1 {
            true => Err(Failure::internal("every other one")),
            false => reply.send(b"well"),
        })
    });
    let open_for = Duration::from_millis(50);
    let breaker =
        CircuitBreaker::builder().min_failures(5).window(20, LONG).open_for(open_for).probes(3).build();
    let mut client = client(&path).breaker(breaker.clone()).build();
    let mut calls = 0;
    while breaker.state() == BreakerState::Closed {
        let _ = client.call(WORK, b"");
        calls += 1;
        assert!(calls <= 20, "not within the window");
    }
    assert_eq!((calls, asked.get()), (9, 9), "the fifth failure, and half of all");
    let error = client.call(WORK, b"").unwrap_err();
    assert!(is_refusal(&error) && error.retry_after().unwrap() <= open_for, "{error}");
    assert_eq!(asked.get(), 9, "a refused call does not reach the server");
    is_ill.set(0);
    assert!(comes_true(LONG, || client.call(WORK, b"").is_ok()));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    client.call(WORK, b"").unwrap();
    let ticket = client.submit(WORK, b"").unwrap();
    assert!(is_refusal(&client.call(WORK, b"").unwrap_err()), "the third probe is under way");
    assert_eq!(client.collect(ticket).unwrap().to_vec(), b"well");
    assert_eq!(breaker.state(), BreakerState::Closed);
    let stats = breaker.stats();
    assert_eq!((stats.opened, stats.calls, stats.failures), (1, 0, 0));
    assert_eq!(client.generation(), 1);
}

#[test]
fn a_server_that_is_not_there_opens_it_and_the_callers_own_faults_do_not() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let breaker = CircuitBreaker::builder().min_failures(3).open_for(LONG).build();
    {
        let _serving =
            Serving::at(&path, |builder| builder.handle(WORK, |_, _| Err(Failure::invalid_argument("you"))));
        let mut client = client(&path).breaker(breaker.clone()).build();
        for _ in 0..20 {
            assert_eq!(client.call(WORK, b"").unwrap_err().status(), Some(Status::InvalidArgument));
        }
        client.notify(WORK, b"").unwrap();
        assert_eq!((breaker.state(), breaker.stats().calls), (BreakerState::Closed, 20));
    }
    let breaker = CircuitBreaker::builder().min_failures(3).open_for(LONG).build();
    let mut client = client(&path).max_attempts(None).breaker(breaker.clone()).build();
    for _ in 0..3 {
        let error = client.request(WORK).deadline(Duration::from_millis(1)).call(b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert!(is_refusal(&client.submit(WORK, b"").unwrap_err()));
    assert!(is_refusal(&client.notify(WORK, b"").unwrap_err()));
    assert_eq!((breaker.state(), breaker.stats().refused), (BreakerState::Open, 2));
}

#[test]
fn of_many_threads_exactly_one_probes() {
    let _watchdog = Watchdog::start();
    const THREADS: usize = 16;
    let breaker = CircuitBreaker::builder().min_failures(1).open_for(Duration::from_millis(1)).build();
    for round in 0..200 {
        breaker.admit().unwrap().failure();
        assert_eq!(breaker.state(), BreakerState::Open);
        thread::sleep(Duration::from_millis(2));
        let (begun, all_asked) = (Barrier::new(THREADS), Barrier::new(THREADS));
        let admitted = Counter::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    begun.wait();
                    let permit = breaker.admit();
                    admitted.add(u64::from(permit.is_ok()));
                    all_asked.wait();
                    if let Ok(permit) = permit {
                        permit.success();
                    }
                });
            }
        });
        assert_eq!((admitted.get(), breaker.state()), (1, BreakerState::Closed), "round {round}");
    }
}

#[test]
fn a_call_that_panics_is_a_failure_and_one_that_is_abandoned_is_none() {
    let breaker = CircuitBreaker::builder().min_failures(1).failure_rate(0.0).open_for(LONG).build();
    breaker.admit().unwrap().abandon();
    assert_eq!(breaker.stats().calls, 0);
    let panics = || breaker.call(|| -> Result<(), Error> { panic!("in the call") });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
    assert!(caught.is_err());
    assert_eq!((breaker.state(), breaker.clone().stats().opened), (BreakerState::Open, 1));
}

/// The figure counts in release alone.
#[test]
fn refused_calls_cost_little() {
    const CALLS: u32 = 100_000;
    let breaker = CircuitBreaker::builder().min_failures(1).open_for(Duration::from_secs(3_600)).build();
    breaker.admit().unwrap().failure();
    let mut per_call: Vec<_> = (0..9)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..CALLS {
                let refused = breaker.call(|| -> Result<(), Error> { panic!("refused") });
                assert!(is_refusal(&refused.unwrap_err()));
            }
            started.elapsed() / CALLS
        })
        .collect();
    per_call.sort_unstable();
    println!("a refused call: {:?} (median of 9 x {CALLS})", per_call[4]);
    assert_eq!(breaker.stats().refused, 9 * u64::from(CALLS));
}

#[test]
fn what_speaks_against_a_server_is_the_programs_choice() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let _serving = Serving::at(&path, |builder| {
        builder.handle(WORK, |request, _| match request.payload().is_empty() {
            true => Err(Failure::internal("by default a failure")),
            false => Err(Failure::not_found("by default none")),
        })
    });
    let breaker = CircuitBreaker::builder()
        .failure_if(|error| error.status() == Some(Status::NotFound))
        .min_failures(3)
        .failure_rate(0.0)
        .open_for(LONG)
        .build();
    let mut client = client(&path).breaker(breaker.clone()).build();
    for _ in 0..20 {
        assert_eq!(client.call(WORK, b"").unwrap_err().status(), Some(Status::Internal));
    }
    assert_eq!((breaker.state(), breaker.stats().failures), (BreakerState::Closed, 0));
    for _ in 0..3 {
        assert_eq!(client.call(WORK, b"1").unwrap_err().status(), Some(Status::NotFound));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(is_refusal(&client.call(WORK, b"").unwrap_err()));
}
