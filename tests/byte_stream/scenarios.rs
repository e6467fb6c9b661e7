//! The scenarios of std's tests of `UnixStream`, by their names there where they have one.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{ByteStream, Listener};

use super::common::{Watchdog, assert_bytes, bytes};
use super::everywhere;

/// Long enough to be told from zero, short enough for a test.
const SHORT: Duration = Duration::from_millis(20);

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

#[test]
fn basic() {
    everywhere(|mut client, mut server| {
        let thread = thread::spawn(move || {
            let mut request = [0; 5];
            server.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"hello");
            server.write_all(b"world!").unwrap();
        });
        client.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"world!");
        thread.join().unwrap();
    });
}

#[test]
fn vectored() {
    everywhere(|mut one, mut other| {
        let parts = [IoSlice::new(b"hello"), IoSlice::new(b""), IoSlice::new(b" world!"), IoSlice::new(b"")];
        assert_eq!(one.write_vectored(&parts).unwrap(), 12);
        let (mut first, mut second, mut third) = ([0; 3], [0; 7], [0; 9]);
        let mut targets = [
            IoSliceMut::new(&mut first),
            IoSliceMut::new(&mut []),
            IoSliceMut::new(&mut second),
            IoSliceMut::new(&mut third),
        ];
        assert_eq!(other.read_vectored(&mut targets).unwrap(), 12);
        assert_eq!((&first, &second, &third[..2]), (b"hel", b"lo worl", &b"d!"[..]));
        assert_eq!(one.write_vectored(&[]).unwrap(), 0);
        assert_eq!(other.read_vectored(&mut []).unwrap(), 0);
        // More than the ring holds, in parts that lie across the pieces.
        let (body, sizes) = (bytes(5, 500_000), [1, 16_383, 0, 100_000, 83_616, 299_999, 1]);
        let reader = thread::spawn(move || {
            let mut found = Vec::new();
            other.read_to_end(&mut found).unwrap();
            found
        });
        let (mut parts, mut rest) = (Vec::new(), &body[..]);
        for size in sizes {
            let (part, behind) = rest.split_at(size);
            parts.push(IoSlice::new(part));
            rest = behind;
        }
        assert_eq!(one.write_vectored(&parts).unwrap(), body.len());
        drop(one);
        assert_bytes(&reader.join().unwrap(), &body, "vectored");
    });
}

#[test]
fn pair() {
    let _watchdog = Watchdog::start();
    let (mut one, mut other) = ByteStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let mut found = [0; 5];
        other.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"hello");
        other.write_all(b"world!").unwrap();
    });
    one.write_all(b"hello").unwrap();
    let mut found = Vec::new();
    one.read_to_end(&mut found).unwrap();
    assert_eq!(found, b"world!");
    thread.join().unwrap();
}

#[test]
fn try_clone() {
    everywhere(|mut client, mut server| {
        let thread = thread::spawn(move || {
            server.write_all(b"hello").unwrap();
            server.write_all(b"world").unwrap();
        });
        let mut clone = client.try_clone().unwrap();
        let mut found = [0; 5];
        client.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"hello");
        clone.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"world");
        thread.join().unwrap();
    });
}

#[test]
fn iter() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener = Listener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut found = [0];
            ByteStream::from(stream.unwrap()).read_exact(&mut found).unwrap();
        }
    });
    for _ in 0..2 {
        ByteStream::connect(&path).unwrap().write_all(&[0]).unwrap();
    }
    thread.join().unwrap();
    assert_kind(ByteStream::connect(&path), ErrorKind::NotFound);
}

#[test]
fn shutdown_write() {
    everywhere(|mut one, mut other| {
        one.write_all(b"the last").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_kind(one.write(b"more"), ErrorKind::BrokenPipe);
        let mut found = Vec::new();
        other.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"the last");
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
        // The other direction lives on.
        other.write_all(b"answer").unwrap();
        drop(other);
        let mut found = Vec::new();
        one.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"answer");
    });
}

#[test]
fn shutdown_read() {
    everywhere(|mut one, mut other| {
        other.write_all(b"there already").unwrap();
        one.shutdown(Shutdown::Read).unwrap();
        one.shutdown(Shutdown::Read).unwrap();
        assert_kind(other.write(b"too late"), ErrorKind::BrokenPipe);
        let mut found = Vec::new();
        one.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"there already");
        assert_eq!(one.read(&mut [0]).unwrap(), 0);
        // The other direction lives on, asleep or awake.
        let thread = thread::spawn(move || {
            let mut found = Vec::new();
            other.read_to_end(&mut found).unwrap();
            found
        });
        thread::sleep(SHORT);
        one.write_all(b"answer").unwrap();
        thread::sleep(SHORT);
        drop(one);
        assert_eq!(thread.join().unwrap(), b"answer");
    });
}

