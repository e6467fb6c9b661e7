//! The same promises between two real processes, and what only two processes can show: death, stopping, leaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod deaths;
mod leaks;
mod signals;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use common::scene::{STRATEGIES, event, listen, strategy};
use common::{Second, Watchdog, assert_bytes, bytes, fill, second, setting};
use ringwire::{ErrorKind, Listener, Stream};

#[test]
fn child_entry() {
    common::child_entry(&[
        ("echo", echo),
        ("count", count),
        ("crossing", crossing),
        ("committer", deaths::committer),
        ("serving committer", deaths::serving_committer),
        ("half sender", deaths::half_sender),
        ("silent", deaths::silent),
        ("chatterbox", deaths::chatterbox),
        ("listener without end", deaths::listener_without_end),
        ("signalled", signals::signalled),
        ("unguarded", signals::unguarded),
        ("leaver", deaths::leaver),
        ("many clients", leaks::many_clients),
        ("many servers", leaks::many_servers),
    ]);
}

/// Starts `role` as a client of `listener`.
fn accept_from(
    listener: &mut Listener,
    role: &str,
    strategy_name: &str,
    ring_bytes: u32,
) -> (Stream, Second) {
    let ring = ring_bytes.to_string();
    let path = listener.path().to_str().unwrap().to_owned();
    let child = second(role, &[("SOCKET", &path), ("STRATEGY", strategy_name), ("RING", &ring)]);
    let mut stream = listener.accept().unwrap();
    stream.set_wait_strategy(strategy(strategy_name));
    (stream, child)
}

fn socket() -> PathBuf {
    Path::new(&setting("SOCKET")).to_owned()
}

/// In a second process: connects as the parent wants it.
fn connect() -> Stream {
    let connector = Stream::builder(socket()).ring_bytes(setting("RING").parse().unwrap());
    connector.wait_strategy(strategy(&setting("STRATEGY"))).connect().unwrap()
}

/// The second process: sends back what it receives.
fn echo() {
    let mut stream = connect();
    let mut buffer = Vec::new();
    loop {
        match stream.receive_into(&mut buffer) {
            Ok(header) => stream.send(header, &buffer).unwrap(),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}"),
        }
    }
}

#[test]
fn every_size_comes_back() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        for ring_bytes in [4 << 10, 64 << 10, 1 << 20] {
            let (mut stream, child) = accept_from(&mut listener, "echo", name, ring_bytes);
            assert_eq!(stream.peer().pid, child.id().cast_signed());
            let largest = stream.max_record_bytes();
            assert_eq!(largest, ring_bytes as usize / 2 - 32);
            let mut buffer = Vec::new();
            for length in [0, 1, 47, 48, 49, 1000, largest - 1, largest, largest + 1, 200_000, 3 << 20] {
                stream.send(event(length as u64), &bytes(length as u64, length)).unwrap();
                assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(length as u64));
                assert_bytes(&buffer, &bytes(length as u64, length), name);
            }
            drop(stream);
            child.join();
        }
    }
}

#[test]
fn many_small_round_trips_lose_nothing() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, rounds) in [("spin then park", 10_000), ("park", 10_000), ("spin", 500)] {
        let (mut stream, child) = accept_from(&mut listener, "echo", name, 4096);
        for number in 0..rounds {
            stream.send(event(number), &bytes(number, 60)).unwrap();
            let message = stream.receive().unwrap();
            assert_eq!(message.header(), event(number));
            assert_bytes(&message.payload().to_vec(), &bytes(number, 60), name);
        }
        drop(stream);
        child.join();
    }
}

#[test]
fn a_pipelined_window_comes_back_in_order() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, total) in [("spin then park", 20_000), ("park", 20_000)] {
        let (mut stream, child) = accept_from(&mut listener, "echo", name, 4096);
        for number in 0..total + 16 {
            if number < total {
                stream.send(event(number), &bytes(number, (number % 300) as usize)).unwrap();
            }
            if let Some(back) = number.checked_sub(16) {
                let message = stream.receive().unwrap();
                assert_eq!(message.header(), event(back));
                assert_bytes(&message.payload().to_vec(), &bytes(back, (back % 300) as usize), name);
            }
        }
        drop(stream);
        child.join();
    }
}

/// The second process: reads one message piece by piece, checks it, and answers with its length.
fn count() {
    let mut stream = connect();
    let mut reader = stream.read_message().unwrap();
    let (mut found, mut expected, mut at) = (vec![0; 30_000], Vec::new(), 0);
    loop {
        let count = reader.read(&mut found).unwrap();
        if count == 0 {
            break;
        }
        fill(at, &mut expected, count);
        assert_bytes(&found[..count], &expected, "streamed");
        at += count as u64;
    }
    drop(reader);
    stream.send(event(at), &[]).unwrap();
}

#[test]
fn a_streamed_message_passes_whole() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, total) in [("spin then park", 50 << 20), ("park", 20 << 20), ("spin", 5 << 20)] {
        let (mut stream, child) = accept_from(&mut listener, "count", name, 64 << 10);
        let mut message = stream.write_message(event(0));
        let (mut piece, mut at) = (Vec::new(), 0);
        while at < total {
            fill(at, &mut piece, 100_000.min(total - at) as usize);
            message.write_all(&piece).unwrap();
            at += piece.len() as u64;
        }
        message.finish().unwrap();
        assert_eq!(stream.receive().unwrap().header(), event(total));
        child.join();
    }
}

fn send_then_receive(stream: &mut Stream) {
    for number in 0..20 {
        stream.send(event(number), &bytes(number, 100_000)).unwrap();
    }
    let mut buffer = Vec::new();
    for number in 0..20 {
        assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(number));
        assert_bytes(&buffer, &bytes(number, 100_000), "crossing");
    }
}

/// The second process: does what the first does, at the same time.
fn crossing() {
    send_then_receive(&mut connect());
}

#[test]
fn two_processes_that_send_at_once_do_not_wait_for_each_other() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        let (mut stream, child) = accept_from(&mut listener, "crossing", name, 64 << 10);
        send_then_receive(&mut stream);
        child.join();
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
    }
}

#[test]
fn halves_in_two_threads_talk_to_another_process() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let (stream, child) = accept_from(&mut listener, "echo", "spin then park", 4096);
    let (mut sender, mut receiver) = stream.split();
    let sending = thread::spawn(move || {
        for number in 0..5_000 {
            sender.send(event(number), &bytes(number, 90)).unwrap();
            if number % 1000 == 999 {
                thread::sleep(Duration::from_millis(15));
            }
        }
        sender
    });
    for number in 0..5_000 {
        assert_eq!(receiver.receive().unwrap().header(), event(number));
    }
    drop((sending.join().unwrap(), receiver));
    child.join();
}
