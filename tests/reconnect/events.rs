//! Events and streams, across connections.

use std::time::Duration;

use ringwire::ErrorKind;

use crate::common::Watchdog;
use crate::{LONG, WORK, accepting, client, path};

const FILE: u16 = 3;

#[test]
fn between_the_events_of_two_connections_the_loss_is_told_once() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, 3, |number, mut peer| {
        let asked = peer.next();
        for event in 0..3 {
            peer.event(FILE, format!("{number}.{event}").as_bytes());
        }
        peer.respond(&asked, b"done");
        if number == 3 {
            peer.see_end();
        }
    });
    let mut client = client(&path).build();
    client.call(WORK, b"").unwrap();
    let mut heard = Vec::new();
    for number in 1..=3 {
        for _ in 0..3 {
            heard.push(client.next_event(Some(LONG)).unwrap().unwrap().to_vec());
        }
        if number < 3 {
            let error = client.next_event(Some(LONG)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
            client.call(WORK, b"").unwrap();
        }
    }
    let expected: Vec<_> = (0..9).map(|at| format!("{}.{}", at / 3 + 1, at % 3).into_bytes()).collect();
    assert_eq!(heard, expected);
    assert!(client.next_event(Some(Duration::from_millis(5))).unwrap().is_none());
    assert!(client.try_event().unwrap().is_none());
    assert_eq!(client.events_dropped(), 0);
    drop(client);
    serving.join().unwrap();
}

#[test]
fn events_that_had_arrived_are_not_lost_when_a_call_finds_the_loss() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, 2, |number, mut peer| {
        let asked = peer.next();
        peer.event(FILE, format!("{number}").as_bytes());
        peer.respond(&asked, b"done");
        if number == 2 {
            peer.see_end();
        }
    });
    let mut client = client(&path).build();
    client.call(WORK, b"").unwrap();
    std::thread::sleep(Duration::from_millis(15));
    client.call_idempotent(WORK, b"").unwrap();
    assert_eq!(client.generation(), 2);
    let mut events = client.events();
    assert_eq!(events.next().unwrap().unwrap(), (FILE, b"1".to_vec()));
    assert_eq!(events.next().unwrap().unwrap_err().kind(), ErrorKind::ConnectionLost);
    assert_eq!(events.next().unwrap().unwrap(), (FILE, b"2".to_vec()));
    drop(client);
    serving.join().unwrap();
}

#[test]
fn a_stream_that_breaks_ends_with_the_loss_and_the_next_one_is_whole() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, 2, |number, mut peer| {
        let asked = peer.next();
        peer.item(&asked, b"fn");
        peer.item(&asked, b"main");
        if number == 2 {
            peer.end(&asked, ringwire::wire::Status::Ok);
            peer.see_end();
        }
    });
    let mut client = client(&path).build();
    let mut items = client.call_streaming(WORK, b"").unwrap();
    assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"fn");
    assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"main");
    let error = items.next_item().unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(true)));
    assert!(items.next_item().unwrap().is_none(), "behind an error comes nothing");
    drop(items);
    let items: Result<Vec<_>, _> = client.request(WORK).call_streaming(b"").unwrap().collect();
    assert_eq!(items.unwrap(), [b"fn".to_vec(), b"main".to_vec()]);
    drop(client);
    serving.join().unwrap();
}
