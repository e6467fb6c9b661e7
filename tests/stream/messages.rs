//! Whole messages.

use std::io::Read;
use std::thread;

use ringwire::sync::Area;
use ringwire::wire::{Features, Hello};
use ringwire::{ErrorKind, Header, Kind, Stream, WaitStrategy};

use super::common::raw::{CONTINUED, MORE, raw_client, raw_client_saying};
use super::common::{Watchdog, assert_bytes, bytes};
use super::{each_pair, event, pair_with_limits};

#[test]
fn every_kind_type_and_correlation_arrives_as_sent() {
    let (mut one, mut two) = Stream::pair().unwrap();
    for byte in 1..=10 {
        let kind = Kind::from_byte(byte).unwrap();
        for message_type in [0, 1, 0xFF, 0x8000, u16::MAX] {
            for correlation in [0, 1, u64::from(u32::MAX), 1 << 63, u64::MAX] {
                let header = Header::new(kind, message_type, correlation);
                one.send(header, &[byte]).unwrap();
                let message = two.receive().unwrap();
                assert_eq!((message.header(), message.payload().to_vec()), (header, vec![byte]));
            }
        }
    }
}

#[test]
fn every_size_arrives_whole() {
    let _watchdog = Watchdog::start();
    each_pair(|mut one, mut two, strategy, ring_bytes| {
        let largest = one.max_record_bytes();
        assert_eq!(largest, ring_bytes as usize / 2 - 32);
        let mut sizes =
            vec![0, 1, 7, 8, 9, 47, 48, 49, 1007, 1008, 1009, largest - 1, largest, largest + 1, 3 * largest];
        // Spinning threads share two processors with other tests: few hand-offs for them.
        if strategy != WaitStrategy::SpinOnly {
            sizes.extend([1 << 20, 10 << 20]);
        }
        let sent = sizes.clone();
        let sender = thread::spawn(move || {
            for (count, length) in sent.into_iter().enumerate() {
                one.send(event(count as u64), &bytes(length as u64, length)).unwrap();
            }
            one
        });
        let mut buffer = Vec::new();
        for (count, length) in sizes.into_iter().enumerate() {
            let header = two.receive_into(&mut buffer).unwrap();
            assert_eq!(header, event(count as u64));
            assert_bytes(&buffer, &bytes(length as u64, length), "message");
        }
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_message_is_readable_in_every_way() {
    let (mut one, mut two) = Stream::pair().unwrap();
    let sent = bytes(3, 5000);
    for _ in 0..5 {
        one.send(event(0), &sent).unwrap();
    }
    assert_bytes(&two.receive().unwrap().payload().to_vec(), &sent, "to_vec");
    let mut read = Vec::new();
    two.receive().unwrap().payload().read_to_end(&mut read).unwrap();
    assert_bytes(&read, &sent, "Read");
    let mut part = [0; 100];
    let message = two.receive().unwrap();
    assert_eq!((message.payload().len(), message.payload().is_empty()), (5000, false));
    assert_eq!(message.payload().copy_from(4950, &mut part), 50);
    assert_bytes(&part[..50], &sent[4950..], "copy_from");
    assert_eq!(message.payload().copy_to(&mut part), 100);
    assert_bytes(&part, &sent[..100], "copy_to");
    drop(message);
    let mut appended = b"before".to_vec();
    two.try_receive().unwrap().unwrap().payload().append_to(&mut appended);
    assert_bytes(&appended[6..], &sent, "append_to");
    let mut buffer = b"lost".to_vec();
    two.receive_into(&mut buffer).unwrap();
    assert_bytes(&buffer, &sent, "receive_into");
    assert!(two.try_receive().unwrap().is_none());
}

#[test]
fn a_message_stays_until_it_is_dropped() {
    let (mut one, mut two) = Stream::pair().unwrap();
    one.send(event(1), b"first").unwrap();
    one.send(event(2), b"second").unwrap();
    std::mem::forget(two.receive().unwrap());
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"first");
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"second");
}

#[test]
fn a_message_in_fragments_is_not_received_as_a_record_and_not_lost() {
    let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    let sent = bytes(1, 3000);
    one.send(event(8), &sent).unwrap();
    for _ in 0..2 {
        let error = two.receive().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        assert!(error.to_string().contains("receive_into or read_message"), "{error}");
        assert_eq!(two.try_receive().map(drop).unwrap_err().kind(), ErrorKind::MessageTooLarge);
    }
    let mut buffer = Vec::new();
    assert_eq!(two.receive_into(&mut buffer).unwrap(), event(8));
    assert_bytes(&buffer, &sent, "message");
}

#[test]
fn a_message_in_fragments_says_how_long_it_is() {
    let _watchdog = Watchdog::start();
    let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    for (length, at_most) in
        [(0, None), (2000, None), (2041, Some(4096)), (3000, Some(4096)), (5000, Some(8192))]
    {
        let sent = bytes(1, length);
        let writer = thread::spawn(move || {
            one.send(event(8), &sent).unwrap();
            one
        });
        let mut reader = two.read_message().unwrap();
        assert_eq!((reader.header(), reader.at_most_bytes()), (event(8), at_most), "{length}");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_bytes(&read, &bytes(1, length), "message");
        drop(reader);
        one = writer.join().unwrap();
    }
}

#[test]
fn a_peer_that_reads_no_size_is_told_none() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let mut listener = ringwire::Listener::bind(directory.path().join("s.sock")).unwrap();
    for (features, flags) in [(Features::SIZE_CLASS, MORE | 1 << 4), (Features::default(), MORE)] {
        let hello = Hello { features: features.0, ..Hello::new(4096, 4096, 10 << 20) };
        let (mut stream, client) = raw_client_saying(&mut listener, hello);
        stream.send(event(1), &[7; 3000]).unwrap();
        let (tag, _) = client.back.header(0);
        assert_eq!(tag.to_ne_bytes()[1], flags, "{features:?}");
    }
}

