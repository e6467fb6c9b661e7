//! Whom a client meets that comes back: servers that refuse, hang, or are none.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use ringwire::client::reconnect::ConnectionState;
use ringwire::wire::{Answer, Status};
use ringwire::{Client, Error, ErrorKind};
use zerocopy::IntoBytes;

use crate::common::Watchdog;
use crate::{LONG, Serving, WORK, client, path};

fn short(client: &mut ringwire::ReconnectingClient) -> Error {
    client.request(WORK).deadline(Duration::from_millis(100)).call(b"").map(drop).unwrap_err()
}

#[test]
fn a_server_that_is_full_is_tried_until_it_has_room() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let _serving =
        Serving::at(&path, |builder| builder.max_connections(1).handle(WORK, |_, reply| reply.send(b"room")));
    let other = Client::connect(&path).unwrap();
    let mut client = client(&path).build();
    let error = short(&mut client);
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::TimedOut, Some(false)));
    assert!(error.to_string().contains("refused the connection"), "{error}");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            drop(other);
        });
        assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"room");
    });
}

/// Whoever comes is told this; until the path is taken away.
fn saying(listener: UnixListener, what: &'static [u8]) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            if socket.write_all(what).is_err() || what == b"end" {
                return;
            }
        }
    })
}

#[test]
fn another_version_is_given_up_at_once_and_said() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let answer = Answer::refusal(Status::VersionMismatch, "this server speaks 7");
    let listener = UnixListener::bind(&path).unwrap();
    let refusing = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(answer.as_bytes()).unwrap();
        // Read, or its answer may be lost with it.
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let mut client = client(&path).build();
    for _ in 0..2 {
        let error = client.call(WORK, b"").unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::VersionMismatch, Some(false)));
        assert!(error.to_string().contains("this server speaks 7"), "{error}");
        assert_eq!(client.state(), ConnectionState::Failed);
    }
    refusing.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    let _serving = Serving::named(&path, "updated");
    client.connect(Some(LONG)).unwrap();
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"updated");
}

#[test]
fn a_server_that_hangs_costs_no_more_than_the_deadline() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    // Its backlog takes the client, and then nothing happens.
    let hanging = UnixListener::bind(&path).unwrap();
    let mut client = client(&path).build();
    for _ in 0..3 {
        let error = short(&mut client);
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::TimedOut, Some(false)), "{error}");
    }
    // It dies while somebody waits for its welcome, and another takes its place.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call(WORK, b"").map(|reply| reply.to_vec()));
        thread::sleep(Duration::from_millis(50));
        drop(hanging);
        std::fs::remove_file(&path).unwrap();
        let _serving = Serving::named(&path, "alive");
        assert_eq!(waiting.join().unwrap().unwrap(), b"alive");
    });
}

#[test]
fn strangers_at_the_path_are_left_behind() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let mut client = client(&path).max_attempts(None).build();
    for what in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xFF; 4096], b""] {
        let listener = UnixListener::bind(&path).unwrap();
        let stop = listener.try_clone().unwrap();
        let saying = saying(listener, what);
        let error = short(&mut client);
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::TimedOut, Some(false)), "{error}");
        // Ends its accept.
        nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&stop), nix::sys::socket::Shutdown::Both)
            .unwrap();
        saying.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(short(&mut client).kind(), ErrorKind::TimedOut);
    std::fs::remove_file(&path).unwrap();
    let _serving = Serving::named(&path, "the real one");
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"the real one");
    assert_eq!(client.generation(), 1);
}
