//! Messages that are written and read piece by piece.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use ringwire::{ErrorKind, MessageReader, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes, fill};
use super::{each_pair, event};

const SMALL: u32 = 4096;

fn pair() -> (Stream, Stream) {
    Stream::pair_with(SMALL, WaitStrategy::ParkAtOnce).unwrap()
}

/// Checks the stream of `fill` as it comes, without keeping it.
fn check_all(reader: &mut impl Read, total: u64) {
    let (mut found, mut expected, mut at) = (vec![0; 50_000], Vec::new(), 0);
    loop {
        let count = reader.read(&mut found).unwrap();
        if count == 0 {
            break;
        }
        fill(at, &mut expected, count);
        assert_bytes(&found[..count], &expected, "piece");
        at += count as u64;
    }
    assert_eq!(at, total);
}

#[test]
fn a_hundred_mebibytes_pass_a_ring_of_64_kib_without_being_whole_in_memory() {
    let _watchdog = Watchdog::start();
    let total: u64 = 100 << 20;
    let (mut one, mut two) = Stream::pair().unwrap();
    let writer = thread::spawn(move || {
        let mut message = one.write_message(event(5));
        let (mut piece, mut at, mut length) = (Vec::new(), 0, 1u64);
        while at < total {
            length = (length * 7 + 11) % 70_000;
            let count = length.min(total - at) as usize;
            fill(at, &mut piece, count);
            message.write_piece(&piece).unwrap();
            at += count as u64;
        }
        message.finish().unwrap();
        one.send(event(6), b"next").unwrap();
        one
    });
    let mut reader = two.read_message().unwrap();
    assert_eq!((reader.header(), reader.at_most_bytes()), (event(5), None));
    check_all(&mut reader, total);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "the end stays");
    drop(reader);
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"next");
    drop(writer.join().unwrap());
}

#[test]
fn pieces_are_whatever_the_writer_wrote_for_every_strategy_and_ring() {
    let _watchdog = Watchdog::start();
    each_pair(|mut one, mut two, _, ring_bytes| {
        let total = 5 * ring_bytes as usize / 2;
        let writer = thread::spawn(move || {
            let mut message = one.write_message(event(1));
            io::copy(&mut bytes(0, total).as_slice(), &mut message).unwrap();
            message.flush().unwrap();
            message.finish().unwrap();
            one
        });
        let mut reader = two.read_message().unwrap();
        let mut whole = Vec::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            piece.append_to(&mut whole);
        }
        assert!(reader.next_piece().unwrap().is_none());
        drop(reader);
        assert_bytes(&whole, &bytes(0, total), "pieces");
        drop(writer.join().unwrap());
    });
}

#[test]
fn a_whole_message_can_be_read_in_pieces_and_pieces_as_a_whole() {
    let (mut one, mut two) = pair();
    one.send(event(1), b"whole").unwrap();
    let mut message = one.write_message(event(2));
    for piece in [&b"a"[..], b"", b"bc"] {
        message.write_piece(piece).unwrap();
    }
    message.finish().unwrap();
    one.write_message(event(3)).finish().unwrap();
    let mut read = String::new();
    two.read_message().unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "whole");
    let mut buffer = Vec::new();
    assert_eq!((two.receive_into(&mut buffer).unwrap(), &buffer[..]), (event(2), &b"abc"[..]));
    let message = two.receive().unwrap();
    assert_eq!((message.header(), message.payload().len()), (event(3), 0));
}

