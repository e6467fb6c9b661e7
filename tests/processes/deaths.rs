//! A process that is killed, stopped, or leaves without a word, while another waits for it.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringwire::{Error, ErrorKind, Listener, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes, say, second, told};
use super::{STRATEGIES, accept_from, connect, event, listen, socket};

const SENT: u64 = 7;

fn commit_some(stream: &mut Stream) {
    for number in 0..SENT {
        stream.send(event(number), &bytes(number, 100)).unwrap();
    }
}

/// The second process: sends something, then does nothing more, and is killed at it.
pub(crate) fn committer() {
    let mut stream = connect();
    commit_some(&mut stream);
    say("sent");
    told();
    panic!("nobody killed this process");
}

/// The same on the other side of the handshake.
pub(crate) fn serving_committer() {
    let mut listener = Listener::bind(socket()).unwrap();
    say("bound");
    let mut stream = listener.accept().unwrap();
    commit_some(&mut stream);
    say("sent");
    told();
    panic!("nobody killed this process");
}

/// The second process: connects, and goes on when it is told to.
pub(crate) fn silent() {
    let mut stream = connect();
    say("connected");
    told();
    while stream.try_receive().unwrap().is_some() {}
    stream.send(event(1), b"still alive").unwrap();
    told();
}

/// The second process: is killed in the middle of a message.
pub(crate) fn half_sender() {
    let mut stream = connect();
    let mut message = stream.write_message(event(3));
    message.write_piece(b"half").unwrap();
    say("half sent");
    told();
    panic!("nobody killed this process");
}

/// The second process: sends without end, and is killed at it.
pub(crate) fn chatterbox() {
    let mut stream = connect();
    for number in 0.. {
        // Whole records, fragments, batches and slots in turn.
        let payload = bytes(number, length_of(number));
        match number % 3 {
            0 => stream.send(event(number), &payload).unwrap(),
            1 => stream.batch().send(event(number), &payload).unwrap(),
            _ => {
                let mut message = stream.write_message(event(number));
                message.write_piece(&payload).unwrap();
                message.finish().unwrap();
            }
        }
    }
}

fn length_of(number: u64) -> usize {
    (number * number * 31 % 5000) as usize
}

/// The second process: receives without end, and is killed at it.
pub(crate) fn listener_without_end() {
    let mut stream = connect();
    let mut buffer = Vec::new();
    while stream.receive_into(&mut buffer).is_ok() {}
}

/// The second process: ends without dropping anything.
pub(crate) fn leaver() {
    let mut stream = connect();
    commit_some(&mut stream);
    std::process::exit(0);
}

#[track_caller]
pub(crate) fn assert_died<T>(result: Result<T, Error>) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied, "{error}");
    assert!(error.to_string().contains("died without closing the connection"), "{error}");
    assert!(!error.is_retryable());
}

fn take_what_was_committed(stream: &mut Stream) {
    for number in 0..SENT {
        let message = stream.receive().unwrap();
        assert_eq!(message.header(), event(number));
        assert_bytes(&message.payload().to_vec(), &bytes(number, 100), "committed");
    }
}

fn finds_it_dead(mut stream: Stream) {
    for _ in 0..2 {
        assert_died(stream.receive());
        assert_died(stream.receive_into(&mut Vec::new()));
        assert_died(stream.read_message());
    }
    // Known now: who asks again does not sleep first, on a word that nobody will write (at least 5 ms each time). Some
    // may take long all the same, on a machine that does other things too.
    let mut took = [(); 100].map(|()| {
        let asked = Instant::now();
        assert_died(stream.receive());
        asked.elapsed()
    });
    took.sort_unstable();
    assert!(took[50] < Duration::from_millis(5), "{took:?}");
    // There is room for some more, which nobody will read; then the death is seen.
    while stream.send(event(0), &[0; 500]).is_ok() {}
    assert_died(stream.send(event(0), &[0; 500]));
    assert_died(stream.try_send(event(0), &[0; 500]));
    assert_died(stream.reserve(event(0), 500));
    assert_died(stream.send(event(0), &[0; 500_000]));
}

/// In the spin of `SpinOnly`, in the futex stage, on the lifeline.
const KILL_AFTER_MS: [u64; 3] = [0, 4, 60];

#[test]
fn what_was_committed_before_a_kill_is_received_then_the_death_by_whoever_waits_to_read() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        for kill_after_ms in KILL_AFTER_MS {
            let (mut stream, mut child) = accept_from(&mut listener, "committer", name, 4096);
            assert_eq!(child.hear(), "sent");
            let killer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(kill_after_ms));
                child.kill();
            });
            take_what_was_committed(&mut stream);
            finds_it_dead(stream);
            killer.join().unwrap();
        }
    }
}

#[test]
fn what_was_committed_is_received_long_after_the_kill() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        let (mut stream, mut child) = accept_from(&mut listener, "committer", name, 4096);
        assert_eq!(child.hear(), "sent");
        child.kill();
        take_what_was_committed(&mut stream);
        finds_it_dead(stream);
        let (mut stream, child) = accept_from(&mut listener, "leaver", name, 4096);
        child.join();
        take_what_was_committed(&mut stream);
        finds_it_dead(stream);
    }
    assert_eq!(listener.connections(), 0);
}

