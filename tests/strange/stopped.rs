//! A peer that is stopped is not dead: whoever waits for it goes on waiting, and then the traffic goes on.

use std::thread;
use std::time::{Duration, Instant};

use ringwire::{Listener, Stream};

use super::common::{Random, Second, Watchdog, assert_bytes, bytes, second};
use super::{
    STAGES_MS, STRATEGIES, accept_from, connect, event, go_on, listen, pause_ms, place, receives, round_trip,
    stop, stop_time,
};

/// More than a ring of 4 KiB holds, several times.
const MANY: u64 = 60;
const LENGTH: usize = 500;

/// The second process: sends more than there is room for.
pub(crate) fn flood() {
    let mut stream = connect();
    for number in 0..MANY {
        stream.send(event(number), &bytes(number, LENGTH)).unwrap();
    }
}

fn receive_many(stream: &mut Stream) {
    for number in 0..MANY {
        let message = stream.receive().unwrap();
        assert_eq!(message.header(), event(number));
        assert_bytes(&message.payload().to_vec(), &bytes(number, LENGTH), "in order");
    }
}

/// Runs `wait`, which waits for the stopped `child`, and lets that go on after the time.
fn waits_for_stopped(child: &Second, wait: impl FnOnce()) {
    let (started, time) = (Instant::now(), stop_time());
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(time);
            go_on(child);
        });
        wait();
        assert!(started.elapsed() >= time, "nothing can have come before");
    });
}

/// The peer was stopped `stage_ms` into its own wait; this side waits for a message, then for the room that the peer
/// does not make.
fn both_waits_outlast_a_stop(name: &str, stage_ms: u64, waits_for_room: bool) {
    let (_directory, mut listener) = listen();
    let (mut stream, child) = accept_from(&mut listener, "echo", name, &[]);
    round_trip(&mut stream, 0);
    pause_ms(stage_ms);
    stop(&child);
    waits_for_stopped(&child, || {
        if waits_for_room {
            for number in 0..MANY {
                stream.send(event(number), &bytes(number, LENGTH)).unwrap();
            }
            receive_many(&mut stream);
        } else {
            round_trip(&mut stream, 1);
        }
    });
    round_trip(&mut stream, 2);
    drop(stream);
    child.join();
}

#[test]
fn every_wait_outlasts_a_stopped_peer_and_traffic_goes_on() {
    let _watchdog = Watchdog::start();
    thread::scope(|scope| {
        for ((name, _), stage_ms) in STRATEGIES.iter().zip(STAGES_MS) {
            for waits_for_room in [false, true] {
                scope.spawn(move || both_waits_outlast_a_stop(name, stage_ms, waits_for_room));
            }
        }
    });
}

#[test]
fn a_peer_stopped_while_it_waits_for_room_goes_on_too() {
    let _watchdog = Watchdog::start();
    thread::scope(|scope| {
        for ((name, _), stage_ms) in STRATEGIES.iter().zip(STAGES_MS) {
            scope.spawn(move || {
                let (_directory, mut listener) = listen();
                let (mut stream, child) = accept_from(&mut listener, "flood", name, &[]);
                pause_ms(stage_ms);
                stop(&child);
                waits_for_stopped(&child, || receive_many(&mut stream));
                child.join();
            });
        }
    });
}

#[test]
fn a_stopped_server_is_waited_for_by_who_connects() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut child = second("accepting echo", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "bound");
    stop(&child);
    let mut stream = None;
    waits_for_stopped(&child, || {
        stream = Some(Stream::builder(&path).timeout(3 * stop_time()).connect().unwrap());
    });
    round_trip(stream.as_mut().unwrap(), 1);
    drop(stream);
    child.join();
}

/// Keeps 16 messages under way until `is_over`, and then takes in what is left.
pub(crate) fn traffic(stream: &mut Stream, is_over: impl Fn() -> bool) -> u64 {
    let (mut sent, mut received) = (0, 0);
    loop {
        let over = is_over();
        if over && received == sent {
            return received;
        }
        if !over && sent < received + 16 {
            stream.send(event(sent), &bytes(sent, 100)).unwrap();
            sent += 1;
        } else {
            receives(stream, received);
            received += 1;
        }
    }
}

#[test]
fn a_peer_stopped_at_any_moment_of_busy_traffic_loses_nothing() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener): (_, Listener) = listen();
    for (name, _) in &STRATEGIES[..2] {
        let (mut stream, child) = accept_from(&mut listener, "echo", name, &[]);
        let mut random = Random(11);
        thread::scope(|scope| {
            let stopper = scope.spawn(|| {
                for _ in 0..100 {
                    thread::sleep(Duration::from_micros(random.below(3000)));
                    stop(&child);
                    thread::sleep(Duration::from_micros(random.below(3000)));
                    go_on(&child);
                }
            });
            assert!(traffic(&mut stream, || stopper.is_finished()) > 0);
        });
        drop(stream);
        child.join();
    }
}
