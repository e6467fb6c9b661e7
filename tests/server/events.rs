//! Events from other threads of the server's process.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::server::WhenFull;
use ringwire::sync::Counter;
use ringwire::wire::call::ECHO;
use ringwire::{ErrorKind, Header, Kind, Stream, WaitStrategy};

use super::caller::{Caller, Serving};
use super::common::{Watchdog, wait_until};

const NEWS: u16 = 50;
/// Promptly, on a machine that does other things too.
const PROMPT: Duration = Duration::from_secs(2);

fn news(number: u64) -> Header {
    let _ = number;
    Header::new(Kind::Event, NEWS, 0)
}

#[test]
fn an_event_reaches_a_connection_in_every_state_of_its_wait() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinOnly, WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce] {
        let serving = Serving::start(|builder| builder.wait_strategy(strategy));
        let mut caller = serving.caller();
        caller.call(ECHO, b"").unwrap();
        let connection = serving.handle.connection(1).unwrap();
        // Just asked, asleep on its word, asleep on the lifeline.
        for pause_ms in [0, 0, 3, 30, 30] {
            thread::sleep(Duration::from_millis(pause_ms));
            let before = Instant::now();
            connection.send_event(NEWS, &pause_ms.to_ne_bytes()).unwrap();
            let event = caller.event();
            assert_eq!((event.header, event.payload), (news(0), pause_ms.to_ne_bytes().to_vec()));
            assert!(before.elapsed() < PROMPT, "{strategy:?} after {pause_ms} ms: {:?}", before.elapsed());
        }
        wait_until(|| connection.summary().events_sent == 5);
    }
}

#[test]
fn events_come_in_order_between_answers_also_to_a_connection_that_is_never_idle() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    let handle = serving.handle.clone();
    let stop = Arc::new(Counter::new(0));
    let sender = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut sent = 0u64;
            while stop.get() == 0 {
                assert_eq!(handle.broadcast(NEWS, &sent.to_ne_bytes()), 1);
                sent += 1;
                thread::sleep(Duration::from_micros(200));
            }
            sent
        }
    });
    let (mut seen, mut asked) = (0u64, 0u64);
    // The ring always has a request: the look at what others want does not wait for a pause.
    while seen < 200 {
        while asked < 32 {
            caller.ask(ECHO, b"on and on");
            asked += 1;
        }
        let came = caller.next().unwrap();
        match came.header.kind {
            Kind::Event => {
                assert_eq!(came.payload, seen.to_ne_bytes());
                seen += 1;
            }
            _ => asked -= 1,
        }
    }
    stop.set(1);
    let mut rest = 0;
    let total = loop {
        if sender.is_finished() {
            break sender.join().unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    };
    while seen + rest < total || asked > 0 {
        match caller.next().unwrap().header.kind {
            Kind::Event => rest += 1,
            _ => asked -= 1,
        }
    }
}

/// Events until neither the ring nor the queue takes another one.
fn flood(serving: &Serving, what: impl Fn(u64) -> bool) -> u64 {
    let mut sent = 0u64;
    let connection = serving.handle.connection(1).unwrap();
    loop {
        let payload = [&sent.to_ne_bytes()[..], &[0; 1000]].concat();
        match connection.send_event(NEWS, &payload) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::PeerClosed),
                    "{error}"
                );
                return sent;
            }
        }
        if what(sent) {
            return sent;
        }
    }
}

fn number_of(caller: &mut Caller) -> u64 {
    u64::from_ne_bytes(caller.event().payload[..8].try_into().unwrap())
}

#[test]
fn a_full_queue_makes_its_sender_wait_and_then_says_so() {
    let _watchdog = Watchdog::start();
    let patience = WhenFull::Wait(Duration::from_millis(30));
    let serving = Serving::start(|builder| builder.ring_bytes(8192).events(4, patience));
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    let sent = flood(&serving, |_| false);
    assert!((4..20).contains(&sent), "{sent}");
    // A request is answered although the events have to wait, as soon as its client reads.
    let number = caller.ask(ECHO, b"all the same");
    for expected in 0..sent {
        loop {
            if let Some(event) = caller.events.pop_front() {
                assert_eq!(event.payload[..8], expected.to_ne_bytes());
                break;
            }
            let came = caller.next().unwrap();
            if came.header.kind == Kind::Event {
                caller.events.push_back(came);
            } else {
                assert_eq!(came.header.correlation, number);
            }
        }
    }
    let connection = serving.handle.connection(1).unwrap();
    connection.send_event(NEWS, b"room again").unwrap();
    assert_eq!(connection.summary().events_dropped, 0);
}

#[test]
fn a_full_queue_drops_its_oldest() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.ring_bytes(8192).events(4, WhenFull::DropOldest));
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    let sent = flood(&serving, |sent| sent == 100);
    let (mut received, mut last) = (0, None);
    while last != Some(sent - 1) {
        let number = number_of(&mut caller);
        assert!(last < Some(number), "in order");
        last = Some(number);
        received += 1;
    }
    assert!(received < 100);
    wait_until(|| serving.handle.connections()[0].events_sent == received);
    assert_eq!(serving.handle.connections()[0].events_dropped, 100 - received);
}

