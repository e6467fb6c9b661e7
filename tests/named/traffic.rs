//! What passes through a named ring.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use ringwire::{Backpressure, ErrorKind, NamedReceiver, NamedSender};

use super::common::{Watchdog, assert_bytes, bytes, fill, second, setting};
use super::{Name, RING, event, kind, strategy};

fn length(number: u64) -> usize {
    (number * 7 % 90) as usize
}

/// The second process: opens the ring and sends so many records.
pub(crate) fn sender() {
    let mut sender = NamedSender::open(&setting("NAME")).unwrap();
    sender.set_wait_strategy(strategy(&setting("STRATEGY")));
    let (records, mut payload) = (setting("RECORDS").parse().unwrap(), Vec::new());
    for number in 0..records {
        fill(number, &mut payload, length(number));
        sender.send(event(number), &payload).unwrap();
        if number % 50_000 == 0 {
            // Long enough for the other side to go to sleep.
            thread::sleep(Duration::from_millis(30));
        }
    }
}

fn receive_all(strategy_name: &str, ring_bytes: u32, records: u64) {
    let name = Name::new();
    let mut receiver = NamedReceiver::create(&name, ring_bytes).unwrap();
    receiver.set_wait_strategy(strategy(strategy_name));
    let count = records.to_string();
    let child = second("sender", &[("NAME", &name), ("STRATEGY", strategy_name), ("RECORDS", &count)]);
    let (mut expected, mut found) = (Vec::new(), [0; 90]);
    for number in 0..records {
        let message = receiver.receive().unwrap();
        assert_eq!(message.header(), event(number));
        assert_eq!(message.payload().len(), length(number));
        let found = &mut found[..length(number)];
        message.payload().copy_to(found);
        fill(number, &mut expected, length(number));
        assert_bytes(found, &expected, strategy_name);
    }
    assert_eq!(kind(receiver.receive()), ErrorKind::PeerClosed);
    child.join();
    drop(receiver);
    name.assert_free();
}

#[test]
fn a_million_records_pass_in_order() {
    let _watchdog = Watchdog::start();
    receive_all("spin then park", 64 << 10, 1_000_000);
}

#[test]
fn nothing_is_lost_through_the_smallest_ring_by_sides_that_sleep() {
    let _watchdog = Watchdog::start();
    receive_all("park", RING, 50_000);
    receive_all("spin", RING, 1_000);
}

#[test]
fn records_can_be_sent_before_anybody_is_there() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut sender = NamedSender::create(&name, RING).unwrap();
    let mut sent = 0;
    while sender.try_send(event(sent), &bytes(sent, 100)).is_ok() {
        sent += 1;
    }
    assert!(sent > 30, "{sent} records of 120 bytes in 4 KiB");
    sender.set_timeout(Some(Duration::from_millis(20)));
    assert_eq!(kind(sender.send(event(sent), &bytes(sent, 100))), ErrorKind::TimedOut);
    let mut receiver = NamedReceiver::open(&name).unwrap();
    for number in 0..sent {
        assert_eq!(receiver.receive().unwrap().header(), event(number));
    }
    sender.send(event(sent), &[]).unwrap();
    assert_eq!(receiver.receive().unwrap().header(), event(sent));
}

#[test]
fn the_choices_of_a_full_ring_and_of_an_empty_one() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut receiver = NamedReceiver::create(&name, RING).unwrap();
    let mut sender = NamedSender::open(&name).unwrap();
    let largest = sender.max_record_bytes();
    assert_eq!(largest, RING as usize / 2 - 32);
    assert!(receiver.try_receive().unwrap().is_none());
    receiver.set_timeout(Some(Duration::from_millis(5)));
    assert_eq!(kind(receiver.receive()), ErrorKind::TimedOut);

    assert_eq!(kind(sender.send(event(0), &vec![0; largest + 1])), ErrorKind::MessageTooLarge);
    assert_eq!(kind(sender.reserve(event(0), largest + 1)), ErrorKind::MessageTooLarge);
    for number in 0..2 {
        sender.send(event(number), &bytes(number, largest)).unwrap();
    }
    sender.set_backpressure(Backpressure::Fail);
    assert_eq!(kind(sender.send(event(2), &bytes(2, largest))), ErrorKind::Full);
    assert_eq!(kind(sender.reserve(event(2), largest)), ErrorKind::Full);
    sender.set_backpressure(Backpressure::Drop);
    sender.send(event(2), &bytes(2, largest)).unwrap();
    assert_eq!(sender.dropped(), 1);
    for number in 0..2 {
        let message = receiver.try_receive().unwrap().unwrap();
        assert_eq!(message.header(), event(number));
        assert_bytes(&message.payload().to_vec(), &bytes(number, largest), "the largest");
    }
    let mut slot = sender.reserve(event(3), 100).unwrap();
    assert_eq!(slot.write(b"in place"), 8);
    slot.commit();
    drop(sender.reserve(event(4), 100).unwrap());

    let message = receiver.receive().unwrap();
    let mut text = String::new();
    message.payload().read_to_string(&mut text).unwrap();
    assert_eq!((message.header(), text.as_str()), (event(3), "in place"));
    drop(message);
    drop(sender);
    assert_eq!(kind(receiver.try_receive()), ErrorKind::PeerClosed);
}

#[test]
fn a_reader_that_leaves_is_seen_by_a_writer_without_room() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut sender = NamedSender::create(&name, RING).unwrap();
    let receiver = NamedReceiver::open(&name).unwrap();
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        receiver.close();
    });
    let mut number = 0;
    let error = loop {
        match sender.send(event(number), &[1; 100]) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
    assert!(error.to_string().contains(&*name), "{error}");
    assert_eq!(kind(sender.try_send(event(0), &[])), ErrorKind::PeerClosed);
    leaving.join().unwrap();
}

#[test]
fn nonsense_in_the_ring_is_an_error_that_stays() {
    let _watchdog = Watchdog::start();
    // A record longer than a record may be, padding at offset 0, and an unknown kind.
    for (commit, tag) in [(3000_u32, 4_u32), (1 << 31 | 4096, 4), (24, 99), (24, 4 | 1 << 8)] {
        let name = Name::new();
        let mut sender = NamedSender::create(&name, RING).unwrap();
        let mut receiver = NamedReceiver::open(&name).unwrap();
        sender.send(event(1), &[1; 8]).unwrap();
        let object = File::options().write(true).open(name.path()).unwrap();
        object.write_all_at(&tag.to_ne_bytes(), 1024 + 4).unwrap();
        object.write_all_at(&commit.to_ne_bytes(), 1024).unwrap();
        for _ in 0..3 {
            let error = receiver.receive().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{error}");
            assert_eq!(kind(receiver.try_receive()), ErrorKind::CorruptPeer);
        }
        sender.set_backpressure(Backpressure::Fail);
        let refused = (0..100).find_map(|number| sender.send(event(number), &[0; 100]).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::PeerClosed, "{refused}");

        // And a read position that nothing has led to.
        let (name, nonsense) = (Name::new(), 0x0012_3450_u32);
        let mut sender = NamedSender::create(&name, RING).unwrap();
        let object = File::options().write(true).open(name.path()).unwrap();
        object.write_all_at(&nonsense.to_ne_bytes(), 128).unwrap();
        let refused = (0..100).find_map(|number| sender.send(event(number), &[0; 100]).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::CorruptPeer, "{refused}");
        assert_eq!(kind(sender.send(event(0), &[])), ErrorKind::CorruptPeer);
    }
}
