//! Requests and their answers, one connection.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ringwire::server::{Failure, Flow, Middleware, Outcome, Server, Timing};
use ringwire::sync::Counter;
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::{BUILT_IN_FIRST, ECHO, PING, SERVER_INFO, STATS};
use ringwire::{ErrorKind, Header, Kind, Stream};

use super::caller::Serving;
use super::common::{Watchdog, assert_bytes, bytes, wait_until};

const SHOUT: u16 = 7;
const COUNT: u16 = 8;
const FAIL: u16 = 9;

#[test]
fn a_request_is_answered_by_its_handler() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder
            .handle(SHOUT, |request, reply| {
                let loud = request.payload().to_vec().to_ascii_uppercase();
                reply.send(&loud)
            })
            .handle(FAIL, |request, reply| {
                assert_eq!(request.message_type(), FAIL);
                match request.payload().len() {
                    0 => reply.fail(Status::NotFound, "no such thing"),
                    1 => Err(Failure::unavailable("busy").retry_after(Duration::from_millis(30))),
                    _ => Err(std::fs::File::open("/nonexistent").unwrap_err().into()),
                }
            })
    });
    let mut caller = serving.caller();
    assert_eq!(caller.call(SHOUT, b"hello"), Ok(b"HELLO".to_vec()));
    assert_eq!(caller.refused(FAIL, b""), (Status::NotFound, "no such thing".to_owned()));
    let busy = caller.call(FAIL, b"1").unwrap_err();
    assert_eq!((busy.status, busy.retry_after), (Status::Unavailable, Some(Duration::from_millis(30))));
    assert_eq!(caller.refused(FAIL, b"12").0, Status::NotFound);
    let (status, message) = caller.refused(12, b"");
    assert_eq!(status, Status::Unimplemented);
    assert!(message.contains("12"), "{message}");
    let stats = serving.handle.stats();
    assert_eq!((stats.requests, stats.failures, stats.handler_errors, stats.request_errors), (5, 4, 3, 1));
}

#[test]
fn an_echo_returns_payloads_of_every_size_as_they_were() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    for length in [0, 1, 63, 64, 65, 511, 512, 513, 4096, 30_000, 32_752, 32_753, 65_536, 65_537, 1 << 20] {
        let sent = bytes(length as u64, length);
        assert_bytes(&caller.call(ECHO, &sent).unwrap(), &sent, "echo");
    }
    // Given back behind the answer.
    wait_until(|| serving.handle.pool_stats().lent() == 0);
    let (status, message) = caller.refused(ECHO, &bytes(0, (1 << 20) + 1));
    assert_eq!(status, Status::MessageTooLarge);
    assert!(message.contains("1048576"), "{message}");
    assert_eq!(caller.call(ECHO, b"still there"), Ok(b"still there".to_vec()));
}

#[test]
fn the_built_in_types_answer_and_are_nobody_elses() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    assert_eq!(caller.call(PING, b"x"), Ok(vec![]));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stats = text(caller.call(STATS, b"").unwrap());
    assert!(stats.contains("connections 1\n") && stats.contains("requests 2\n"), "{stats}");
    let info = text(caller.call(SERVER_INFO, b"").unwrap());
    assert!(info.contains(&format!("process {}\n", std::process::id())), "{info}");
    caller.stream.send(Header::new(Kind::Ping, 0, 99), b"abc").unwrap();
    let pong = caller.answer().unwrap();
    assert_eq!((pong.header, pong.payload), (Header::new(Kind::Pong, 0, 99), b"abc".to_vec()));
    let refused = serving.handle.add_handler(BUILT_IN_FIRST + 3, |_, reply| reply.send(b"")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_duplicate_handler_is_refused_when_building_and_while_serving() {
    let directory = tempfile::tempdir().unwrap();
    let twice = Server::builder(directory.path().join("twice.sock"))
        .handle(SHOUT, |_, reply| reply.send(b"1"))
        .handle_streaming(SHOUT, |_, _| Ok(()))
        .build()
        .unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidInput);
    assert!(twice.to_string().contains("already registered"), "{twice}");
}

#[test]
fn handlers_come_and_go_while_serving() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    for round in 0u8..20 {
        assert_eq!(caller.refused(SHOUT, b"").0, Status::Unimplemented);
        serving.handle.add_handler(SHOUT, move |_, reply| reply.send(&[round])).unwrap();
        let again = serving.handle.add_handler(SHOUT, |_, reply| reply.send(b"")).unwrap_err();
        assert!(again.to_string().contains("already registered"), "{again}");
        assert_eq!(caller.call(SHOUT, b""), Ok(vec![round]));
        assert!(serving.handle.remove_handler(SHOUT) && !serving.handle.remove_handler(SHOUT));
    }
    serving.handle.add_streaming_handler(SHOUT, |_, items| items.send(b"one")).unwrap();
    caller.ask(SHOUT, b"");
    assert_eq!(caller.answer().unwrap().payload, b"one");
    assert_eq!(caller.answer().unwrap().header.kind, Kind::StreamEnd);
}

