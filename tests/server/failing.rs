//! Handlers that panic or fail, and what the error policy makes of it.

use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::server::{Action, ErrorClass, ErrorEvent};
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{ErrorKind, Kind};

use super::caller::Serving;
use super::common::Watchdog;
use super::is_long;

const TYPE: u16 = 7;
const WINDOW: u64 = 16;

#[test]
fn a_panic_on_every_tenth_request_costs_those_requests_and_nothing_else() {
    let _watchdog = Watchdog::start();
    let requests = if is_long() { 100_000 } else { 2_000 };
    std::panic::set_hook(Box::new(|info| {
        // The expected ones would fill the screen.
        if !std::thread::current().name().is_some_and(|name| name.starts_with("ringwire-")) {
            eprintln!("{info}");
        }
    }));
    let serving = Serving::start(|builder| {
        builder.handle(TYPE, |request, reply| {
            let number = request.payload().read_at::<u64>(0).unwrap();
            assert!(!number.is_multiple_of(10), "request {number}");
            reply.send(&(number * 2).to_ne_bytes())
        })
    });
    let mut caller = serving.caller();
    let (mut sent, mut panics) = (0u64, 0);
    let mut asked = std::collections::VecDeque::new();
    for number in 0..requests {
        while sent < requests && sent < number + WINDOW {
            asked.push_back(caller.ask(TYPE, &sent.to_ne_bytes()));
            sent += 1;
        }
        let came = caller.answer().unwrap();
        assert_eq!(Some(came.header.correlation), asked.pop_front(), "request {number}");
        if number.is_multiple_of(10) {
            let status = came.status();
            assert_eq!((came.header.kind, status.status), (Kind::Error, Status::Internal));
            assert!(status.message.contains(&format!("request {number}")), "{}", status.message);
            panics += 1;
        } else {
            assert_eq!(
                (came.header.kind, came.payload),
                (Kind::Response, (number * 2).to_ne_bytes().to_vec())
            );
        }
    }
    let stats = serving.handle.stats();
    assert_eq!((stats.panics, stats.requests, stats.failures), (panics, requests, panics));
    assert_eq!((stats.accepted, stats.connection_errors), (1, 0), "on one connection");
}

#[test]
fn a_panic_amid_a_stream_ends_it_and_what_was_written_in_place_is_not_sent() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder
            .handle_streaming(TYPE, |request, items| {
                items.send(b"one")?;
                assert!(!request.is_cancelled(), "never");
                items.send_with(100, |_| panic!("in place"))
            })
            .handle(TYPE + 1, |_, reply| reply.send_with(100, |_| panic!("in place")))
            .handle(TYPE + 2, |_, reply| reply.send_with(1 << 20, |_| ()))
            .handle(TYPE + 3, |_, reply| {
                reply.send_with(100, |slot| {
                    slot.write(b"in place");
                })
            })
    });
    let mut caller = serving.caller();
    caller.ask(TYPE, b"");
    assert_eq!(caller.answer().unwrap().payload, b"one");
    let end = caller.answer().unwrap();
    assert_eq!((end.header.kind, end.status().status), (Kind::StreamEnd, Status::Internal));
    assert_eq!(caller.refused(TYPE + 1, b"").0, Status::Internal);
    assert_eq!(caller.refused(TYPE + 2, b"").0, Status::MessageTooLarge);
    assert_eq!(caller.call(TYPE + 3, b""), Ok(b"in place".to_vec()));
}

