//! A connection whose peer breaks the protocol: it ends with an error that stays, and no other connection notices.

use std::thread;
use std::time::Duration;

use ringwire::ring::{CLOSED, PADDING};
use ringwire::sync::{Area, Ordering::Relaxed, Word};
use ringwire::{Error, ErrorKind, Header, Kind, Listener, Stream};

use super::common::Watchdog;
use super::common::raw::{ABANDONED, CONTINUED, MORE, RawPeer, RawWriter, raw_client, raw_server, tag};

const EVENT: Header = Header::new(Kind::Event, 1, 0);

fn listener(directory: &tempfile::TempDir) -> Listener {
    Listener::bind(directory.path().join("s.sock")).unwrap()
}

/// What the server says to what a raw client writes, and says again; then the raw client must be hung up on.
fn server_says(
    write: impl FnOnce(&mut RawWriter),
    mut take: impl FnMut(&mut Stream) -> Result<(), Error>,
) -> Error {
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, mut client) = raw_client(&mut listener(&directory), 4096);
    write(&mut client.writer());
    let error = loop {
        if let Err(error) = take(&mut stream) {
            break error;
        }
    };
    if error.kind() == ErrorKind::CorruptPeer {
        ends_for_good(&mut stream, &mut client);
    }
    error
}

fn ends_for_good(stream: &mut Stream, client: &mut RawPeer) {
    assert!(client.sees_the_end());
    // Making good what was broken heals nothing.
    client.out.word(0).store(0, Relaxed);
    for _ in 0..3 {
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
        assert_eq!(stream.receive_into(&mut Vec::new()).unwrap_err().kind(), ErrorKind::CorruptPeer);
        assert_eq!(stream.read_message().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
    }
    stream.set_send_timeout(Some(Duration::from_secs(30)));
    let refused = (0..1000).find_map(|_| stream.send(EVENT, &[0; 100]).err()).expect("sends end too");
    assert_eq!(refused.kind(), ErrorKind::CorruptPeer);
}

fn receive(stream: &mut Stream) -> Result<(), Error> {
    stream.receive().map(drop)
}

fn receive_into(stream: &mut Stream) -> Result<(), Error> {
    stream.receive_into(&mut Vec::new()).map(drop)
}

fn read_all(stream: &mut Stream) -> Result<(), Error> {
    let mut reader = stream.read_message()?;
    while reader.next_piece()?.is_some() {}
    Ok(())
}

fn skip(stream: &mut Stream) -> Result<(), Error> {
    stream.read_message().map(drop)
}

#[test]
fn every_broken_word_ends_the_connection_with_its_name() {
    let _watchdog = Watchdog::start();
    let cases: &[(u32, &str)] = &[
        (1, "record of 1 bytes at offset 0, expected 16 to 2032"),
        (2033, "record of 2033 bytes"),
        (CLOSED | 1, "record of 1073741825 bytes"),
        (PADDING | 4096, "padding of 4096 bytes at offset 0 of 4096"),
        (PADDING, "padding of 0 bytes"),
        (u32::MAX, "padding of 2147483647 bytes"),
    ];
    for (word, said) in cases {
        for take in [receive, receive_into, read_all, skip] {
            let error = server_says(|writer| writer.commit(*word), take);
            assert_eq!(error.kind(), ErrorKind::CorruptPeer);
            assert!(error.to_string().contains(said), "{error}");
            let pid = format!("process {} (uid ", std::process::id());
            assert!(error.to_string().starts_with(&pid), "{error}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }
    let error = server_says(|writer| writer.tagged(tag(77, 0), 0, &[]), receive);
    assert!(error.to_string().ends_with("record of unknown kind 77 (known: 1 to 10)"), "{error}");
}

#[test]
fn messages_before_the_broken_word_are_received() {
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, client) = raw_client(&mut listener(&directory), 4096);
    let mut writer = client.writer();
    for count in 0..5 {
        writer.record(0, count, &[count as u8; 20]);
    }
    writer.commit(5);
    for count in 0..5 {
        let message = stream.receive().unwrap();
        assert_eq!(
            (message.header().correlation, message.payload().to_vec()),
            (count, vec![count as u8; 20])
        );
    }
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
}

#[test]
fn fragments_out_of_order_end_the_connection() {
    let _watchdog = Watchdog::start();
    // Flags and correlation of each record.
    let cases: &[&[(u8, u64)]] = &[
        &[(CONTINUED, 1)],
        &[(CONTINUED | MORE, 1)],
        &[(CONTINUED | ABANDONED, 1)],
        &[(MORE, 1), (0, 1)],
        &[(MORE, 1), (MORE, 1)],
        &[(MORE, 1), (CONTINUED, 2)],
        &[(MORE, 1), (CONTINUED | MORE, 1), (CONTINUED | ABANDONED, 2)],
        &[(0, 1), (CONTINUED, 1)],
        &[(MORE, 1), (CONTINUED, 1), (CONTINUED, 1)],
    ];
    for case in cases {
        let write = |writer: &mut RawWriter| {
            for (flags, correlation) in *case {
                writer.record(*flags, *correlation, b"piece");
            }
            // Something good behind it, so that nobody waits.
            writer.record(0, 9, b"");
        };
        for take in [receive_into, read_all, skip] {
            let error = server_says(write, take);
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{case:?}");
            assert!(error.to_string().contains("fragment out of order"), "{error}");
        }
    }
}

#[test]
fn fragments_of_another_type_or_kind_do_not_continue_a_message() {
    for other in [tag(Kind::Request as u8, CONTINUED), tag(Kind::Event as u8, CONTINUED) | 0x0100_0000] {
        let write = |writer: &mut RawWriter| {
            writer.record(MORE, 1, b"a");
            writer.tagged(other, 1, b"b");
        };
        assert_eq!(server_says(write, receive_into).kind(), ErrorKind::CorruptPeer);
    }
}

#[test]
fn a_broken_read_position_ends_the_connection() {
    let _watchdog = Watchdog::start();
    for head in [2, 4, 0x8000_0000, 4096, u32::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let (mut stream, mut client) = raw_client(&mut listener(&directory), 4096);
        client.back.head().store(head, Relaxed);
        let error = (0..1000).find_map(|_| stream.send(EVENT, &[0; 100]).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{head:#x}");
        assert!(error.to_string().contains("read position"), "{error}");
        assert!(client.sees_the_end());
        client.back.head().store(0, Relaxed);
        for _ in 0..3 {
            assert_eq!(stream.send(EVENT, &[]).unwrap_err().kind(), ErrorKind::CorruptPeer);
            assert_eq!(stream.reserve(EVENT, 1).map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
        }
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
    }
}

#[test]
fn a_hostile_server_ends_its_client_s_connection_the_same_way() {
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, mut server) = raw_server(&directory.path().join("raw.sock"), 4096);
    server.writer().commit(3);
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
    assert!(server.sees_the_end());
}

#[test]
fn a_hostile_connection_leaves_its_neighbours_alone() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let mut listener = listener(&directory);
    let (mut broken, client) = raw_client(&mut listener, 4096);
    let path = listener.path().to_owned();
    let echo = thread::spawn(move || {
        let mut good = Stream::connect(path).unwrap();
        for count in 0..500u64 {
            good.send(Header::new(Kind::Request, 1, count), &[7; 300]).unwrap();
            assert_eq!(good.receive().unwrap().header().correlation, count);
        }
    });
    let mut good = listener.accept().unwrap();
    for count in 0..500u64 {
        if count == 100 {
            client.writer().commit(7);
            assert_eq!(broken.receive().map(drop).unwrap_err().kind(), ErrorKind::CorruptPeer);
        }
        assert_eq!(good.receive().unwrap().payload().to_vec(), [7; 300]);
        good.send(Header::new(Kind::Response, 1, count), &[]).unwrap();
    }
    echo.join().unwrap();
    assert_eq!(listener.connections(), 2);
    drop(broken);
    assert_eq!(listener.connections(), 1);
}

#[test]
fn bytes_and_descriptors_on_the_lifeline_are_taken_in_and_mean_nothing() {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, client) = raw_client(&mut listener(&directory), 4096);
    (&client.lifeline).write_all(&[9; 5000]).unwrap();
    let before = super::common::descriptors(std::process::id());
    for _ in 0..20 {
        super::common::raw::send_with_descriptors(&client.lifeline, b"x", &[client.lifeline.as_raw_fd()]);
    }
    stream.set_receive_timeout(Some(Duration::from_millis(100)));
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
    // Other tests of this process come and go, but nothing like twenty descriptors stays.
    assert!(super::common::comes_true(Duration::from_secs(20), || {
        super::common::descriptors(std::process::id()) < before + 20
    }));
    client.writer().record(0, 4, b"still there");
    assert_eq!(stream.receive().unwrap().payload().to_vec(), b"still there");
}

#[test]
fn a_peer_that_sends_its_own_end_of_the_lifeline_along_is_seen_to_die_by_a_parked_reader() {
    use std::os::fd::AsRawFd;
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, client) = raw_client(&mut listener(&directory), 4096);
    stream.set_wait_strategy(ringwire::WaitStrategy::ParkAtOnce);
    // The message holds the sender's end open until somebody takes it in.
    super::common::raw::send_with_descriptors(&client.lifeline, b"x", &[client.lifeline.as_raw_fd(); 3]);
    drop(client);
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
}
