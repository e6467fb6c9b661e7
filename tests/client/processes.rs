//! The same between two processes: traffic, and a death in the middle of it.

use std::path::PathBuf;
use std::time::Duration;

use ringwire::transport::WaitStrategy;
use ringwire::{Client, ErrorKind, Listener};

use crate::WORK;
use crate::common::{Second, Watchdog, assert_bytes, bytes, say, second, setting, told};
use crate::peer::Peer;
use crate::streams::{question, serve_streams};

const PATH: &str = "RINGWIRE_TEST_PATH";

fn accepted() -> Peer {
    let mut listener = Listener::bind(PathBuf::from(setting(PATH))).unwrap();
    say("listening");
    Peer::new(listener.accept().unwrap())
}

pub(crate) fn echo() {
    accepted().echo();
}

pub(crate) fn streams() {
    serve_streams(accepted());
}

/// Answers the first of three requests, begins the second answer, and is killed.
pub(crate) fn dies() {
    let mut peer = accepted();
    let asked = [peer.next(), peer.next(), peer.next()];
    peer.respond(&asked[0], b"before my death");
    let header = ringwire::Header::new(ringwire::Kind::Response, WORK, asked[1].header.correlation);
    let mut writer = peer.stream.write_message(header);
    writer.write_piece(b"half of it").unwrap();
    say("dying");
    told();
}

fn started(role: &str) -> (Second, Client, tempfile::TempDir) {
    started_with(role, WaitStrategy::default())
}

fn started_with(role: &str, strategy: WaitStrategy) -> (Second, Client, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let server = second(role, &[(PATH, path.to_str().unwrap())]);
    let client = Client::builder(&path)
        .wait_for_server(true)
        .timeout(Duration::from_secs(50))
        .strategy(strategy)
        .connect()
        .unwrap();
    (server, client, directory)
}

#[test]
fn calls_cross_between_processes() {
    let _watchdog = Watchdog::start();
    let (server, mut client, _directory) = started("echo");
    assert_eq!(client.server().credentials.pid, i32::try_from(server.id()).unwrap());
    for number in 0..20_000 {
        let sent = bytes(number, (number as usize * 7) % 2_000);
        assert_bytes(&client.call(WORK, &sent).unwrap().to_vec(), &sent, "call");
    }
    let large = bytes(1, 1 << 20);
    for window in 0..9 {
        let tickets: Vec<_> = (0..window).map(|_| client.submit(WORK, &large).unwrap()).collect();
        for ticket in tickets.into_iter().rev().take(window / 2) {
            assert_bytes(&client.collect(ticket).unwrap().to_vec(), &large, "pipelined");
        }
        while let Some((_, reply)) = client.collect_any().unwrap() {
            assert_eq!(reply.unwrap().len(), large.len());
        }
        client.ping().unwrap();
    }
    drop(client);
    server.join();
}

/// Also where the time is up in the very sleep in which it happened.
#[test]
fn a_death_is_told_and_not_the_deadline_that_passed_with_it() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce, WaitStrategy::SpinOnly] {
        let (mut server, mut client, _directory) = started_with("echo", strategy);
        client.call(WORK, b"alive").unwrap();
        server.kill();
        let error = client.request(WORK).deadline(Duration::from_millis(2)).call(b"dead").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied, "{strategy:?}: {error}");
        assert_eq!(client.call(WORK, b"dead").unwrap_err().kind(), ErrorKind::PeerDied);
    }
}

#[test]
fn streams_cross_between_processes() {
    let _watchdog = Watchdog::start();
    let (server, mut client, _directory) = started("streams");
    let mut items = client.call_streaming(WORK, &question(100_000, 32)).unwrap();
    let mut number = 0;
    while let Some(item) = items.next_item().unwrap() {
        assert_eq!(item.len(), 32);
        number += 1;
    }
    assert_eq!(number, 100_000);
    drop(items);
    drop(client);
    server.join();
}

#[test]
fn a_death_is_seen_from_every_call_and_what_came_before_it_is_there() {
    let _watchdog = Watchdog::start();
    let (mut server, mut client, _directory) = started("dies");
    let tickets = [0, 1, 2].map(|_| client.submit(WORK, b"").unwrap());
    while server.hear() != "dying" {}
    server.kill();
    for ticket in [tickets[1], tickets[2], tickets[1]] {
        assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::PeerDied);
    }
    assert_eq!(client.collect(tickets[0]).unwrap().to_vec(), b"before my death");
    for _ in 0..2 {
        assert_eq!(client.next_event(None).unwrap_err().kind(), ErrorKind::PeerDied);
        assert_eq!(client.call(WORK, b"").unwrap_err().kind(), ErrorKind::PeerDied);
        assert_eq!(client.ping().unwrap_err().kind(), ErrorKind::PeerDied);
    }
}
