//! Clients that misbehave in the handshake: each gets its answer, and holds up nobody.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::wire::{Hello, Status};
use ringwire::{ErrorKind, Listener, Stream};
use zerocopy::IntoBytes;

use super::common::Watchdog;
use super::common::raw::{greet, hear_answer, send_with_descriptors};
use super::{Accepting, directory, is_at_its_end, pipe, works};

fn hello() -> Hello {
    Hello::new(0, 0, 1 << 20)
}

/// What a listener answers to bytes that are no good greeting; afterwards it must take a good client.
fn refusal_of(bytes: &[u8]) -> (Status, String) {
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 1);
    let answer = greet(&mut UnixStream::connect(&path).unwrap(), bytes).0;
    let mut client = accepting.connect().unwrap();
    works(&mut client, &mut accepting.join().1[0]);
    (answer.status(), answer.reason())
}

#[test]
fn garbage_is_refused_with_an_explanation() {
    let _watchdog = Watchdog::start();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"x", &[0; 48], &[0xFF; 4096]] {
        let (status, reason) = refusal_of(garbage);
        assert_eq!(status, Status::InvalidArgument);
        assert!(reason.starts_with("expected a ringwire handshake, found bytes ["), "{reason}");
    }
    for size in [0, 47, 4097, u32::MAX] {
        let (status, reason) = refusal_of(Hello { struct_bytes: size, ..hello() }.as_bytes());
        assert_eq!(status, Status::InvalidArgument);
        assert_eq!(reason, format!("handshake message of {size} bytes, expected 48 to 4096"));
    }
    let (status, reason) = refusal_of(Hello { version_oldest: 3, version: 2, ..hello() }.as_bytes());
    assert_eq!(
        (status, &*reason),
        (Status::InvalidArgument, "handshake with an empty version range: 3 to 2")
    );
}

#[test]
fn a_client_of_another_version_is_told_which_versions_there_are() {
    let _watchdog = Watchdog::start();
    let (status, reason) = refusal_of(Hello { version_oldest: 2, version: 5, ..hello() }.as_bytes());
    assert_eq!(status, Status::VersionMismatch);
    let said = "the client speaks protocol versions 2 to 5, this server 1 to 1; update the older side";
    assert_eq!(reason, said);
}

#[test]
fn a_greeting_is_taken_byte_by_byte_and_what_lies_behind_it_is_left_alone() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 2);
    let mut slow = UnixStream::connect(&path).unwrap();
    for byte in hello().as_bytes() {
        slow.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(3));
    }
    let (answer, descriptors) = hear_answer(&slow);
    assert_eq!((answer.status(), descriptors.len()), (Status::Ok, 1));
    let mut talkative = UnixStream::connect(&path).unwrap();
    let bytes = [hello().as_bytes(), b"and more"].concat();
    assert_eq!(greet(&mut talkative, &bytes).0.status(), Status::Ok);
    accepting.join();
}

#[test]
fn descriptors_that_come_with_a_greeting_are_closed() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 1);
    let client = UnixStream::connect(&path).unwrap();
    let (watched, given) = pipe();
    let copies: Vec<OwnedFd> = (0..20).map(|_| given.try_clone().unwrap()).collect();
    let raw: Vec<i32> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    send_with_descriptors(&client, hello().as_bytes(), &raw);
    drop((given, copies));
    assert_eq!(hear_answer(&client).0.status(), Status::Ok);
    assert!(is_at_its_end(&watched));
    accepting.join();
}

#[test]
fn a_client_that_stalls_is_dropped_after_a_second_and_holds_up_nobody() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 2);
    let mut silent = UnixStream::connect(&path).unwrap();
    let mut half_way = UnixStream::connect(&path).unwrap();
    half_way.write_all(&hello().as_bytes()[..30]).unwrap();
    let started = Instant::now();
    let mut client = accepting.connect().unwrap();
    for socket in [&mut silent, &mut half_way] {
        let answer = hear_answer(socket).0;
        assert_eq!(answer.status(), Status::DeadlineExceeded);
        assert_eq!(answer.reason(), "no complete handshake within 1 s");
        assert_eq!(socket.read(&mut [0; 8]).unwrap(), 0, "and the server has hung up");
    }
    assert!(started.elapsed() >= Duration::from_millis(900));
    let mut other = accepting.connect().unwrap();
    let mut streams = accepting.join().1;
    works(&mut client, &mut streams[0]);
    works(&mut other, &mut streams[1]);
}

