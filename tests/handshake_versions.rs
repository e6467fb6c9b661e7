//! What released versions say in the handshake is understood by every later build. The bytes are kept here as they were;
//! they are never generated.
#![cfg(target_endian = "little")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

mod common;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use common::Watchdog;
use common::raw::{greet, read_hello, send_with_descriptors};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Ordering::Acquire, Word};
use ringwire::wire::{Answer, Status};
use ringwire::{Header, Kind, Listener, Stream};
use std::os::fd::AsRawFd;

/// A greeting of version 0.1.0 (protocol version 1) without features: rings of 64 KiB and 4 KiB, messages of up to 10 MiB.
const HELLO_0_1_0: &str = concat!(
    "72696e6777697265", // "ringwire"
    "30000000",         // 48 bytes
    "01000100",         // speaks versions 1 to 1
    "0000000000000000", // features
    "00000100",         // to the server: 65,536
    "00100000",         // to the client: 4,096
    "0000a00000000000", // longest message: 10,485,760
    "0000000000000000", // reserved
);

/// The welcome of version 0.1.0 for the same, up to the reason.
const WELCOME_0_1_0: &str = concat!(
    "72696e6777697265", // "ringwire"
    "f8000000",         // 248 bytes
    "00000000",         // welcome
    "01000100",         // version 1, and none older
    "00000000",         // no reason
    "0000000000000000", // features
    "00000100",         // to the server: 65,536
    "00100000",         // to the client: 4,096
    "0000a00000000000", // longest message: 10,485,760
);

/// What this build has that the greeting of 0.1.0 did not say: first fragments that tell a message's length.
const ADDED_FEATURES: u64 = 2;

/// Room for the reason in version 0.1.0.
const REASON_BYTES: usize = 200;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Greets a listener of this build; what comes back, and whether messages pass afterwards.
fn accepted_by_this_build(hello: &[u8]) -> (Answer, Vec<OwnedFd>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener = Listener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap();
        stream.send(Header::new(Kind::Event, 5, 6), b"welcome").unwrap();
        assert_eq!(stream.receive().unwrap().payload().to_vec(), b"thanks");
    });
    let mut socket = UnixStream::connect(path).unwrap();
    let (answer, descriptors) = greet(&mut socket, hello);
    assert_eq!(answer.status(), Status::Ok, "{}", answer.reason());
    assert_eq!(descriptors.len(), 1);
    let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes).unwrap();
    let segment = Segment::open(&descriptors[0], layout, SegmentOptions::default()).unwrap();
    let (to_client, to_server) = (segment.area(Direction::ToClient), segment.area(Direction::ToServer));
    // As version 1 lays records out.
    while to_client.word(0).load(Acquire) == 0 {
        thread::yield_now();
    }
    assert_eq!(to_client.word(0).load(Acquire), 16 + 7);
    assert_eq!(to_client.header(0), (u32::from_le_bytes([4, 0, 5, 0]), 6));
    let mut payload = [0; 7];
    to_client.copy_out(16, &mut payload);
    assert_eq!(&payload, b"welcome");
    to_server.put_header(0, u32::from_le_bytes([4, 0, 1, 0]), 0);
    to_server.copy_in(16, b"thanks");
    to_server.word(0).store(16 + 6, ringwire::sync::Ordering::Release);
    server.join().unwrap();
    (answer, descriptors)
}

#[test]
fn the_greeting_of_0_1_0_is_accepted() {
    let _watchdog = Watchdog::start();
    let hello = unhex(HELLO_0_1_0);
    assert_eq!(hello.len(), 48);
    let (answer, _) = accepted_by_this_build(&hello);
    assert_eq!((answer.to_server_bytes, answer.to_client_bytes), (65536, 4096));
    assert_eq!((answer.version, answer.features), (1, 0));
    assert_eq!(answer.max_message_bytes, 10 << 20);
}

#[test]
fn a_longer_greeting_of_a_later_version_that_still_speaks_ours_is_accepted() {
    let _watchdog = Watchdog::start();
    for surplus in [8, 32, 4096 - 48] {
        let mut hello = unhex(HELLO_0_1_0);
        hello[8..12].copy_from_slice(&(48 + surplus as u32).to_le_bytes());
        hello[14..16].copy_from_slice(&9u16.to_le_bytes());
        hello[16..24].fill(0xFF);
        hello[40..48].fill(0xAA);
        hello.extend(vec![0x55; surplus]);
        let (answer, _) = accepted_by_this_build(&hello);
        assert_eq!((answer.version, answer.features), (1, ADDED_FEATURES), "what both have");
    }
}

/// Connects with this build's client to a server that welcomes it with `answer`.
fn accepts(answer: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = thread::spawn(move || Stream::connect(path).unwrap());
    let (mut socket, _) = listener.accept().unwrap();
    read_hello(&mut socket);
    let layout = Layout::new(65536, 4096).unwrap();
    let (_segment, descriptor) = Segment::create(layout, SegmentOptions::default()).unwrap();
    // In two parts: the descriptor comes with the first.
    send_with_descriptors(&socket, &answer[..100], &[descriptor.as_raw_fd()]);
    socket.write_all(&answer[100..]).unwrap();
    assert_eq!(client.join().unwrap().max_record_bytes(), 65536 / 2 - 32);
}

#[test]
fn the_welcome_of_0_1_0_and_a_longer_one_of_a_later_server_are_accepted() {
    let _watchdog = Watchdog::start();
    let mut welcome = unhex(WELCOME_0_1_0);
    welcome.resize(48 + REASON_BYTES, 0);
    accepts(&welcome);
    welcome[8..12].copy_from_slice(&1000u32.to_le_bytes());
    welcome.resize(1000, 0x77);
    accepts(&welcome);
}

#[test]
fn this_build_greets_as_0_1_0_did_but_for_its_features_as_long_as_it_is_protocol_version_1() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client =
        thread::spawn(move || Stream::builder(path).ring_bytes_each(65536, 4096).connect().map(drop));
    let (mut socket, _) = listener.accept().unwrap();
    let mut found = [0; 48];
    std::io::Read::read_exact(&mut socket, &mut found).unwrap();
    let mut expected = unhex(HELLO_0_1_0);
    expected[16..24].copy_from_slice(&ADDED_FEATURES.to_le_bytes());
    assert_eq!(found.to_vec(), expected);
    drop(socket);
    assert!(client.join().unwrap().is_err());
}
