//! Requests that their caller gives up while a handler works on them.

use std::sync::mpsc::channel;
use std::thread;

use ringwire::Kind;
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;

use super::caller::Serving;
use super::common::Watchdog;

const BUSY: u16 = 7;
const IN_FLIGHT: usize = 16;

#[test]
fn a_busy_handler_sees_the_cancellation_of_its_own_request_among_many_in_flight() {
    let _watchdog = Watchdog::start();
    let (said, heard) = channel();
    let serving = Serving::start(|builder| {
        builder.handle(BUSY, move |request, _| {
            said.send(request.correlation()).unwrap();
            loop {
                request.check()?;
                std::hint::spin_loop();
            }
        })
    });
    let mut caller = serving.caller();
    let asked: Vec<u64> = (0..IN_FLIGHT).map(|_| caller.ask(BUSY, b"")).collect();
    // Those behind the one that runs, every second one, and then the one that runs: each in its own way.
    for skipped in asked.iter().skip(1).step_by(2) {
        caller.stream.cancel(*skipped);
    }
    for (at, number) in asked.iter().enumerate() {
        if at.is_multiple_of(2) {
            assert_eq!(heard.recv().unwrap(), *number, "the handler runs for no other");
            caller.stream.cancel(*number);
        }
        let came = caller.answer().unwrap();
        assert_eq!((came.header.correlation, came.header.kind), (*number, Kind::Error));
        let status = came.status();
        assert_eq!(status.status, Status::Cancelled);
        assert_eq!(status.message.contains("before its handler began"), !at.is_multiple_of(2), "{status:?}");
    }
    assert_eq!(caller.call(ECHO, b"next"), Ok(b"next".to_vec()));
}

#[test]
fn each_of_sixteen_deferred_requests_sees_its_own_cancellation_alone() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle(BUSY, |_, reply| {
            let (replied, later) = reply.detach();
            thread::spawn(move || {
                while !later.is_cancelled() {
                    thread::yield_now();
                }
                later.fail(Status::Cancelled, "seen").unwrap();
            });
            Ok(replied)
        })
    });
    let mut caller = serving.caller();
    let mut asked: Vec<u64> = (0..IN_FLIGHT).map(|_| caller.ask(BUSY, b"")).collect();
    while !asked.is_empty() {
        let number = asked.swap_remove(asked.len() * 7 / 11);
        caller.stream.cancel(number);
        let came = caller.answer().unwrap();
        assert_eq!((came.header.correlation, came.status().status), (number, Status::Cancelled));
    }
}
