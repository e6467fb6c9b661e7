//! Answers that come later, from other threads.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ringwire::server::{DeferredReply, ServerBuilder};
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::{ECHO, SLOTS};
use ringwire::{ErrorKind, Header, Kind};

use super::caller::Serving;
use super::common::{Watchdog, wait_until};
use super::is_long;

const LATER: u16 = 7;
const QUESTION: u16 = 8;
const ANSWER: u16 = 9;

/// A handler that hands everything over.
fn hand_over(builder: ServerBuilder, to: Sender<(Vec<u8>, DeferredReply)>) -> ServerBuilder {
    builder.handle(LATER, move |request, reply| {
        let (replied, later) = reply.detach();
        to.send((request.payload().to_vec(), later)).unwrap();
        Ok(replied)
    })
}

fn serving() -> (Serving, Receiver<(Vec<u8>, DeferredReply)>) {
    let (to, from) = channel();
    (Serving::start(|builder| hand_over(builder, to)), from)
}

#[test]
fn deferred_replies_come_in_any_order_and_each_to_its_request() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    let asked: Vec<u64> = (0..50u8).map(|number| caller.ask(LATER, &[number])).collect();
    let mut waiting: Vec<_> = (0..50).map(|_| from.recv().unwrap()).collect();
    assert_eq!(serving.handle.stats().deferred, 50);
    // The connection goes on meanwhile.
    assert_eq!(caller.call(ECHO, b"now"), Ok(b"now".to_vec()));
    let mut expected = Vec::new();
    let mut at = 0;
    while !waiting.is_empty() {
        at = (at + 17) % waiting.len();
        let (payload, later) = waiting.swap_remove(at);
        expected.push((asked[usize::from(payload[0])], payload.clone()));
        later.send(payload).unwrap();
    }
    for (correlation, payload) in expected {
        let came = caller.answer().unwrap();
        assert_eq!((came.header, came.payload), (Header::new(Kind::Response, LATER, correlation), payload));
    }
    assert_eq!(serving.handle.stats().deferred, 0);
}

#[test]
fn a_deferred_reply_that_is_dropped_answers_internal() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    caller.ask(LATER, b"");
    drop(from.recv().unwrap());
    let came = caller.answer().unwrap();
    assert_eq!((came.header.kind, came.status().status), (Kind::Error, Status::Internal));
    caller.ask(LATER, b"");
    from.recv().unwrap().1.fail(Status::NotFound, "looked everywhere").unwrap();
    let came = caller.answer().unwrap();
    assert_eq!(
        (came.status().status, came.status().message.as_str()),
        (Status::NotFound, "looked everywhere")
    );
    // Also amid a stream.
    caller.ask(LATER, b"");
    let mut later = from.recv().unwrap().1;
    later.item(b"one").unwrap();
    drop(later);
    assert_eq!(caller.answer().unwrap().header.kind, Kind::StreamItem);
    let end = caller.answer().unwrap();
    assert_eq!((end.header.kind, end.status().status), (Kind::StreamEnd, Status::Internal));
    assert_eq!(serving.handle.stats().failures, 3);
}

#[test]
fn a_deferred_stream_is_held_back_by_its_client() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    let number = caller.ask(LATER, b"");
    let mut later = from.recv().unwrap().1;
    let worker = thread::spawn(move || {
        for item in 0..2_000u64 {
            later.item([&item.to_ne_bytes()[..], &[0; 200]].concat()).unwrap();
        }
        later.send(2_000u64.to_ne_bytes()).unwrap();
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!worker.is_finished(), "400 KB do not fit the ring and 64 places");
    for item in 0..=2_000u64 {
        let came = caller.answer().unwrap();
        assert_eq!(came.header, Header::new(Kind::StreamItem, LATER, number));
        assert_eq!(came.payload[..8], item.to_ne_bytes());
    }
    assert_eq!(caller.answer().unwrap().status().status, Status::Ok);
    worker.join().unwrap();
}

#[test]
fn an_item_waits_for_the_send_timeout_at_most() {
    let _watchdog = Watchdog::start();
    let (to, from) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let serving = Serving::start(|builder| {
        // A handler that does not return: as good as a client that does not read, and its connection is not closed.
        let builder = builder.handle(QUESTION, move |_, reply| {
            released.lock().unwrap().recv().unwrap();
            reply.send(b"")
        });
        hand_over(builder, to).send_timeout(Some(Duration::from_millis(300)))
    });
    let mut caller = serving.caller();
    caller.ask(LATER, b"");
    let mut later = from.recv().unwrap().1;
    caller.ask(QUESTION, b"");
    wait_until(|| serving.handle.stats().requests == 2);
    let (sent, error) = (0..).find_map(|sent| later.item(b"item").err().map(|error| (sent, error))).unwrap();
    assert_eq!((sent, error.kind()), (64, ErrorKind::ResourceExhausted), "{error}");
    // The same worker has time for others, and the stream goes on later.
    let mut other = serving.caller();
    other.ask(LATER, b"");
    from.recv().unwrap().1.send(b"yours").unwrap();
    assert_eq!(other.answer().unwrap().payload, b"yours");
    release.send(()).unwrap();
    assert_eq!(caller.answer().unwrap().header.message_type, QUESTION);
    for _ in 0..sent {
        assert_eq!(caller.answer().unwrap().payload, b"item");
    }
    later.item(b"once more").unwrap();
    assert_eq!(caller.answer().unwrap().payload, b"once more");
}

