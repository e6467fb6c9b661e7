//! Memory follows the traffic, not the ring's size: the pages of a segment that are resident, as the kernel counts them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use common::{Watchdog, comes_true};
use ringwire::{Header, Kind, Listener, Stream, WaitStrategy};

const PAGE_KIB: usize = 4;
const EVENT: Header = Header::new(Kind::Event, 1, 0);

/// One test at a time: the segments counted are all of this process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident pages of each mapped segment.
fn resident_pages() -> Vec<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains("/memfd:ringwire") {
            let rss = lines.by_ref().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            found.push(rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / PAGE_KIB);
        }
    }
    found
}

fn most_resident() -> usize {
    resident_pages().into_iter().max().unwrap()
}

/// Answers every message, until the other side goes.
fn echo(mut stream: Stream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while stream.receive().map(drop).is_ok() {
            if stream.send(EVENT, &[1; 64]).is_err() {
                break;
            }
        }
    })
}

fn round_trips(stream: &mut Stream, count: usize) {
    for _ in 0..count {
        stream.send(EVENT, &[2; 64]).unwrap();
        drop(stream.receive().unwrap());
    }
}

#[test]
fn a_quiet_connection_keeps_to_a_few_pages_of_rings_of_a_gibibyte() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce] {
        let (mut one, two) = Stream::pair_with(1 << 30, strategy).unwrap();
        let echo = echo(two);
        round_trips(&mut one, 20_000);
        let found = resident_pages();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|pages| (1..=4).contains(pages)), "{found:?} pages ({strategy:?})");
        drop(one);
        echo.join().unwrap();
    }
}

/// Fills the ring of a mebibyte from `from` to `to` some times over.
fn burst(from: &mut Stream, to: &mut Stream) {
    for _ in 0..3 {
        while from.try_send(EVENT, &[3; 1000]).is_ok() {}
        while to.try_receive().unwrap().is_some() {}
    }
}

#[test]
fn what_a_burst_left_behind_is_given_back_by_later_sends() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(1 << 20, WaitStrategy::ParkAtOnce).unwrap();
    burst(&mut one, &mut two);
    // For 100 ms it might be taken again, and in another 100 ms it was not.
    for _ in 0..2 {
        assert!(most_resident() >= 250, "{} pages", most_resident());
        thread::sleep(Duration::from_millis(120));
        // Two boundaries of a kilobyte: back to the start of the area, and then the rest is given back.
        for _ in 0..40 {
            one.send(EVENT, &[4; 64]).unwrap();
            while two.try_receive().unwrap().is_some() {}
        }
    }
    assert!(most_resident() <= 8, "{} pages", most_resident());
    // And the ring is as good as before.
    burst(&mut one, &mut two);
    one.send(EVENT, &[5; 900]).unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), [5; 900]);
}

#[test]
fn what_bursts_take_again_and_again_stays() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(1 << 20, WaitStrategy::ParkAtOnce).unwrap();
    for _ in 0..20 {
        burst(&mut one, &mut two);
        for _ in 0..40 {
            one.send(EVENT, &[4; 64]).unwrap();
            while two.try_receive().unwrap().is_some() {}
        }
        thread::sleep(Duration::from_millis(30));
        assert!(most_resident() >= 250, "{} pages", most_resident());
    }
}

#[test]
fn what_a_burst_left_behind_is_given_back_when_the_connection_idles() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(1 << 20, WaitStrategy::ParkAtOnce).unwrap();
    burst(&mut one, &mut two);
    assert!(most_resident() >= 250, "{} pages", most_resident());
    // Once it has rested on the lifeline for 100 ms.
    one.set_receive_timeout(Some(Duration::from_millis(200)));
    assert!(one.receive().is_err());
    assert!(most_resident() <= 8, "{} pages", most_resident());
    burst(&mut one, &mut two);
    one.send(EVENT, &[5; 900]).unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), [5; 900]);
}

#[test]
fn what_is_still_to_be_read_is_never_given_back() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(1 << 20, WaitStrategy::ParkAtOnce).unwrap();
    burst(&mut one, &mut two);
    for number in 0..600u64 {
        one.send(Header::new(Kind::Event, 1, number), &number.to_ne_bytes().repeat(100)).unwrap();
    }
    one.set_receive_timeout(Some(Duration::from_millis(200)));
    assert!(one.receive().is_err());
    for number in 0..600u64 {
        let message = two.receive().unwrap();
        assert_eq!(message.header().correlation, number);
        assert_eq!(message.payload().to_vec(), number.to_ne_bytes().repeat(100));
    }
}

#[test]
fn a_segment_is_gone_with_its_streams() {
    let _alone = alone();
    let (one, two) = Stream::pair().unwrap();
    assert_eq!(resident_pages().len(), 2);
    let (sender, receiver) = one.split();
    drop((two, sender));
    assert_eq!(resident_pages().len(), 1);
    drop(receiver);
    assert!(comes_true(Duration::from_secs(5), || resident_pages().is_empty()));
}

#[test]
fn a_segment_is_not_forked_and_is_left_out_of_core_dumps_on_request() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    for exclude in [false, true] {
        let builder = Listener::builder(&path).reserve(true).exclude_from_core_dumps(exclude);
        let mut listener = builder.bind().unwrap();
        let connector = Stream::builder(&path).exclude_from_core_dumps(exclude);
        let client = thread::spawn(move || connector.connect().unwrap());
        let streams = (listener.accept().unwrap(), client.join().unwrap());
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        for _ in 0..2 {
            lines.by_ref().find(|line| line.contains("/memfd:ringwire")).unwrap();
            let flags = lines.by_ref().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
            let has = |flag| flags.split_whitespace().any(|found| found == flag);
            assert!(has("dc"), "forked children would be third parties: {flags}");
            assert_eq!(has("dd"), exclude, "{flags}");
        }
        drop(streams);
    }
}

/// Records of 64 bytes divide every ring: its laps end without padding.
#[test]
fn a_burst_in_laps_without_padding_is_given_back_after_a_while() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(1 << 20, WaitStrategy::ParkAtOnce).unwrap();
    let (mut sent, mut taken) = (0_u32, 0_u32);
    while sent < 2 * (1 << 20) / 64 + 20 {
        one.send(EVENT, &[3; 48]).unwrap();
        sent += 1;
        // The reader stays behind, so that no lap begins drained.
        while sent - taken > 8_000 {
            drop(two.receive().unwrap());
            taken += 1;
        }
    }
    for _ in taken..sent {
        drop(two.receive().unwrap());
    }
    assert!(most_resident() > 200, "the whole ring has been used: {} pages", most_resident());
    let echo = echo(two);
    assert!(comes_true(Duration::from_secs(20), || {
        round_trips(&mut one, 40);
        thread::sleep(Duration::from_millis(20));
        most_resident() <= 8
    }));
    drop(one);
    echo.join().unwrap();
}