/// Reads some of a message, in one way or another.
type ReadSome = fn(&mut MessageReader<'_>);

#[test]
fn what_a_dropped_reader_left_is_left_out_and_the_next_message_is_intact() {
    let _watchdog = Watchdog::start();
    let ways: [ReadSome; 6] = [
        |_| (),
        |reader| assert!(reader.next_piece().unwrap().is_some()),
        |reader| (0..4).for_each(|_| assert!(reader.next_piece().unwrap().is_some())),
        |reader| reader.read_exact(&mut [0; 100]).unwrap(),
        |reader| reader.read_exact(&mut [0; 9000]).unwrap(),
        |reader| check_all(reader, 20_000),
    ];
    for read_some in ways {
        let (mut one, mut two) = pair();
        let writer = thread::spawn(move || {
            one.send(event(1), &bytes(0, 20_000)).unwrap();
            one.send(event(2), b"next").unwrap();
            one.send(event(3), &bytes(3, 20_000)).unwrap();
            one
        });
        let mut reader = two.read_message().unwrap();
        read_some(&mut reader);
        drop(reader);
        assert_eq!(two.receive().unwrap().payload().to_vec(), b"next");
        let mut buffer = Vec::new();
        assert_eq!(two.receive_into(&mut buffer).unwrap(), event(3));
        assert_bytes(&buffer, &bytes(3, 20_000), "the one after");
        drop(writer.join().unwrap());
    }
}

#[test]
fn a_message_given_up_is_told_to_a_reader_and_left_out_for_receive_into() {
    let (mut one, mut two) = pair();
    for _ in 0..2 {
        let mut message = one.write_message(event(1));
        message.write_piece(b"half").unwrap();
        drop(message);
    }
    one.send(event(2), b"whole").unwrap();
    let mut reader = two.read_message().unwrap();
    assert_eq!(reader.next_piece().unwrap().unwrap().to_vec(), b"half");
    assert_eq!(reader.next_piece().map(drop).unwrap_err().kind(), ErrorKind::Abandoned);
    drop(reader);
    let mut buffer = Vec::new();
    assert_eq!(two.receive_into(&mut buffer).unwrap(), event(2));
    assert_eq!(buffer, b"whole");
}

#[test]
fn a_reader_as_io_read_does_not_take_a_message_given_up_for_a_short_one() {
    let (mut one, mut two) = pair();
    let mut message = one.write_message(event(1));
    message.write_piece(b"half").unwrap();
    drop(message);
    let mut read = Vec::new();
    let error = two.read_message().unwrap().read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    let inner = error.get_ref().unwrap().downcast_ref::<ringwire::Error>().unwrap();
    assert_eq!(inner.kind(), ErrorKind::Abandoned);
}

#[test]
fn a_writer_dropped_before_its_first_piece_sends_nothing() {
    let (mut one, mut two) = pair();
    drop(one.write_message(event(1)));
    let mut empty = one.write_message(event(1));
    empty.write_piece(b"").unwrap();
    drop(empty);
    assert!(two.try_receive().unwrap().is_none());
}

#[test]
fn a_message_given_up_for_want_of_room_is_told_before_the_next_one() {
    let (mut one, mut two) = pair();
    one.set_send_timeout(Some(Duration::from_millis(5)));
    // With three fragments behind it this leaves 16 bytes, too few for the word that the message is given up.
    one.send(event(0), &[0; 992]).unwrap();
    let error = one.send(event(1), &bytes(0, 30_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(one.try_send(event(2), b"").unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(one.send(event(2), b"").unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(one.reserve(event(2), 0).map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(one.batch().send(event(2), b"").unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(two.receive().unwrap().header(), event(0));
    let mut reader = two.read_message().unwrap();
    let mut found = vec![0; 2000];
    reader.read_exact(&mut found).unwrap();
    assert_bytes(&found, &bytes(0, 2000), "what was sent");
    drop(reader);
    assert!(two.try_receive().unwrap().is_none());
    one.send(event(3), b"next").unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"next");
}

#[test]
fn a_receive_goes_on_where_its_time_was_up() {
    each_pair(|mut one, mut two, _, ring_bytes| {
        two.set_receive_timeout(Some(Duration::from_millis(3)));
        let total = ring_bytes as usize / 2 + 100;
        let sent = bytes(7, total);
        let mut message = one.write_message(event(1));
        let mut buffer = b"something else".to_vec();
        for piece in sent.chunks(total / 5) {
            message.write_piece(piece).unwrap();
            assert_eq!(two.receive_into(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        let error = match two.read_message() {
            // Nothing there: the wait comes first.
            Err(error) => error,
            Ok(_) => panic!("a message in the middle of another"),
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        message.finish().unwrap();
        let error = two.receive().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("call receive_into again"), "{error}");
        assert_eq!(two.receive_into(&mut buffer).unwrap(), event(1));
        assert_bytes(&buffer, &sent, "continued");
    });
}

#[test]
fn a_reader_goes_on_where_its_time_was_up() {
    let (mut one, mut two) = pair();
    two.set_receive_timeout(Some(Duration::from_millis(3)));
    let mut message = one.write_message(event(1));
    message.write_piece(b"one").unwrap();
    let mut reader = two.read_message().unwrap();
    assert_eq!(reader.next_piece().unwrap().unwrap().to_vec(), b"one");
    assert_eq!(reader.next_piece().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
    message.write_piece(b"two").unwrap();
    let mut found = [0; 3];
    reader.read_exact(&mut found).unwrap();
    assert_eq!(&found, b"two");
    assert_eq!(reader.read(&mut found).unwrap_err().kind(), io::ErrorKind::TimedOut);
    // Left in its wait, and the rest comes later.
    drop(reader);
    message.write_piece(b"three").unwrap();
    message.finish().unwrap();
    one.send(event(2), b"next").unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"next");
}

/// The ring is full when the message is given up; its sender then waits for an answer, and sends nothing more.
#[test]
fn a_message_given_up_in_a_full_ring_is_told_before_its_sender_waits() {
    let _watchdog = Watchdog::start();
    let (mut editor, mut engine) = Stream::pair_with(4096, WaitStrategy::default()).unwrap();
    editor.set_send_timeout(Some(Duration::from_millis(20)));
    let mut writer = editor.write_message(event(1));
    // In records of 24 bytes, which leave no room for one of 16.
    let error = (0..200).find_map(|_| writer.write_piece(&[7; 8]).err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(writer);
    let answering = thread::spawn(move || {
        let mut reader = engine.read_message().unwrap();
        let ended = loop {
            match reader.next_piece() {
                Ok(Some(_)) => {}
                other => break other.map(|_| ()),
            }
        };
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Abandoned);
        drop(reader);
        engine.send(event(2), b"tell me again").unwrap();
    });
    assert_eq!(editor.receive().unwrap().payload().to_vec(), b"tell me again");
    answering.join().unwrap();
}
