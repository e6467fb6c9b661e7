//! Threads that share a stream: each direction is used in turns, and a shutdown reaches whoever waits there.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::common::{Watchdog, assert_bytes, bytes};
use super::{everywhere, pair_of};

/// How long a waiter has waited when the shutdown comes: while it spins or sleeps on its word, and on the lifeline.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(3), Duration::from_millis(40)];

#[test]
fn close_read_wakes_up() {
    everywhere(|stream, mut other| {
        let stream = Arc::new(stream);
        let waiters = [
            thread::spawn({
                let mut clone = stream.try_clone().unwrap();
                move || clone.read(&mut [0; 10]).unwrap()
            }),
            thread::spawn({
                let stream = Arc::clone(&stream);
                move || (&*stream).read(&mut [0; 10]).unwrap()
            }),
        ];
        thread::sleep(WAITS[2]);
        stream.shutdown(Shutdown::Read).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 0);
        }
        assert_eq!(other.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        other.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn a_shutdown_ends_a_read_whatever_it_waits_on() {
    for wait in WAITS {
        everywhere(|stream, _other| {
            let mut clone = stream.try_clone().unwrap();
            let waiter = thread::spawn(move || clone.read(&mut [0; 10]).unwrap());
            thread::sleep(wait);
            stream.shutdown(Shutdown::Both).unwrap();
            assert_eq!(waiter.join().unwrap(), 0);
        });
    }
}

#[test]
fn a_shutdown_ends_a_write_that_waits_for_room() {
    for wait in WAITS {
        everywhere(|stream, mut other| {
            let mut clone = stream.try_clone().unwrap();
            let body = bytes(1, 1 << 20);
            let waiter = thread::spawn(move || {
                let accepted = clone.write(&body).unwrap_or(0);
                assert_eq!(clone.write(&body).unwrap_err().kind(), ErrorKind::BrokenPipe);
                accepted
            });
            thread::sleep(wait);
            stream.shutdown(Shutdown::Write).unwrap();
            let accepted = waiter.join().unwrap();
            let mut found = Vec::new();
            other.read_to_end(&mut found).unwrap();
            assert_bytes(&found, &bytes(1, accepted), "accepted before the shutdown");
        });
    }
}

#[test]
fn a_peer_that_shuts_down_ends_both_waits() {
    for wait in WAITS {
        everywhere(|mut stream, other| {
            let peer = thread::spawn(move || {
                thread::sleep(wait);
                other.shutdown(Shutdown::Both).unwrap();
                other
            });
            let mut clone = stream.try_clone().unwrap();
            let writer = thread::spawn(move || clone.write_all(&bytes(1, 1 << 20)).unwrap_err().kind());
            assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
            drop(peer.join().unwrap());
        });
    }
}

#[test]
fn clone_while_reading() {
    everywhere(|mut stream, mut other| {
        let mut clone = stream.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut found = [0; 2];
            clone.read_exact(&mut found[..1]).unwrap();
            clone.read_exact(&mut found[1..]).unwrap();
            found
        });
        other.write_all(b"a").unwrap();
        // One direction's waiter does not hold up the other direction.
        let writer = stream.try_clone().unwrap();
        (&writer).write_all(b"back").unwrap();
        let mut back = [0; 4];
        other.read_exact(&mut back).unwrap();
        other.write_all(b"b").unwrap();
        assert_eq!(&reader.join().unwrap(), b"ab");
        other.write_all(b"c").unwrap();
        assert_eq!(stream.read(&mut back).unwrap(), 1);
    });
}

#[test]
fn the_last_clone_closes() {
    everywhere(|stream, mut other| {
        let clone = stream.try_clone().unwrap();
        drop(stream);
        other.set_read_timeout(Some(Duration::from_millis(15))).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        (&clone).write_all(b"x").unwrap();
        drop(clone);
        assert_eq!(other.read(&mut [0]).unwrap(), 1);
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn whole_writes_of_clones_do_not_mix() {
    let _watchdog = Watchdog::start();
    let (stream, mut other) = pair_of(8 << 10);
    let writers: Vec<_> = (1..=3_u8)
        .map(|letter| {
            let mut clone = stream.try_clone().unwrap();
            thread::spawn(move || (0..50).for_each(|_| clone.write_all(&[letter; 5_000]).unwrap()))
        })
        .collect();
    drop(stream);
    let (mut found, mut counts) = ([0; 5_000], [0; 4]);
    for _ in 0..150 {
        other.read_exact(&mut found).unwrap();
        assert_bytes(&found, &[found[0]; 5_000], "one write");
        counts[usize::from(found[0])] += 1;
    }
    assert_eq!(counts, [0, 50, 50, 50]);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(other.read(&mut found).unwrap(), 0);
}

#[test]
fn a_timeout_holds_behind_another_threads_turn_too() {
    everywhere(|stream, mut other| {
        let mut clone = stream.try_clone().unwrap();
        let reader = thread::spawn(move || clone.read(&mut [0; 10]).unwrap());
        // It waits for ever, as it was told when it began: this one does not.
        thread::sleep(Duration::from_millis(20));
        let timeout = Duration::from_millis(30);
        stream.set_read_timeout(Some(timeout)).unwrap();
        let started = Instant::now();
        assert_eq!((&stream).read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(started.elapsed() >= timeout);
        stream.set_nonblocking(true).unwrap();
        assert_eq!((&stream).read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
        other.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);
    });
}