#[test]
fn shutdown_both() {
    everywhere(|mut one, mut other| {
        one.shutdown(Shutdown::Both).unwrap();
        for stream in [&mut one, &mut other] {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            assert_kind(stream.write(&[0]), ErrorKind::BrokenPipe);
        }
        other.shutdown(Shutdown::Both).unwrap();
        assert_eq!(one.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn both_sides_shut_down_reading() {
    everywhere(|mut one, mut other| {
        for stream in [&one, &other] {
            stream.shutdown(Shutdown::Read).unwrap();
        }
        for stream in [&mut one, &mut other] {
            assert_kind(stream.write(&[0]), ErrorKind::BrokenPipe);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
}

#[test]
fn timeouts() {
    everywhere(|stream, _other| {
        let (one, two) = (Some(Duration::new(15410, 0)), Some(Duration::from_nanos(1)));
        assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
        let clone = stream.try_clone().unwrap();
        stream.set_read_timeout(one).unwrap();
        stream.set_write_timeout(two).unwrap();
        assert_eq!((clone.read_timeout().unwrap(), clone.write_timeout().unwrap()), (one, two));
        clone.set_read_timeout(None).unwrap();
        clone.set_write_timeout(None).unwrap();
        assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
    });
}

#[test]
fn unix_stream_timeout_zero_duration() {
    everywhere(|stream, _other| {
        for result in
            [stream.set_write_timeout(Some(Duration::ZERO)), stream.set_read_timeout(Some(Duration::ZERO))]
        {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("set_nonblocking"), "{error}");
        }
        assert_eq!(stream.read_timeout().unwrap(), None);
    });
}

#[test]
fn read_timeout() {
    everywhere(|mut stream, _other| {
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let started = Instant::now();
        assert_kind(stream.read(&mut [0; 10]), ErrorKind::WouldBlock);
        assert!(started.elapsed() >= SHORT);
    });
}

#[test]
fn read_with_timeout() {
    everywhere(|mut stream, mut other| {
        stream.set_read_timeout(Some(SHORT)).unwrap();
        other.write_all(b"hello world").unwrap();
        let mut found = [0; 11];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"hello world");
        assert_kind(stream.read(&mut found), ErrorKind::WouldBlock);
        other.write_all(b"again").unwrap();
        assert_eq!(stream.read(&mut found).unwrap(), 5);
    });
}

#[test]
fn write_timeout() {
    everywhere(|mut stream, mut other| {
        stream.set_write_timeout(Some(SHORT)).unwrap();
        let body = bytes(3, 1 << 20);
        let accepted = stream.write(&body).unwrap();
        assert!(accepted > 0 && accepted < body.len(), "{accepted}");
        let started = Instant::now();
        assert_kind(stream.write(&body[accepted..accepted + 40_000]), ErrorKind::WouldBlock);
        assert!(started.elapsed() >= SHORT);
        drop(stream);
        let mut found = Vec::new();
        other.read_to_end(&mut found).unwrap();
        assert_bytes(&found, &body[..accepted], "what was accepted");
    });
}

#[test]
fn set_nonblocking() {
    everywhere(|mut stream, mut other| {
        stream.set_nonblocking(true).unwrap();
        let clone = stream.try_clone().unwrap();
        assert_kind(stream.read(&mut [0; 10]), ErrorKind::WouldBlock);
        assert_kind((&clone).read(&mut [0; 10]), ErrorKind::WouldBlock);
        // Partial writes say how much they took.
        let body = bytes(4, 1 << 20);
        let mut accepted = stream.write(&body).unwrap();
        assert!(accepted > 0 && accepted < body.len(), "{accepted}");
        assert_kind(stream.write(&body[accepted..accepted + 40_000]), ErrorKind::WouldBlock);
        let mut found = vec![0; 40_000];
        other.read_exact(&mut found).unwrap();
        let more = stream.write_vectored(&[IoSlice::new(&body[accepted..])]).unwrap();
        assert!(more > 0, "there is room again");
        accepted += more;
        other.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 1);
        stream.set_nonblocking(false).unwrap();
        drop((stream, clone));
        other.read_to_end(&mut found).unwrap();
        assert_bytes(&found, &body[..accepted], "what was accepted");
    });
}

#[test]
fn a_nonblocking_reader_sees_the_end() {
    everywhere(|mut stream, mut other| {
        stream.set_nonblocking(true).unwrap();
        other.write_all(b"x").unwrap();
        drop(other);
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 1);
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn take_error() {
    everywhere(|stream, other| {
        assert!(stream.take_error().unwrap().is_none());
        drop(other);
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        assert!((&stream).write(&[0]).is_err());
        assert!(stream.take_error().unwrap().is_none());
    });
}

#[test]
fn read_after_close() {
    everywhere(|mut stream, mut other| {
        other.write_all(&bytes(1, 20_000)).unwrap();
        drop(other);
        assert_kind(stream.write(b"nobody reads this"), ErrorKind::BrokenPipe);
        let mut found = vec![0; 20_000];
        stream.read_exact(&mut found[..5]).unwrap();
        stream.read_exact(&mut found[5..]).unwrap();
        assert_bytes(&found, &bytes(1, 20_000), "written before the close");
        for _ in 0..3 {
            assert_eq!(stream.read(&mut found).unwrap(), 0);
        }
        assert_eq!(stream.write(&[]).unwrap(), 0);
    });
}

#[test]
fn peer_cred() {
    everywhere(|stream, _other| {
        let peer = stream.peer_cred().unwrap();
        assert_eq!(u32::try_from(peer.pid).unwrap(), std::process::id());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    });
}

#[test]
fn messages_where_bytes_are_expected_are_refused() {
    let _watchdog = Watchdog::start();
    let (mut messages, other) = ringwire::Stream::pair().unwrap();
    let mut stream = ByteStream::from(other);
    messages.send(ringwire::Header::new(ringwire::Kind::Request, 1, 1), b"hello").unwrap();
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("Request"), "{error}");
}
