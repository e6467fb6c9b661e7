//! The good neighbour: a client whose whole traffic is checked, and whose round trips are timed.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use ringwire::sync::Counter;
use ringwire::{Header, Kind, Stream, WaitStrategy};

use super::common::{assert_bytes, bytes, say, setting, told};
use super::rounds::pin;

fn request(number: u64) -> Header {
    Header::new(Kind::Request, 9, number)
}

/// The second process: sends and checks without a pause; at each `mark` says how the round trips of 64 bytes since the last
/// one went (count, p50 and p99 in nanoseconds), and at the end how many messages there were.
pub(super) fn neighbour() {
    pin(&setting("NEIGHBOUR_CORE"));
    let mut connector = Stream::builder(setting("SOCKET"));
    if setting("CORE") != "any" {
        connector = connector.wait_strategy(WaitStrategy::ParkAtOnce);
    }
    let mut stream = connector.connect().unwrap();
    say("connected");
    let (marks, over) = (Arc::new(Counter::new(0)), Arc::new(Counter::new(0)));
    let listening = thread::spawn({
        let (marks, over) = (Arc::clone(&marks), Arc::clone(&over));
        move || {
            while told() == "mark" {
                marks.add(1);
            }
            over.add(1);
        }
    });
    let (mut number, mut answered) = (0, 0);
    let mut round_trips_ns = Vec::new();
    while over.get() == 0 {
        round_trips_ns.push(small(&mut stream, number));
        number += 1;
        if number % 16 == 0 {
            whole(&mut stream, number, (number % 3000) as usize);
            number += 1;
        }
        if number % 4001 == 0 {
            whole(&mut stream, number, 150_000);
            number += 1;
        }
        while answered < marks.get() {
            answered += 1;
            say(&figures(&mut round_trips_ns));
            round_trips_ns.clear();
        }
    }
    listening.join().unwrap();
    drop(stream);
    say(&number.to_string());
}

/// One round trip of 64 bytes; its time in nanoseconds.
fn small(stream: &mut Stream, number: u64) -> u32 {
    let payload = [number as u8; 64];
    let started = Instant::now();
    stream.send(request(number), &payload).unwrap();
    let message = stream.receive().unwrap();
    let took = started.elapsed();
    assert_eq!(message.header(), request(number), "out of order, or lost");
    assert_bytes(&message.payload().to_vec(), &payload, "small");
    u32::try_from(took.as_nanos()).unwrap_or(u32::MAX)
}

fn whole(stream: &mut Stream, number: u64, length: usize) {
    let (payload, mut back) = (bytes(number, length), Vec::new());
    stream.send(request(number), &payload).unwrap();
    assert_eq!(stream.receive_into(&mut back).unwrap(), request(number), "out of order, or lost");
    assert_bytes(&back, &payload, "whole");
}

fn figures(round_trips_ns: &mut [u32]) -> String {
    round_trips_ns.sort_unstable();
    let at = |percent: usize| round_trips_ns.get(round_trips_ns.len() * percent / 100).copied().unwrap_or(0);
    format!("{} {} {}", round_trips_ns.len(), at(50), at(99))
}

/// The second process: a neighbour that is only busy, as busy as the hostile one: what it costs is the machine's, and not
/// the hostility's.
pub(super) fn busy() {
    pin(&setting("CORE"));
    let mut stream =
        Stream::builder(setting("SOCKET")).wait_strategy(WaitStrategy::ParkAtOnce).connect().unwrap();
    let until = Instant::now() + std::time::Duration::from_millis(setting("BUSY_MS").parse().unwrap());
    let mut buffer = Vec::new();
    while Instant::now() < until {
        for number in 0..16 {
            stream.send(request(number), &[5; 1000]).unwrap();
        }
        for number in 0..16 {
            assert_eq!(stream.receive_into(&mut buffer).unwrap(), request(number));
        }
    }
}