#[test]
fn a_full_queue_ends_the_connection_of_a_client_that_does_not_keep_up() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.ring_bytes(8192).events(4, WhenFull::Disconnect));
    let (mut slow, mut other) = (serving.caller(), serving.caller());
    slow.call(ECHO, b"").unwrap();
    other.call(ECHO, b"").unwrap();
    flood(&serving, |_| false);
    wait_until(|| serving.handle.connections().len() == 1);
    assert_eq!(other.call(ECHO, b"well"), Ok(b"well".to_vec()));
    slow.until_closed();
}

#[test]
fn a_handler_does_not_wait_for_its_own_thread() {
    let _watchdog = Watchdog::start();
    let (said, heard) = channel();
    let serving = Serving::start(|builder| builder.events(4, WhenFull::Wait(Duration::from_secs(1000))));
    let handle = serving.handle.clone();
    serving
        .handle
        .add_handler(7, move |request, reply| {
            let connection = handle.connection(request.connection().id()).unwrap();
            let full = (0..9).find_map(|_| connection.send_event(NEWS, b"x").err()).unwrap();
            said.send(full.kind()).unwrap();
            reply.send(b"done")
        })
        .unwrap();
    let mut caller = serving.caller();
    assert_eq!(caller.call(7, b""), Ok(b"done".to_vec()));
    assert_eq!(heard.recv().unwrap(), ErrorKind::ResourceExhausted);
    for _ in 0..4 {
        assert_eq!(caller.event().payload, b"x");
    }
}

#[test]
fn a_connection_that_has_ended_takes_no_events_and_keeps_nothing() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    let connection = serving.handle.connection(1).unwrap();
    let kept = Arc::new(());
    connection.info().metadata().set(Arc::clone(&kept));
    assert!(connection.is_open());
    drop(caller);
    wait_until(|| !connection.is_open());
    assert_eq!(connection.send_event(NEWS, b"x").unwrap_err().kind(), ErrorKind::PeerClosed);
    wait_until(|| serving.handle.connection(1).is_none());
    assert_eq!(Arc::strong_count(&kept), 1, "its metadata is gone");
    assert_eq!(serving.handle.broadcast(NEWS, b"x"), 0);
    connection.disconnect();
}

#[test]
fn a_disconnected_client_gets_what_was_sent_before() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    thread::sleep(Duration::from_millis(20));
    let connection = serving.handle.connection(1).unwrap();
    connection.send_event(NEWS, b"last words").unwrap();
    assert_eq!(caller.event().payload, b"last words");
    connection.disconnect();
    assert!(caller.until_closed().is_empty());
    wait_until(|| serving.handle.connections().is_empty());
}

#[test]
fn a_client_that_takes_nothing_in_can_be_disconnected() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.ring_bytes(8192));
    let mut caller = serving.caller();
    let (mut asked, mut stuck) = (0, 0);
    // Until the connection's thread waits for room: it takes no request any more.
    while stuck < 50 {
        match caller.stream.try_send(Header::new(Kind::Request, ECHO, 64 * (asked + 1)), &[1; 1000]) {
            Ok(()) => (asked, stuck) = (asked + 1, 0),
            Err(_) => {
                stuck += 1;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    serving.handle.connection(1).unwrap().disconnect();
    wait_until(|| serving.handle.connections().is_empty());
    let answers = caller.until_closed();
    assert!(!answers.is_empty() && answers.len() < usize::try_from(asked).unwrap());
    assert!(answers.iter().all(|answer| answer.payload == [1; 1000]), "whole ones");
}

#[test]
fn a_broadcast_waits_for_the_full_ones_together_and_says_whom_it_reached() {
    let _watchdog = Watchdog::start();
    let patience = Duration::from_millis(100);
    let serving = Serving::start(|builder| builder.ring_bytes(8192).events(4, WhenFull::Wait(patience)));
    let mut callers = [serving.caller(), serving.caller(), serving.caller()];
    for caller in &mut callers {
        caller.call(ECHO, b"").unwrap();
    }
    for full in [1, 2] {
        let connection = serving.handle.connection(full).unwrap();
        while connection.send_event(NEWS, &[0; 1000]).is_ok() {}
    }
    let before = Instant::now();
    assert_eq!(serving.handle.broadcast(NEWS, b"to all"), 1);
    let waited = before.elapsed();
    assert!(waited >= patience, "{waited:?}");
    assert_eq!(callers[2].event().payload, b"to all");
    // Whoever makes room in time is reached too.
    let serving = Serving::start(|builder| builder.ring_bytes(8192).events(4, WhenFull::Wait(PROMPT * 20)));
    let mut caller = serving.caller();
    caller.call(ECHO, b"").unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(|| (0..40).all(|_| serving.handle.broadcast(NEWS, &[0; 1000]) == 1));
        thread::sleep(Duration::from_millis(20));
        assert!(!sender.is_finished(), "40 KB do not fit");
        for _ in 0..40 {
            caller.event();
        }
        assert!(sender.join().unwrap());
    });
}

#[test]
fn an_event_that_its_client_cannot_take_is_dropped_and_counted() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let small = Stream::builder(&serving.path).max_message_bytes(10_000).connect().unwrap();
    let mut caller = Caller::new(small);
    caller.call(ECHO, b"").unwrap();
    let connection = serving.handle.connection(1).unwrap();
    connection.send_event(NEWS, &[0; 40_000]).unwrap();
    connection.send_event(NEWS, b"short").unwrap();
    assert_eq!(caller.event().payload, b"short");
    wait_until(|| connection.summary().events_sent == 1);
    assert_eq!(connection.summary().events_dropped, 1);
    assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()));
}
