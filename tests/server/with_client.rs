//! The library's own client at the other end.

use std::thread;
use std::time::{Duration, Instant};

use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use ringwire::server::Placement;
use ringwire::transport::{DEFAULT_LATENCY_PRIORITY, enter_latency_class, set_time_slice, time_slice_ns};
use ringwire::wire::Status;
use ringwire::wire::call::{ECHO, SLOTS};
use ringwire::{Client, ErrorKind, WaitStrategy};

use super::caller::Serving;
use super::common::{Watchdog, assert_bytes, bytes, comes_true, say, second, setting, told};

const STREAM: u16 = 7;
const CORES: u16 = 8;
const EVENT: u16 = 9;

#[test]
fn long_requests_and_long_answers_cross_with_a_full_window() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut client = Client::connect(&serving.path).unwrap();
    for round in 0..20u64 {
        let tickets: Vec<_> = (0..16u64)
            .map(|number| (number, client.submit(ECHO, &bytes(round * 100 + number, 32_000)).unwrap()))
            .collect();
        for (number, ticket) in tickets {
            let reply = client.collect(ticket).unwrap().to_vec();
            assert_bytes(&reply, &bytes(round * 100 + number, 32_000), "an echo");
        }
    }
}

#[test]
fn a_long_stream_comes_while_a_long_request_goes() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle_streaming(STREAM, |mut request, items| {
            // An item for each piece: both directions are busy at once.
            let mut piece = vec![0; 10_000];
            loop {
                match std::io::Read::read(&mut request, &mut piece)? {
                    0 => return Ok(()),
                    count => items.send(&piece[..count])?,
                }
            }
        })
    });
    let mut client = Client::connect(&serving.path).unwrap();
    let long = bytes(5, 1 << 20);
    let mut came = Vec::new();
    for item in client.call_streaming(STREAM, &long).unwrap() {
        came.extend_from_slice(&item.unwrap());
    }
    assert_bytes(&came, &long, "what was streamed back");
    // Dropped early: what still comes is nobody's.
    let mut items = client.call_streaming(STREAM, &long).unwrap();
    assert!(items.next_item().unwrap().is_some());
    drop(items);
    assert_eq!(client.call(ECHO, b"next").unwrap().to_vec(), b"next");
}

#[test]
fn a_full_window_of_small_requests_is_answered_in_order() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut client = Client::connect(&serving.path).unwrap();
    let mut tickets = std::collections::VecDeque::new();
    for number in 0..20_000u64 {
        if tickets.len() == SLOTS {
            let (of, ticket) = tickets.pop_front().unwrap();
            let of: u64 = of;
            assert_eq!(client.collect(ticket).unwrap().to_vec(), of.to_ne_bytes());
        }
        tickets.push_back((number, client.submit(ECHO, &number.to_ne_bytes()).unwrap()));
    }
    for (number, ticket) in tickets {
        assert_eq!(client.collect(ticket).unwrap().to_vec(), number.to_ne_bytes());
    }
}

#[test]
fn a_status_reaches_the_client_with_its_words() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut client = Client::connect(&serving.path).unwrap();
    let error = client.call(4_321, b"").unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(Status::Unimplemented)));
    assert!(error.to_string().contains("4321"), "{error}");
    let error = client.call(ECHO, &vec![1; (1 << 20) + 1]).unwrap_err();
    assert_eq!(error.status(), Some(Status::MessageTooLarge));
    assert!(client.ping().unwrap() < Duration::from_secs(10));
}

