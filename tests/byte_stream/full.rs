//! Full rings: large transfers, two sides that write at once, and what a reader that stops early keeps back.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use super::common::{Random, Watchdog, assert_bytes, bytes, comes_true, fill};
use super::{everywhere, pair_of};

#[test]
fn large_transfer() {
    everywhere(|mut stream, other| {
        let body = bytes(9, 10 << 20);
        let echo = thread::spawn(move || std::io::copy(&mut &other, &mut &other).map(|count| (count, other)));
        let mut reader = stream.try_clone().unwrap();
        let total = body.len();
        let back = thread::spawn(move || {
            let mut found = vec![0; total];
            reader.read_exact(&mut found).unwrap();
            found
        });
        stream.write_all(&body).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_bytes(&back.join().unwrap(), &body, "the echo");
        let (count, other) = echo.join().unwrap().unwrap();
        assert_eq!(count, total as u64);
        drop(other);
    });
}

#[test]
fn any_sizes_of_writes_and_reads_meet() {
    let _watchdog = Watchdog::start();
    for (seed, ring_bytes) in [(1, 4 << 10), (2, 8 << 10), (3, 64 << 10)] {
        let (mut stream, mut other) = pair_of(ring_bytes);
        let total = 3_000_000;
        let writer = thread::spawn(move || {
            let (mut random, mut piece, mut at) = (Random(seed), Vec::new(), 0);
            while at < total {
                let most = [10, 100, 5_000, 100_000][random.below(4) as usize];
                fill(at, &mut piece, (1 + random.below(most)).min(total - at) as usize);
                stream.write_all(&piece).unwrap();
                at += piece.len() as u64;
            }
        });
        let (mut random, mut found, mut expected, mut at) =
            (Random(seed + 7), vec![0; 100_000], Vec::new(), 0);
        loop {
            let most = [10, 100, 5_000, 100_000][random.below(4) as usize];
            let count = other.read(&mut found[..1 + random.below(most) as usize]).unwrap();
            if count == 0 {
                break;
            }
            fill(at, &mut expected, count);
            assert_bytes(&found[..count], &expected, "piece");
            at += count as u64;
        }
        assert_eq!(at, total);
        writer.join().unwrap();
    }
}

#[test]
fn two_large_writes_wait_for_each_other_as_on_a_socket() {
    let _watchdog = Watchdog::start();
    let (one, other) = pair_of(64 << 10);
    let body = bytes(2, 1 << 20);
    for stream in [&one, &other] {
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    }
    let accepted = thread::scope(|scope| {
        let threads = [&one, &other].map(|mut stream| {
            let body = &body;
            scope.spawn(move || stream.write(body).unwrap())
        });
        threads.map(|thread| thread.join().unwrap())
    });
    for (mut reader, accepted) in [&other, &one].into_iter().zip(accepted) {
        assert!(accepted < 64 << 10, "{accepted} bytes in a ring of 64 KiB: nothing is set aside");
        let mut found = vec![0; accepted];
        reader.read_exact(&mut found).unwrap();
        assert_bytes(&found, &body[..accepted], "accepted");
    }
    // Once they read, both go on.
    for stream in [&one, &other] {
        stream.set_write_timeout(None).unwrap();
    }
    thread::scope(|scope| {
        for mut stream in [&one, &other] {
            let body = &body;
            scope.spawn(move || stream.write_all(body).unwrap());
            scope.spawn(move || {
                let mut found = vec![0; body.len()];
                stream.read_exact(&mut found).unwrap();
                assert_bytes(&found, body, "both ways");
            });
        }
    });
}

/// A reader that takes what it needs and does something else holds no room back: the write ends without it.
#[test]
fn what_has_been_read_is_room_at_once() {
    let _watchdog = Watchdog::start();
    for ring_bytes in [4_usize << 10, 64 << 10] {
        for extra in [1, 600, 2_000] {
            let (mut stream, mut other) = pair_of(ring_bytes as u32);
            stream.set_nonblocking(true).unwrap();
            let mut filled = 0;
            let last = loop {
                match stream.write(&[7; 500]) {
                    Ok(count) => filled += count,
                    Err(error) => break error.kind(),
                }
            };
            assert_eq!(last, ErrorKind::WouldBlock);
            stream.set_nonblocking(false).unwrap();
            let writer = thread::spawn(move || {
                stream.write_all(&vec![8; extra]).unwrap();
                stream
            });
            other.read_exact(&mut vec![0; filled]).unwrap();
            assert!(comes_true(Duration::from_secs(10), || writer.is_finished()), "{ring_bytes} {extra}");
            drop(writer.join().unwrap());
        }
    }
}

/// A side that waits for room itself has told the peer what it has read.
#[test]
fn a_waiting_writer_keeps_back_nothing_that_it_has_read() {
    let _watchdog = Watchdog::start();
    let (mut one, mut other) = pair_of(64 << 10);
    let thread = thread::spawn(move || {
        let mut found = vec![0; 100_000];
        for round in 0..50 {
            other.write_all(&bytes(round, 100_000)).unwrap();
            other.read_exact(&mut found).unwrap();
            assert_bytes(&found, &bytes(round, 100_000), "there");
        }
    });
    for round in 0..50 {
        let mut found = vec![0; 100_000];
        // The last of it is read while the next write already waits.
        one.read_exact(&mut found).unwrap();
        one.write_all(&found).unwrap();
        assert_bytes(&found, &bytes(round, 100_000), "here");
    }
    thread.join().unwrap();
}