#[test]
fn a_client_sees_its_server_die_in_the_same_way() {
    let _watchdog = Watchdog::start();
    for (name, strategy) in STRATEGIES {
        for kill_after_ms in KILL_AFTER_MS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("s.sock");
            let mut child = second("serving committer", &[("SOCKET", path.to_str().unwrap())]);
            assert_eq!(child.hear(), "bound");
            let mut stream =
                Stream::builder(&path).ring_bytes(4096).wait_strategy(strategy).connect().unwrap();
            assert_eq!(child.hear(), "sent", "{name}");
            let killer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(kill_after_ms));
                child.kill();
            });
            take_what_was_committed(&mut stream);
            finds_it_dead(stream);
            killer.join().unwrap();
            assert_eq!(Stream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
}

#[test]
fn whoever_waits_for_room_sees_the_death_too() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        for kill_after_ms in KILL_AFTER_MS {
            for length in [500, 100_000] {
                let (mut stream, mut child) = accept_from(&mut listener, "committer", name, 4096);
                assert_eq!(child.hear(), "sent");
                while stream.try_send(event(0), &[0; 500]).is_ok() {}
                let killer = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(kill_after_ms));
                    child.kill();
                });
                assert_died(stream.send(event(0), &vec![0; length]));
                // Set aside while it waited, or still in the ring.
                take_what_was_committed(&mut stream);
                finds_it_dead(stream);
                killer.join().unwrap();
            }
        }
    }
}

#[test]
fn each_half_in_its_own_thread_sees_the_death() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let (stream, mut child) = accept_from(&mut listener, "silent", "spin then park", 4096);
    assert_eq!(child.hear(), "connected");
    let (mut sender, mut receiver) = stream.split();
    let sending = thread::spawn(move || {
        let error = (0..).find_map(|_| sender.send(event(0), &[0; 500]).err());
        assert_eq!(error.unwrap().kind(), ErrorKind::PeerDied);
    });
    let receiving = thread::spawn(move || assert_died(receiver.receive()));
    thread::sleep(Duration::from_millis(40));
    child.kill();
    sending.join().unwrap();
    receiving.join().unwrap();
}

#[test]
fn a_process_that_is_stopped_is_not_dead() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, strategy) in STRATEGIES {
        let (mut stream, mut child) = accept_from(&mut listener, "silent", name, 4096);
        assert_eq!(child.hear(), "connected");
        child.signal(Signal::SIGSTOP);
        let timeout = if strategy == WaitStrategy::SpinOnly { 50 } else { 300 };
        stream.set_receive_timeout(Some(Duration::from_millis(timeout)));
        stream.set_send_timeout(Some(Duration::from_millis(timeout)));
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        while stream.try_send(event(0), &[0; 500]).is_ok() {}
        assert_eq!(stream.try_send(event(0), &[0; 500]).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(stream.send(event(0), &[0; 500]).unwrap_err().kind(), ErrorKind::TimedOut);
        child.signal(Signal::SIGCONT);
        child.tell("go on");
        stream.set_receive_timeout(None);
        assert_eq!(stream.receive().unwrap().payload().to_vec(), b"still alive");
        stream.send(event(0), b"room again").unwrap();
        child.join();
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
    }
}

#[test]
fn a_kill_in_the_middle_of_a_message_leaves_the_pieces_that_came() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let mut half_sent = || {
        let (stream, mut child) = accept_from(&mut listener, "half sender", "park", 4096);
        assert_eq!(child.hear(), "half sent");
        child.kill();
        stream
    };
    let mut stream = half_sent();
    let mut reader = stream.read_message().unwrap();
    assert_eq!(reader.next_piece().unwrap().unwrap().to_vec(), b"half");
    assert_died(reader.next_piece());
    drop(reader);
    finds_it_dead(stream);
    let mut stream = half_sent();
    let mut whole = Vec::new();
    let error = stream.read_message().unwrap().read_to_end(&mut whole).unwrap_err();
    assert_eq!((whole.as_slice(), error.kind()), (&b"half"[..], std::io::ErrorKind::ConnectionReset));
    finds_it_dead(stream);
    let mut stream = half_sent();
    assert_died(stream.receive_into(&mut whole));
    assert_eq!(whole, b"half");
    finds_it_dead(stream);
}

#[test]
fn a_kill_at_any_moment_leaves_whole_messages_and_then_the_death() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for round in 0..30 {
        let name = STRATEGIES[round as usize % 2].0;
        let (mut stream, mut child) = accept_from(&mut listener, "chatterbox", name, 4096);
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_micros(700 * round));
            child.kill();
        });
        let mut buffer = Vec::new();
        let mut number = 0;
        let error = loop {
            match stream.receive_into(&mut buffer) {
                Ok(header) => {
                    assert_eq!(header, event(number));
                    assert_bytes(&buffer, &bytes(number, length_of(number)), "whole");
                    number += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::PeerDied, "{error}");
        killer.join().unwrap();
    }
}

#[test]
fn a_reader_killed_at_any_moment_ends_the_writer_s_wait() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for round in 0..20 {
        let name = STRATEGIES[round as usize % 2].0;
        let (mut stream, mut child) = accept_from(&mut listener, "listener without end", name, 4096);
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_micros(700 * round));
            child.kill();
        });
        let refused = (0..).find_map(|number| stream.send(event(number), &[0; 3000]).err());
        assert_eq!(refused.unwrap().kind(), ErrorKind::PeerDied);
        killer.join().unwrap();
    }
}