#[test]
fn a_connection_of_the_latency_class_shares_its_clients_core() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.latency_class(0).placement(Placement::Cores(vec![0])).handle(CORES, |request, reply| {
            let cores = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let count = (0..64).filter(|core| cores.is_set(*core).unwrap_or(false)).count();
            reply.send(&[count as u8, u8::from(request.connection().latency_core().is_some())])
        })
    });
    let mut latency = Client::builder(&serving.path).latency_class(0).connect().unwrap();
    assert_eq!(latency.call(CORES, b"").unwrap().to_vec(), [1, 1]);
    let mut other = Client::connect(&serving.path).unwrap();
    assert_eq!(other.call(CORES, b"").unwrap().to_vec(), [1, 0], "placed all the same");
    // A thread of the class, real-time or not, waits as its guard says.
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = enter_latency_class(0, DEFAULT_LATENCY_PRIORITY).unwrap();
            let expected =
                if guard.is_realtime() { WaitStrategy::YieldThenPark } else { WaitStrategy::ParkAtOnce };
            assert_eq!(guard.wait_strategy(), expected);
            let builder = Client::builder(&serving.path).latency_class(0).strategy(guard.wait_strategy());
            let mut client = builder.connect().unwrap();
            for number in 0..1_000u32 {
                assert_eq!(client.call(ECHO, &number.to_ne_bytes()).unwrap().to_vec(), number.to_ne_bytes());
            }
        });
    });
    // Nobody offers that core.
    let mut refused = Client::builder(&serving.path).latency_class(1).connect().unwrap();
    assert_eq!(refused.call(CORES, b"").unwrap().to_vec(), [1, 0]);
}

/// The second process: a client of the latency class that is asked by nobody for long.
pub(super) fn in_the_latency_class() {
    let mut client = Client::builder(setting("PATH_TO_CALL")).latency_class(0).connect().unwrap();
    loop {
        assert_eq!(client.call(ECHO, b"in").unwrap().to_vec(), b"in");
        say("in");
        let event = client.next_event(None).unwrap().unwrap();
        say(&format!("event {}", event.message_type()));
        told();
    }
}

#[test]
fn a_thread_of_the_latency_class_sleeps_long_and_still_sees_what_happens() {
    // It sleeps up to 100 ms at a time; the rest is for a busy machine.
    const SOON: Duration = Duration::from_secs(2);
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.latency_class(0));
    let path = serving.path.to_str().unwrap();
    let mut client = second("in the latency class", &[("PATH_TO_CALL", path)]);
    // Just asleep, in the middle of the first sleep, and long after it.
    for pause_ms in [0, 0, 30, 300] {
        assert_eq!(client.hear(), "in");
        thread::sleep(Duration::from_millis(pause_ms));
        let sent = Instant::now();
        assert_eq!(serving.handle.broadcast(EVENT, b""), 1);
        assert_eq!(client.hear(), format!("event {EVENT}"));
        assert!(sent.elapsed() < SOON, "{:?}", sent.elapsed());
        client.tell("again");
    }
    for pause_ms in [0, 30, 300] {
        assert_eq!(client.hear(), "in");
        thread::sleep(Duration::from_millis(pause_ms));
        client.kill();
        assert!(comes_true(SOON, || serving.handle.connections().is_empty()), "killed after {pause_ms} ms");
        client = second("in the latency class", &[("PATH_TO_CALL", path)]);
    }
    assert_eq!(client.hear(), "in");
    client.kill();
    serving.shut_down();
}

#[test]
fn threads_of_connections_have_the_servers_time_slice() {
    let _watchdog = Watchdog::start();
    // A kernel that knows none says 0 throughout.
    let (kernels, knows) = thread::spawn(|| {
        let kernels = time_slice_ns().unwrap();
        set_time_slice(5_000_000).unwrap();
        (kernels, time_slice_ns().unwrap() == 5_000_000)
    })
    .join()
    .unwrap();
    for (time_slice, wanted) in [(None, kernels), (Some(Duration::from_millis(3)), 3_000_000)] {
        let serving = Serving::start(|builder| {
            builder
                .time_slice(time_slice)
                .handle(CORES, |_, reply| reply.send(&time_slice_ns().unwrap().to_ne_bytes()))
        });
        let mut client = Client::connect(&serving.path).unwrap();
        let slice_ns = client.call(CORES, b"").unwrap().to_vec();
        let expected: u64 = if knows { wanted } else { kernels };
        assert_eq!(slice_ns, expected.to_ne_bytes());
    }
}

#[test]
fn many_connections_are_served_at_once() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let path = &serving.path;
    thread::scope(|scope| {
        for client in 0..30u64 {
            scope.spawn(move || {
                let mut connection = Client::connect(path).unwrap();
                for number in 0..300u64 {
                    let asked = (client * 1_000_000 + number).to_ne_bytes();
                    assert_eq!(connection.call(ECHO, &asked).unwrap().to_vec(), asked);
                }
            });
        }
    });
    assert_eq!(serving.handle.stats().requests, 30 * 300);
}