#[test]
fn a_deadline_travels_and_what_is_late_or_cancelled_reaches_no_handler() {
    let _watchdog = Watchdog::start();
    let ran = Arc::new(Counter::new(0));
    let serving = Serving::start(|builder| {
        let ran = Arc::clone(&ran);
        builder.handle(COUNT, move |request, reply| {
            ran.add(1);
            let left = request.time_left().map_or(0, |left| left.as_secs());
            reply.send(&[&left.to_ne_bytes()[..], &request.payload().to_vec()].concat())
        })
    });
    let mut caller = serving.caller();
    assert_eq!(caller.call(COUNT, b"ab"), Ok(b"\0\0\0\0\0\0\0\0ab".to_vec()));
    caller.ask_until(COUNT, b"cd", Deadline::after(Duration::from_secs(1_000)));
    let answer = caller.answer().unwrap().payload;
    let left = u64::from_ne_bytes(answer[..8].try_into().unwrap());
    assert!((900..1_000).contains(&left), "{left}");
    assert_eq!(answer[8..], *b"cd");
    // In fragments too.
    let long = bytes(3, 100_000);
    caller.ask_until(COUNT, &long, Deadline::after(Duration::from_secs(1_000)));
    assert_bytes(&caller.answer().unwrap().payload[8..], &long, "a long request with a deadline");
    assert_eq!(ran.get(), 3);
    for payload in [&b"late"[..], &long] {
        caller.ask_until(COUNT, payload, Deadline::at_ns(1));
        let late = caller.answer().unwrap();
        assert_eq!((late.header.kind, late.status().status), (Kind::Error, Status::DeadlineExceeded));
    }
    // A notification too, though nobody is told.
    let late = Header::new(Kind::Event, COUNT, 0).extended();
    caller.stream.send(late, &1u64.to_ne_bytes()).unwrap();
    let header = Header::new(Kind::Request, COUNT, 77 << 6).extended();
    caller.stream.send(header, b"short").unwrap();
    assert_eq!(caller.answer().unwrap().status().status, Status::InvalidArgument);
    let cancelled = 78 << 6;
    caller.stream.cancel(cancelled);
    caller.stream.send(Header::new(Kind::Request, COUNT, cancelled), b"").unwrap();
    let answer = caller.answer().unwrap();
    assert_eq!((answer.header.correlation, answer.status().status), (cancelled, Status::Cancelled));
    assert_eq!(ran.get(), 3, "none of them ran");
}

#[test]
fn nobody_answers_a_notification() {
    let _watchdog = Watchdog::start();
    let (said, heard) = std::sync::mpsc::channel();
    let serving = Serving::start(|builder| {
        builder
            .handle(SHOUT, move |request, mut reply| {
                assert!(request.is_one_way() && !request.is_cancelled());
                said.send(request.payload().to_vec()).unwrap();
                reply.emit(5, b"heard")?;
                match request.payload().len() {
                    0 => Err(Failure::internal("nobody hears this")),
                    1 => panic!("nor this"),
                    2 => Ok(reply.detach().0),
                    _ => reply.send(b"nor that"),
                }
            })
            .handle_streaming(COUNT, |_, items| items.send(b"nor an item"))
    });
    let mut caller = serving.caller();
    for payload in [&b""[..], b"1", b"12", b"123"] {
        caller.notify(SHOUT, payload);
        assert_eq!(heard.recv().unwrap(), payload);
    }
    caller.notify(COUNT, b"");
    caller.notify(12_345, b"nobody");
    assert_eq!(caller.call(ECHO, b"next"), Ok(b"next".to_vec()), "the first answer is that of the request");
    assert_eq!(caller.events.len(), 4);
    assert!(caller.events.iter().all(|event| event.header == Header::new(Kind::Event, 5, 0)));
}

#[test]
fn a_streamed_answer_has_its_items_and_one_end() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle_streaming(COUNT, |mut request, items| {
            let mut wanted = Vec::new();
            request.read_to_end(&mut wanted)?;
            items.emit(4, b"begin")?;
            for number in 0..wanted.len() as u64 {
                items.send(&number.to_ne_bytes())?;
            }
            if wanted.first() == Some(&b'!') {
                return Err(Failure::aborted(format!("behind {}", items.count())));
            }
            Ok(())
        })
    });
    let mut caller = serving.caller();
    for wanted in [&b""[..], b"five!", b"!abort", b"", &[0; 40_000]] {
        let number = caller.ask(COUNT, wanted);
        for item in 0..wanted.len() as u64 {
            let came = caller.answer().unwrap();
            assert_eq!(came.header, Header::new(Kind::StreamItem, COUNT, number));
            assert_eq!(came.payload, item.to_ne_bytes());
        }
        let end = caller.answer().unwrap();
        assert_eq!(end.header, Header::new(Kind::StreamEnd, COUNT, number));
        let aborts = wanted.first() == Some(&b'!');
        let expected = if aborts { Status::Aborted } else { Status::Ok };
        assert_eq!(end.status().status, expected);
        assert_eq!(caller.event().payload, b"begin");
    }
}

