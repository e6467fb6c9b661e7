//! Clients whose server is none, or not a good one.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use ringwire::shm::{Layout, Segment, SegmentOptions};
use ringwire::wire::{Answer, Features, Status};
use ringwire::{Error, ErrorKind, Stream};
use zerocopy::IntoBytes;

use super::common::raw::{read_hello, send_with_descriptors};
use super::common::{Watchdog, second};
use super::{directory, is_at_its_end, pipe};

/// What a client says to a server that does `serve` with it.
fn client_says(serve: impl FnOnce(UnixStream) + Send + 'static) -> Error {
    let (_directory, path) = directory();
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let error = Stream::connect(&path).unwrap_err();
    server.join().unwrap();
    error
}

#[test]
fn nothing_at_the_path_is_not_found() {
    let (_directory, path) = directory();
    let error = Stream::connect(&path).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, true));
    assert!(error.to_string().contains("s.sock (is the server running?)"), "{error}");
}

#[test]
fn a_dead_server_s_socket_is_connection_refused() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut child = second("server", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "bound");
    child.kill();
    let error = Stream::connect(&path).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionRefused, true));
    assert!(error.to_string().contains("its server is gone"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert_eq!(Stream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_server_of_something_else_is_a_failed_handshake() {
    let _watchdog = Watchdog::start();
    let error = client_says(|mut socket| {
        read_hello(&mut socket);
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Handshake, false));
    assert!(error.to_string().contains("expected a ringwire handshake"), "{error}");
}

#[test]
fn a_server_that_hangs_up_is_a_failed_handshake_whatever_it_has_read() {
    let _watchdog = Watchdog::start();
    let ways: [fn(UnixStream); 3] = [
        |mut socket| {
            read_hello(&mut socket);
        },
        // The greeting unread: the kernel says "reset".
        |socket| {
            thread::sleep(Duration::from_millis(50));
            drop(socket);
        },
        drop,
    ];
    for serve in ways {
        let error = client_says(serve);
        assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
        assert!(error.to_string().contains("hung up during the handshake"), "{error}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_at_the_timeout() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let _listener = UnixListener::bind(&path).unwrap();
    for timeout_ms in [0, 1, 100] {
        let timeout = Duration::from_millis(timeout_ms);
        let error = Stream::builder(&path).timeout(timeout).connect().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, true));
        assert!(error.to_string().contains(&format!("did not answer within {timeout:?}")), "{error}");
    }
}

#[test]
fn a_server_that_answers_byte_by_byte_is_heard_and_one_that_never_ends_is_not() {
    let _watchdog = Watchdog::start();
    let error = client_says(|mut socket| {
        read_hello(&mut socket);
        for byte in Answer::refusal(Status::TooManyConnections, "full up").as_bytes() {
            socket.write_all(&[*byte]).unwrap();
        }
    });
    assert_eq!(error.kind(), ErrorKind::TooManyConnections);
    assert!(error.to_string().ends_with("refused the connection: full up"), "{error}");
    let (_directory, path) = directory();
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        for byte in Answer::refusal(Status::Internal, "").as_bytes() {
            thread::sleep(Duration::from_millis(20));
            if socket.write_all(&[*byte]).is_err() {
                return;
            }
        }
        panic!("the client waited for it");
    });
    let error = Stream::builder(&path).timeout(Duration::from_millis(300)).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    server.join().unwrap();
}

#[test]
fn every_refusal_has_its_kind_and_its_reason() {
    let _watchdog = Watchdog::start();
    for (status, kind) in [
        (Status::VersionMismatch, ErrorKind::VersionMismatch),
        (Status::TooManyConnections, ErrorKind::TooManyConnections),
        (Status::PermissionDenied, ErrorKind::PermissionDenied),
        (Status::ResourceExhausted, ErrorKind::ResourceExhausted),
        (Status::DeadlineExceeded, ErrorKind::TimedOut),
        (Status::Internal, ErrorKind::Handshake),
    ] {
        let error = client_says(move |mut socket| {
            // Before the greeting has come, and hanging up at once.
            socket.write_all(Answer::refusal(status, "because\n\u{7}").as_bytes()).unwrap();
        });
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().ends_with("refused the connection: because  "), "{error:?}");
    }
}

/// What a client says to a welcome with these ring sizes and descriptors.
fn client_says_to(sizes: [u32; 2], descriptors: Vec<OwnedFd>) -> Error {
    client_says(move |mut socket| {
        read_hello(&mut socket);
        welcome(&mut socket, sizes, &descriptors);
    })
}

fn welcome(socket: &mut UnixStream, sizes: [u32; 2], descriptors: &[OwnedFd]) {
    let answer = Answer::welcome(1, Features::SUPPORTED, sizes, 1000);
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    if raw.is_empty() {
        socket.write_all(answer.as_bytes()).unwrap();
    } else {
        send_with_descriptors(socket, answer.as_bytes(), &raw);
    }
}

fn segment(ring_bytes: u32) -> OwnedFd {
    Segment::create(Layout::new(ring_bytes, ring_bytes).unwrap(), SegmentOptions::default()).unwrap().1
}

#[test]
fn a_welcome_that_cannot_be_used_is_a_failed_handshake_with_the_reason() {
    let _watchdog = Watchdog::start();
    let unsealed = memfd_create("plain", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&unsealed, 12288).unwrap();
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    let socket = OwnedFd::from(UnixStream::pair().unwrap().0);
    for (sizes, descriptors, said) in [
        ([4096, 4096], vec![], "sent a welcome without a segment"),
        (
            [5000, 4096],
            vec![segment(4096)],
            "sent a welcome with a ring of 5000 bytes, expected a power of two",
        ),
        ([4096, 0], vec![segment(4096)], "ring of 0 bytes"),
        ([8192, 4096], vec![segment(4096)], "segment of 12288 bytes, expected 16384"),
        ([4096, 4096], vec![unsealed], "segment with seals"),
        ([4096, 4096], vec![file], "cannot be used"),
        ([4096, 4096], vec![socket], "cannot be used"),
    ] {
        let error = client_says_to(sizes, descriptors);
        assert_eq!(error.kind(), ErrorKind::Handshake, "{said}: {error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = client_says(|mut socket| {
        read_hello(&mut socket);
        let mut answer = Answer::welcome(2, Features::SUPPORTED, [4096, 4096], 1000);
        answer.version_oldest = 2;
        send_with_descriptors(&socket, answer.as_bytes(), &[segment(4096).as_raw_fd()]);
    });
    assert_eq!(error.kind(), ErrorKind::Handshake);
    assert!(error.to_string().contains("in protocol version 2, this client speaks 1 to 1"), "{error}");
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let _watchdog = Watchdog::start();
    for surplus in [1, 3, 4, 7, 100, 252] {
        let (_directory, path) = directory();
        let listener = UnixListener::bind(&path).unwrap();
        let (watched, given) = pipe();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            read_hello(&mut socket);
            let mut descriptors = vec![segment(4096)];
            descriptors.extend((0..surplus).map(|_| given.try_clone().unwrap()));
            welcome(&mut socket, [4096, 4096], &descriptors);
            socket
        });
        let connected = Stream::connect(&path);
        drop(server.join().unwrap());
        assert!(is_at_its_end(&watched), "{surplus} surplus descriptors stay open");
        drop(connected.unwrap());
    }
}