#[test]
fn a_message_beyond_the_peer_s_limit_is_refused_before_anything_is_sent() {
    let _watchdog = Watchdog::start();
    let (mut client, mut server) = pair_with_limits(100_000, 50_000, 4096);
    for (from, to, limit) in [(&mut client, 1, 50_000), (&mut server, 0, 100_000)] {
        let error = from.send(event(to), &bytes(0, limit + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        let said =
            format!("message of {} bytes, the peer takes {limit} (write_message has no limit)", limit + 1);
        assert_eq!(error.to_string(), said);
    }
    let receiver = thread::spawn(move || {
        let mut buffer = Vec::new();
        assert_eq!(server.receive_into(&mut buffer).unwrap(), event(3));
        assert_bytes(&buffer, &bytes(0, 50_000), "as much as the limit");
        server
    });
    client.send(event(3), &bytes(0, 50_000)).unwrap();
    drop(receiver.join().unwrap());
}

#[test]
fn the_default_limit_is_ten_mebibytes() {
    let (mut one, _two) = Stream::pair().unwrap();
    let error = one.send(event(0), &vec![0; (10 << 20) + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
    assert!(error.to_string().contains("10485760"), "{error}");
}

#[test]
fn a_message_beyond_the_limit_that_comes_all_the_same_is_left_out_and_the_next_is_received() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener = ringwire::Listener::builder(path).max_message_bytes(2000).bind().unwrap();
    let (mut stream, client) = raw_client(&mut listener, 65536);
    let mut writer = client.writer();
    writer.record(MORE, 1, &[1; 1500]);
    writer.record(MORE | CONTINUED, 1, &[1; 1500]);
    writer.record(CONTINUED, 1, &[1; 1500]);
    writer.record(0, 2, b"next");
    let mut buffer = Vec::new();
    let error = stream.receive_into(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
    assert!(error.to_string().contains("3000 bytes or more, the limit is 2000"), "{error}");
    assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(2));
    assert_eq!(buffer, b"next");
}

#[test]
fn a_batch_arrives_in_order_and_whole_also_when_it_is_larger_than_the_ring() {
    let _watchdog = Watchdog::start();
    each_pair(|mut one, mut two, _, ring_bytes| {
        let count = 3 * u64::from(ring_bytes) / 500;
        let sender = thread::spawn(move || {
            let mut batch = one.batch();
            for number in 0..count {
                batch.send(event(number), &bytes(number, 480)).unwrap();
            }
            batch.send(event(count), &bytes(9, 2 * ring_bytes as usize)).unwrap();
            batch.finish();
            let mut dropped = one.batch();
            dropped.send(event(count + 1), &[]).unwrap();
            drop(dropped);
            one
        });
        let mut buffer = Vec::new();
        for number in 0..count {
            assert_eq!(two.receive_into(&mut buffer).unwrap(), event(number));
            assert_bytes(&buffer, &bytes(number, 480), "batched");
        }
        assert_eq!(two.receive_into(&mut buffer).unwrap(), event(count));
        assert_bytes(&buffer, &bytes(9, 2 * ring_bytes as usize), "batched in fragments");
        assert_eq!(two.receive().unwrap().header(), event(count + 1));
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_slot_sends_what_was_written_and_nothing_when_dropped() {
    each_pair(|mut one, mut two, _, _| {
        let largest = one.max_record_bytes();
        for round in 0..20 {
            let mut slot = one.reserve(event(1), largest).unwrap();
            assert_eq!(slot.write(&[1; 100]), 100);
            drop(slot);
            let mut slot = one.reserve(event(2), largest).unwrap();
            slot.write(&bytes(round, 300));
            slot.commit();
            one.reserve(event(3), 0).unwrap().commit();
            drop(one.reserve(event(4), 10).unwrap());
            let message = two.receive().unwrap();
            assert_eq!(message.header(), event(2));
            assert_bytes(&message.payload().to_vec(), &bytes(round, 300), "slot");
            drop(message);
            let message = two.receive().unwrap();
            assert_eq!((message.header(), message.payload().len()), (event(3), 0));
            drop(message);
            assert!(two.try_receive().unwrap().is_none());
        }
        for absurd in [largest + 1, usize::MAX, usize::MAX - 30] {
            assert_eq!(
                one.reserve(event(0), absurd).map(drop).unwrap_err().kind(),
                ErrorKind::MessageTooLarge
            );
        }
    });
}

#[test]
fn a_pair_has_rings_of_a_valid_size_alone() {
    for ring_bytes in [0, 1, 4095, 5000, (1 << 30) + 1, 1 << 31] {
        let error = Stream::pair_with(ring_bytes, WaitStrategy::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("power of two from 4096 to 1073741824"), "{error}");
    }
    drop(Stream::pair_with(1 << 30, WaitStrategy::default()).unwrap());
}