#[test]
fn a_stream_that_nobody_wants_ends_early() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle_streaming(COUNT, |_, items| {
            loop {
                items.send(&[7; 1000])?;
            }
        })
    });
    let mut caller = serving.caller();
    let number = caller.ask(COUNT, b"");
    assert_eq!(caller.answer().unwrap().header.kind, Kind::StreamItem);
    caller.stream.cancel(number);
    let end = loop {
        let came = caller.answer().unwrap();
        if came.header.kind != Kind::StreamItem {
            break came;
        }
    };
    assert_eq!((end.header.kind, end.status().status), (Kind::StreamEnd, Status::Cancelled));
}

/// Writes down what it is asked and told.
struct Scribe(&'static str, std::sync::mpsc::Sender<String>);

impl Middleware for Scribe {
    fn before(&self, context: &ringwire::server::Context<'_>) -> Result<Flow, Failure> {
        self.1.send(format!("{} before {}", self.0, context.message_type())).unwrap();
        match (self.0, context.message_type()) {
            ("two", 21) => Ok(Flow::Answer(b"short cut".to_vec())),
            ("two", 22) => Err(Failure::permission_denied("not today")),
            ("two", 23) => panic!("in the middle"),
            _ => Ok(Flow::Continue),
        }
    }

    fn after(&self, _: &ringwire::server::Context<'_>, outcome: &Outcome) {
        self.1.send(format!("{} after {:?}", self.0, outcome.status)).unwrap();
    }
}

#[test]
fn middleware_stands_around_the_handler_in_order() {
    let _watchdog = Watchdog::start();
    let (said, heard) = std::sync::mpsc::channel();
    let timing = Arc::new(Timing::default());
    let serving = Serving::start(|builder| {
        let mut builder = builder.middleware(Arc::clone(&timing));
        for name in ["one", "two", "three"] {
            builder = builder.middleware(Scribe(name, said.clone()));
        }
        for message_type in 20..24 {
            builder = builder.handle(message_type, |_, reply| reply.send(b"handled"));
        }
        builder.handle(24, |_, _| panic!("handler")).handle_streaming(25, |_, items| items.send(b"item"))
    });
    let mut caller = serving.caller();
    let expect = |said: &[&str]| {
        for line in said {
            assert_eq!(heard.recv().unwrap(), *line);
        }
    };
    assert_eq!(caller.call(20, b""), Ok(b"handled".to_vec()));
    expect(&["one before 20", "two before 20", "three before 20"]);
    expect(&["three after Ok", "two after Ok", "one after Ok"]);
    assert_eq!(caller.call(21, b""), Ok(b"short cut".to_vec()));
    expect(&["one before 21", "two before 21", "two after Ok", "one after Ok"]);
    assert_eq!(caller.refused(22, b"").0, Status::PermissionDenied);
    expect(&["one before 22", "two before 22", "two after PermissionDenied", "one after PermissionDenied"]);
    assert_eq!(caller.refused(23, b"").0, Status::Internal);
    expect(&["one before 23", "two before 23", "two after Internal", "one after Internal"]);
    assert_eq!(caller.refused(24, b"").0, Status::Internal);
    expect(&["one before 24", "two before 24", "three before 24"]);
    expect(&["three after Internal", "two after Internal", "one after Internal"]);
    caller.ask(25, b"");
    assert_eq!(caller.answer().unwrap().payload, b"item");
    assert_eq!(caller.answer().unwrap().header.kind, Kind::StreamEnd);
    let report = timing.report();
    assert_eq!(report.iter().map(|(of, total)| (*of, total.count)).collect::<Vec<_>>().len(), 6);
    assert_eq!(report[2].1.failures, 1);
}

#[test]
fn a_client_that_answers_loses_its_connection_and_nobody_else_does() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut other = serving.caller();
    for kind in [Kind::Response, Kind::StreamItem, Kind::Pong] {
        let mut caller = serving.caller();
        caller.stream.send(Header::new(kind, ECHO, 3), b"").unwrap();
        assert!(caller.until_closed().is_empty());
        assert_eq!(other.call(ECHO, b"well"), Ok(b"well".to_vec()));
    }
    assert_eq!(serving.handle.stats().connection_errors, 3);
}

#[test]
fn metadata_stays_with_its_connection() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle(COUNT, |request, reply| {
            let metadata = request.connection().metadata();
            let visits = metadata.get::<u64>().map_or(1, |visits| *visits + 1);
            metadata.set(visits);
            reply.send(&visits.to_ne_bytes())
        })
    });
    let (mut one, mut two) = (serving.caller(), serving.caller());
    for expected in 1..4u64 {
        assert_eq!(one.call(COUNT, b""), Ok(expected.to_ne_bytes().to_vec()));
    }
    assert_eq!(two.call(COUNT, b""), Ok(1u64.to_ne_bytes().to_vec()));
    let listed = serving.handle.connections();
    assert_eq!(listed.iter().map(|of| of.requests).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(listed[0].peer, Stream::connect(&serving.path).unwrap().peer());
}
