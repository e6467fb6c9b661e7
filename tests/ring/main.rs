//! The ring beside a naive oracle: one suite over one mapping, two mappings, a connection, and two processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod backends;
mod edges;
mod processes;

use std::collections::VecDeque;

use backends::{Backend, Halves, Refused, Streams};
use common::{Watchdog, assert_bytes, bytes};
use proptest::prelude::*;
use ringwire::{Header, Kind};

#[test]
fn child_entry() {
    common::child_entry(&[("consume", processes::consume)]);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// Published by a later step.
    Append(usize),
    Flush,
    /// Reserved bytes, and how many of them are written.
    Reserve(usize, usize),
    Abort(usize),
    /// Up to so many records.
    Receive(usize),
    /// Looks without taking.
    Peek,
    Publish,
}

/// As large as a record of this ring can be, given a size that knows nothing of the ring.
fn sized(raw: usize, largest: usize) -> usize {
    match raw % 4 {
        0 => raw / 4 % 100,
        1 => raw / 4 % (largest / 4 + 1),
        2 => largest - raw / 4 % largest.min(40),
        _ => raw / 4 % (largest + 1),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || 0..1_000_000usize;
    let step = prop_oneof![
        6 => size().prop_map(Step::Push),
        4 => size().prop_map(Step::Append),
        1 => Just(Step::Flush),
        2 => (size(), size()).prop_map(|(capacity, written)| Step::Reserve(capacity, written)),
        1 => size().prop_map(Step::Abort),
        7 => (1..6usize).prop_map(Step::Receive),
        1 => Just(Step::Peek),
        1 => Just(Step::Publish),
    ];
    prop::collection::vec(step, 1..400)
}

/// What the ring should hold.
#[derive(Default)]
struct Oracle {
    records: VecDeque<(Header, Vec<u8>)>,
    /// Of those, the last so many may be unpublished.
    pending: usize,
    made: u64,
}

impl Oracle {
    fn next(&mut self, length: usize) -> (Header, Vec<u8>) {
        self.made += 1;
        let kind = Kind::from_byte((self.made % 10) as u8 + 1).unwrap();
        (Header::new(kind, self.made as u16, self.made << 20), bytes(self.made * 97, length))
    }

    fn outcome(&mut self, record: (Header, Vec<u8>), outcome: Result<(), Refused>, published: bool) {
        let refused = outcome.is_err();
        match outcome {
            Ok(()) => self.records.push_back(record),
            Err(Refused::Full) => {}
            Err(Refused::Other(error)) => panic!("{error}"),
        }
        // Full has published what was pending.
        self.pending = if published || refused { 0 } else { self.pending + 1 };
    }
}

fn run(steps: &[Step], mut ring: impl Backend) {
    let largest = ring.max_payload();
    let mut oracle = Oracle::default();
    for step in steps {
        match step {
            Step::Push(raw) => {
                let record = oracle.next(sized(*raw, largest));
                let mut outcome = ring.push(record.0, &record.1);
                if outcome.is_err() && oracle.records.is_empty() {
                    // The padding of a slot that was dropped may be in the way, until the reader has seen it.
                    assert!(ring.receive().is_none());
                    ring.publish_consumed();
                    outcome = ring.push(record.0, &record.1);
                    assert!(outcome.is_ok(), "a drained ring is full");
                }
                oracle.outcome(record, outcome, true);
            }
            Step::Append(raw) => {
                let record = oracle.next(sized(*raw, largest));
                let outcome = ring.append(record.0, &record.1);
                oracle.outcome(record, outcome, !ring.keeps_pending());
            }
            Step::Flush => {
                ring.flush();
                oracle.pending = 0;
            }
            Step::Reserve(raw, written) => {
                let capacity = sized(*raw, largest);
                let record = oracle.next(sized(*written, largest).min(capacity));
                let outcome = ring.write_in_place(record.0, capacity, &record.1);
                oracle.outcome(record, outcome, true);
            }
            Step::Abort(raw) => {
                if !ring.reserve_and_drop(Header::new(Kind::Event, 0, 0), sized(*raw, largest)) {
                    oracle.pending = 0;
                }
            }
            Step::Receive(count) => {
                for _ in 0..*count {
                    receive(&mut ring, &mut oracle);
                }
            }
            Step::Peek => ring.peek(),
            Step::Publish => ring.publish_consumed(),
        }
    }
    ring.close();
    oracle.pending = 0;
    while !oracle.records.is_empty() {
        receive(&mut ring, &mut oracle);
    }
    assert!(ring.is_over());
    assert!(ring.is_over(), "the end stays");
}

fn receive(ring: &mut impl Backend, oracle: &mut Oracle) {
    let visible = oracle.records.len() - oracle.pending;
    match ring.receive() {
        None => assert_eq!(visible, 0, "a record is lost or late"),
        Some((header, payload)) => {
            assert!(visible > 0, "a record that was never published");
            let (sent, expected) = oracle.records.pop_front().unwrap();
            assert_eq!(header, sent);
            assert_bytes(&payload, &expected, "payload");
        }
    }
}

/// Positions that make the low 32 bits wrap, or change sign, within a short run.
fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0..8000u64).prop_map(|words| (1 << 32) - words * 8),
        (0..8000u64).prop_map(|words| (1 << 31) - words * 8),
        (0..8000u64).prop_map(|words| (5 << 32) + words * 8),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_mapping_loses_and_changes_nothing(steps in steps(), size in 12..17u32, start in starts()) {
        let _watchdog = Watchdog::start();
        run(&steps, Halves::in_one_mapping(1 << size, start));
    }

    #[test]
    fn two_mappings_lose_and_change_nothing(steps in steps(), size in 12..17u32, start in starts()) {
        let _watchdog = Watchdog::start();
        run(&steps, Halves::in_two_mappings(1 << size, start));
    }

    #[test]
    fn a_connection_loses_and_changes_nothing(steps in steps(), size in 12..17u32) {
        let _watchdog = Watchdog::start();
        run(&steps, Streams::new(1 << size));
    }
}
