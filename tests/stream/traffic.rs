//! Random traffic both ways, beside what was sent.

use std::collections::VecDeque;
use std::io::Read;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use ringwire::{Backpressure, Error, ErrorKind, Header, Stream, WaitStrategy};

use super::common::{Random, Watchdog, assert_bytes, bytes, fill};
use super::{STRATEGIES, event};

type Sent = VecDeque<(Header, Vec<u8>)>;

/// Sends one message in one of the ways that do not wait; what was sent goes to `sent`.
fn send_somehow(stream: &mut Stream, number: u64, length: usize, way: u64, sent: &mut Sent) {
    let (header, payload) = (event(number), bytes(number * 7, length));
    let outcome = match way {
        0 => stream.try_send(header, &payload),
        1 => stream.send(header, &payload),
        2 => stream.batch().send(header, &payload),
        _ => stream.reserve(header, length).map(|mut slot| {
            assert_eq!(slot.write(&payload), length);
            slot.commit();
        }),
    };
    match outcome {
        Ok(()) => sent.push_back((header, payload)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Full, "{error}"),
    }
}

/// Receives one message in one of the ways that there are, or finds none.
fn receive_somehow(stream: &mut Stream, way: u64) -> Result<(Header, Vec<u8>), Error> {
    let mut payload = Vec::new();
    let header = match way {
        0 => {
            let message = stream.receive()?;
            message.payload().append_to(&mut payload);
            message.header()
        }
        1 => stream.receive_into(&mut payload)?,
        2 => {
            let mut reader = stream.read_message()?;
            reader.read_to_end(&mut payload).unwrap();
            reader.header()
        }
        _ => {
            let message = stream.try_receive()?.ok_or(ErrorKind::TimedOut)?;
            message.payload().take_words(|word| payload.extend(word.to_ne_bytes()));
            let (taken, mut rest) = (payload.len(), [0; 8]);
            let left = message.payload().copy_from(taken, &mut rest);
            payload.extend_from_slice(&rest[..left]);
            message.header()
        }
    };
    Ok((header, payload))
}

fn receive_and_compare(stream: &mut Stream, way: u64, sent: &mut Sent) {
    match (receive_somehow(stream, way), sent.pop_front()) {
        (Ok((header, payload)), Some((expected, bytes))) => {
            assert_eq!(header, expected);
            assert_bytes(&payload, &bytes, "message");
        }
        (Err(error), None) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        (found, expected) => panic!("{:?} for {:?}", found.map(|it| it.0), expected.map(|it| it.0)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a full side sets aside while it answers `Full` is received in its turn.
    #[test]
    fn one_thread_on_both_ends_loses_and_reorders_nothing(seed: u64, size in 12..15u32) {
        let _watchdog = Watchdog::start();
        let (one, two) = Stream::pair_with(1 << size, WaitStrategy::ParkAtOnce).unwrap();
        let mut random = Random(seed | 1);
        let mut ends = [one, two];
        let mut sent = [Sent::new(), Sent::new()];
        for end in &mut ends {
            end.set_backpressure(Backpressure::Fail);
            end.set_receive_timeout(Some(Duration::ZERO));
        }
        for number in 0..1500 {
            let side = random.below(2) as usize;
            // Phases in which one side sends more than the other receives, and the reverse.
            if random.below(100) < 30 + 40 * (number / 300 % 2) {
                let largest = ends[side].max_record_bytes() as u64;
                let length = if random.below(3) == 0 { random.below(largest + 1) } else { random.below(80) };
                send_somehow(&mut ends[side], number, length as usize, random.below(4), &mut sent[side]);
            } else {
                receive_and_compare(&mut ends[side], random.below(4), &mut sent[1 - side]);
            }
        }
        for side in [0, 1] {
            while !sent[1 - side].is_empty() {
                receive_and_compare(&mut ends[side], random.below(4), &mut sent[1 - side]);
            }
            receive_and_compare(&mut ends[side], 0, &mut sent[1 - side]);
        }
    }
}

const MESSAGES: u64 = 400;

fn length_of(number: u64, seed: u64) -> usize {
    let mut random = Random((number + 1) * 0x9E37_79B9 + seed);
    random.next();
    let most = [100, 100, 3000, 60_000][random.below(4) as usize];
    random.below(most) as usize
}

/// Sends all of its messages and receives all of the other side's, in an order of its own.
fn converse(stream: &mut Stream, seed: u64) {
    let mut random = Random(seed * 77 + 1);
    let (mut sent, mut received) = (0, 0);
    let (mut buffer, mut expected) = (Vec::new(), Vec::new());
    stream.set_receive_timeout(Some(Duration::from_micros(200)));
    while sent < MESSAGES || received < MESSAGES {
        if sent < MESSAGES && (received == MESSAGES || random.below(2) == 0) {
            stream.send(event(sent), &bytes(sent + seed, length_of(sent, seed))).unwrap();
            sent += 1;
        } else {
            match stream.receive_into(&mut buffer) {
                Ok(header) => {
                    assert_eq!(header, event(received));
                    fill(received + 1 - seed, &mut expected, length_of(received, 1 - seed));
                    assert_bytes(&buffer, &expected, "message");
                    received += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            }
        }
    }
}

#[test]
fn two_threads_that_send_and_receive_as_they_like_lose_and_reorder_nothing() {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        for ring_bytes in [4 << 10, 64 << 10] {
            if strategy == WaitStrategy::SpinOnly && ring_bytes == 4 << 10 {
                continue;
            }
            let (mut one, mut two) = Stream::pair_with(ring_bytes, strategy).unwrap();
            let other = thread::spawn(move || {
                converse(&mut two, 1);
                two
            });
            converse(&mut one, 0);
            drop(other.join().unwrap());
        }
    }
}