#[test]
fn clients_that_hang_up_in_the_handshake_are_nothing() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 1);
    for count in 0..60 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&hello().as_bytes()[..count % 48]).unwrap();
    }
    let mut client = accepting.connect().unwrap();
    works(&mut client, &mut accepting.join().1[0]);
}

#[test]
fn two_hundred_clients_that_stall_do_not_hold_up_good_ones_among_them() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    // All of them are there before the server looks.
    let mut listener = Listener::bind(&path).unwrap();
    let mut stalled = Vec::new();
    let mut good = Vec::new();
    for count in 0..200 {
        stalled.push(UnixStream::connect(&path).unwrap());
        if count % 40 == 0 {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(hello().as_bytes()).unwrap();
            good.push(client);
        }
    }
    let streams: Vec<Stream> =
        (0..good.len()).map(|_| listener.accept_timeout(Duration::from_secs(30)).unwrap()).collect();
    for client in &good {
        let answer = hear_answer(client).0;
        assert_eq!(answer.status(), Status::Ok, "{}", answer.reason());
    }
    assert_eq!(listener.connections(), streams.len());
    // The oldest make way for the newest when there are too many, and are told so.
    let error = listener.accept_timeout(Duration::from_millis(1)).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let answer = hear_answer(&stalled[0]).0;
    assert_eq!(answer.status(), Status::ResourceExhausted);
    assert_eq!(answer.reason(), "too many unfinished handshakes");
}

#[test]
fn clients_that_keep_coming_and_stall_do_not_keep_a_good_one_or_a_timeout_waiting() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut listener = Listener::bind(&path).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = thread::spawn({
        let path = path.clone();
        move || {
            let mut open = std::collections::VecDeque::new();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                open.push_back(UnixStream::connect(&path).unwrap());
                if open.len() > 300 {
                    open.pop_front();
                }
            }
        }
    });
    let client = thread::spawn({
        let path = path.clone();
        move || {
            thread::sleep(Duration::from_millis(100));
            Stream::builder(path).timeout(Duration::from_secs(30)).connect().unwrap()
        }
    });
    let mut stream = listener.accept().unwrap();
    works(&mut stream, &mut client.join().unwrap());
    assert_eq!(
        listener.accept_timeout(Duration::from_millis(200)).map(drop).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    drop(stop);
    // Its last connect may be waiting for a place in the backlog.
    while !flood.is_finished() {
        let _ = listener.accept_timeout(Duration::from_millis(1));
    }
    flood.join().unwrap();
}

#[test]
fn accepting_ends_at_its_timeout_and_goes_on_afterwards() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut listener = Listener::bind(&path).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(30)] {
        let started = Instant::now();
        let error = listener.accept_timeout(timeout).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= timeout);
    }
    let clients = thread::spawn(move || [0; 3].map(|_| Stream::connect(&path).unwrap()));
    let mut streams: Vec<Stream> = listener.incoming().take(3).map(Result::unwrap).collect();
    for (mut client, stream) in clients.join().unwrap().into_iter().zip(&mut streams) {
        works(&mut client, stream);
    }
}

#[test]
fn a_client_gone_before_it_is_accepted_is_a_stream_that_has_ended() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut listener = Listener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(hello().as_bytes()).unwrap();
    drop(client);
    // The welcome may find nobody any more: then there is no stream.
    if let Ok(mut stream) = listener.accept_timeout(Duration::from_millis(50)) {
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
    }
    assert_eq!(listener.connections(), 0);
}