#[test]
fn the_policy_decides_between_a_status_the_connection_and_the_server() {
    let _watchdog = Watchdog::start();
    let (said, heard) = channel();
    let serving = Serving::start(|builder| {
        builder
            .error_policy(move |error: &ErrorEvent<'_>| {
                said.send((error.class, error.message_type, error.connection.map(|of| of.id()))).unwrap();
                match error.failure.message() {
                    "mild" => Action::Answer(Status::Aborted),
                    "grave" => Action::CloseConnection,
                    "fatal" => Action::StopServer,
                    _ => Action::Answer(error.failure.status()),
                }
            })
            .handle(TYPE, |request, _| {
                let said = String::from_utf8(request.payload().to_vec()).unwrap();
                Err(ringwire::Failure::internal(said))
            })
    });
    let (mut one, mut two) = (serving.caller(), serving.caller());
    assert_eq!(one.refused(TYPE, b"mild"), (Status::Aborted, "mild".to_owned()));
    assert_eq!(heard.recv().unwrap(), (ErrorClass::Handler, Some(TYPE), Some(1)));
    assert_eq!(one.refused(99, b"").0, Status::Unimplemented);
    assert_eq!(heard.recv().unwrap(), (ErrorClass::Request, Some(99), Some(1)));
    assert_eq!(one.refused(TYPE, b"grave"), (Status::Internal, "grave".to_owned()), "answered first");
    assert!(one.until_closed().is_empty());
    assert_eq!(two.call(ECHO, b"here"), Ok(b"here".to_vec()));
    assert_eq!(two.refused(TYPE, b"fatal"), (Status::Internal, "fatal".to_owned()));
    two.until_closed();
    assert!(two.goodbye.is_some());
    let error = serving.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("fatal"), "{error}");
}

#[test]
fn a_policy_that_panics_is_replaced_by_the_default_one() {
    let _watchdog = Watchdog::start();
    let serving =
        Serving::start(|builder| builder.error_policy(|_: &ErrorEvent<'_>| -> Action { panic!("judge") }));
    let mut caller = serving.caller();
    for _ in 0..3 {
        assert_eq!(caller.refused(99, b"").0, Status::Unimplemented);
    }
}

#[test]
fn the_proof_of_another_answer_is_none() {
    let _watchdog = Watchdog::start();
    let kept = std::sync::Mutex::new(None);
    let serving = Serving::start(|builder| {
        builder.handle(TYPE, move |_, reply| {
            let mut kept = kept.lock().unwrap();
            match kept.take() {
                Some(proof) => Ok(proof),
                None => {
                    *kept = Some(reply.send(b"twice")?);
                    Err(ringwire::Failure::internal("an error behind the answer"))
                }
            }
        })
    });
    let mut caller = serving.caller();
    assert_eq!(caller.call(TYPE, b""), Ok(b"twice".to_vec()));
    let (status, message) = caller.refused(TYPE, b"");
    assert_eq!(status, Status::Internal);
    assert!(message.contains("another request's answer"), "{message}");
    assert_eq!(serving.handle.stats().handler_errors, 2, "also the one behind an answer");
    assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()), "nothing was answered twice");
}

#[test]
fn a_client_that_stops_reading_is_closed_after_the_send_timeout() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.send_timeout(Some(Duration::from_millis(50))));
    let mut caller = serving.caller();
    let header = ringwire::Header::new(Kind::Request, ECHO, 1 << 6);
    super::common::wait_until(|| {
        // Until both rings are full.
        let _ = caller.stream.try_send(header, &[1; 8000]);
        serving.handle.connections().is_empty() && serving.handle.stats().accepted == 1
    });
    assert_eq!(serving.handle.stats().connection_errors, 1);
}

/// What a connection keeps, and panics when it goes.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("in the metadata");
    }
}

#[test]
fn a_panic_outside_of_any_handler_takes_no_thread_along() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.max_connections(1).idle_threads(1).handle(TYPE, |request, reply| {
            request.connection().metadata().set(Nasty);
            reply.send(b"kept")
        })
    });
    for _ in 0..3 {
        let mut caller = serving.caller();
        caller.call(TYPE, b"").unwrap();
        drop(caller);
        super::common::wait_until(|| serving.handle.connections().is_empty());
        // Behind its connection's end, until the thread is idle again.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(serving.caller().call(ECHO, b"on"), Ok(b"on".to_vec()));
    // A thread that was lost would be waited for.
    serving.shut_down();
}

#[test]
fn a_long_handler_learns_that_its_callers_deadline_has_passed() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle(TYPE, |request, _| {
            loop {
                request.context().check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    });
    let mut caller = serving.caller();
    caller.ask_until(TYPE, b"", Deadline::after(Duration::from_millis(30)));
    let refused = caller.answer().unwrap().status();
    assert_eq!(refused.status, Status::DeadlineExceeded);
    assert!(refused.message.contains("in the handler"), "{}", refused.message);
}