#[test]
fn an_item_that_may_not_wait_is_full_at_once_and_later_goes() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    let number = caller.ask(LATER, b"");
    let mut later = from.recv().unwrap().1;
    // Beyond the ring and 64 places, without a read in between.
    let mut sent = 0u64;
    wait_until(|| match later.try_item(&[&sent.to_ne_bytes()[..], &[0; 2000]].concat()) {
        Ok(()) => {
            sent += 1;
            sent == 2_000
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Full);
            sent >= 64
        }
    });
    assert!(sent < 2_000, "nobody takes 4 MB in");
    for item in 0..sent {
        let came = caller.answer().unwrap();
        assert_eq!(came.header, Header::new(Kind::StreamItem, LATER, number));
        assert_eq!(came.payload[..8], item.to_ne_bytes());
    }
    wait_until(|| later.try_item(b"once more").is_ok());
    assert_eq!(caller.answer().unwrap().payload, b"once more");
    caller.stream.cancel(number);
    wait_until(|| later.try_item(b"no more").is_err_and(|error| error.kind() == ErrorKind::Cancelled));
    drop(later);
    caller.ask(LATER, b"");
    let mut later = from.recv().unwrap().1;
    drop(caller);
    wait_until(|| later.try_item(b"x").is_err_and(|error| error.kind() == ErrorKind::PeerClosed));
}

#[test]
fn who_defers_sees_that_the_caller_gave_up_or_is_gone() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    let number = caller.ask_until(LATER, b"", Deadline::after(Duration::from_secs(900)));
    let (_, mut later) = from.recv().unwrap();
    assert!(!later.is_cancelled() && later.deadline() < Deadline::NEVER);
    caller.stream.cancel(number);
    wait_until(|| later.is_cancelled());
    assert_eq!(later.item(b"x").unwrap_err().kind(), ErrorKind::Cancelled);
    later.fail(Status::Cancelled, "as you like").unwrap();
    assert_eq!(caller.answer().unwrap().status().status, Status::Cancelled);
    caller.ask(LATER, b"");
    caller.ask(LATER, b"");
    let (_, later) = from.recv().unwrap();
    let (_, mut stream) = from.recv().unwrap();
    drop(caller);
    wait_until(|| serving.handle.connections().is_empty());
    assert_eq!(later.send(b"too late").unwrap_err().kind(), ErrorKind::PeerClosed);
    assert_eq!(stream.item(b"too late").unwrap_err().kind(), ErrorKind::PeerClosed);
}

#[test]
fn more_requests_than_slots_are_refused_while_all_are_deferred() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    for _ in 0..SLOTS {
        caller.ask(LATER, b"");
    }
    let (status, message) = caller.refused(ECHO, b"one more");
    assert_eq!(status, Status::ResourceExhausted);
    assert!(message.contains("64"), "{message}");
    from.recv().unwrap().1.send(b"one").unwrap();
    assert_eq!(caller.answer().unwrap().payload, b"one");
    assert_eq!(caller.call(ECHO, b"now"), Ok(b"now".to_vec()));
}

#[test]
fn a_long_deferred_answer_travels_in_fragments_and_one_beyond_the_limit_says_so() {
    let _watchdog = Watchdog::start();
    let (serving, from) = serving();
    let mut caller = serving.caller();
    caller.ask(LATER, b"");
    from.recv().unwrap().1.send(vec![3; 1 << 20]).unwrap();
    assert_eq!(caller.answer().unwrap().payload, vec![3; 1 << 20]);
    caller.ask(LATER, b"");
    from.recv().unwrap().1.send(vec![3; (10 << 20) + 1]).unwrap();
    assert_eq!(caller.answer().unwrap().status().status, Status::MessageTooLarge);
}

#[test]
fn a_handler_asks_its_own_client_on_the_same_connection() {
    let _watchdog = Watchdog::start();
    let rounds = if is_long() { 10_000u64 } else { 1_000 };
    let waiting: &Mutex<Option<DeferredReply>> = Box::leak(Box::new(Mutex::new(None)));
    let serving = Serving::start(|builder| {
        builder
            .handle(LATER, |request, mut reply| {
                reply.emit(QUESTION, &request.payload().to_vec())?;
                let (replied, later) = reply.detach();
                *waiting.lock().unwrap() = Some(later);
                Ok(replied)
            })
            .handle(ANSWER, |request, reply| {
                // On the connection's own thread, which never waits for itself.
                let later = waiting.lock().unwrap().take().unwrap();
                later.send(request.payload().to_vec()).unwrap();
                reply.send(b"thanks")
            })
    });
    let mut caller = serving.caller();
    for round in 0..rounds {
        let number = caller.ask(LATER, &round.to_ne_bytes());
        let question = caller.event();
        assert_eq!(
            (question.header.message_type, &question.payload[..]),
            (QUESTION, &round.to_ne_bytes()[..])
        );
        assert_eq!(caller.call(ANSWER, &(round + 1).to_ne_bytes()), Ok(b"thanks".to_vec()));
        let answer = caller.answer().unwrap();
        assert_eq!(answer.header, Header::new(Kind::Response, LATER, number));
        assert_eq!(answer.payload, (round + 1).to_ne_bytes());
    }
}

#[test]
fn items_from_the_connections_own_thread_are_refused_rather_than_waited_for() {
    let _watchdog = Watchdog::start();
    let (said, heard) = channel();
    let serving = Serving::start(|builder| {
        builder.handle(LATER, move |_, reply| {
            let (replied, mut later) = reply.detach();
            let sent = (0..).find(|_| later.item(b"item").is_err()).unwrap();
            said.send(sent).unwrap();
            later.finish()?;
            Ok(replied)
        })
    });
    let mut caller = serving.caller();
    caller.ask(LATER, b"");
    let sent: u64 = heard.recv().unwrap();
    assert_eq!(sent, 64);
    for _ in 0..sent {
        assert_eq!(caller.answer().unwrap().payload, b"item");
    }
    assert_eq!(caller.answer().unwrap().status().status, Status::Ok);
}
