//! How connections end: goodbye, close, and a peer that breaks the protocol.

use std::time::Duration;

use ringwire::wire::Status;
use ringwire::{ErrorKind, Header, Kind};

use crate::WORK;
use crate::common::{Random, Watchdog};
use crate::peer::{Asked, Peer, any, both_ways, client_and_peer, once, pair};

#[test]
fn behind_a_goodbye_nothing_new_is_asked_and_what_was_accepted_is_answered() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = [peer.next(), peer.next()];
            peer.goodbye();
            for one in &asked {
                peer.respond(one, &[1; 40_000]);
            }
            peer.event(1, b"last words");
        },
        |mut client| {
            let tickets = [0, 1].map(|_| client.submit(WORK, b"").unwrap());
            assert_eq!(client.collect(tickets[1]).unwrap().len(), 40_000);
            let error = client.call(WORK, b"").unwrap_err();
            assert_eq!(error.status(), Some(Status::Unavailable));
            assert!(error.to_string().contains("shutting down"), "{error}");
            assert!(error.is_retryable());
            assert_eq!(client.notify(WORK, b"").unwrap_err().status(), Some(Status::Unavailable));
            assert_eq!(client.collect(tickets[0]).unwrap().len(), 40_000);
            assert_eq!(client.next_event(None).unwrap().unwrap().to_vec(), b"last words");
            assert_eq!(client.next_event(None).unwrap_err().kind(), ErrorKind::PeerClosed);
            assert_eq!(client.call(WORK, b"").unwrap_err().kind(), ErrorKind::PeerClosed);
        },
    );
}

#[test]
fn answers_before_a_close_are_there_and_the_others_are_not() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = [peer.next(), peer.next(), peer.next()];
            peer.respond(&asked[2], &[3; 60_000]);
        },
        |mut client| {
            let tickets = [0, 1, 2].map(|_| client.submit(WORK, b"").unwrap());
            for _ in 0..2 {
                assert_eq!(client.collect(tickets[0]).unwrap_err().kind(), ErrorKind::PeerClosed);
            }
            assert_eq!(client.try_collect(&tickets[1]).unwrap_err().kind(), ErrorKind::PeerClosed);
            assert_eq!(client.collect_any().unwrap().unwrap().1.unwrap().len(), 60_000);
            assert_eq!(client.collect_any().unwrap_err().kind(), ErrorKind::PeerClosed);
            let error = client.submit(WORK, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerClosed);
        },
    );
}

/// The peer answers one request with `wrong`; every later call fails.
#[track_caller]
fn breaks(what: &str, wrong: impl Fn(&mut Peer, &Asked) + Sync) {
    once(
        client_and_peer(any()),
        |mut peer| {
            let asked = peer.next();
            wrong(&mut peer, &asked);
            let _ = peer.stream.receive();
        },
        |mut client| {
            let error = client.call(WORK, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{what}: {error}");
            let error = client.call(WORK, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{what}, again: {error}");
            assert_eq!(client.next_event(None).unwrap_err().kind(), ErrorKind::CorruptPeer, "{what}");
        },
    );
}

fn send(peer: &mut Peer, kind: Kind, message_type: u16, correlation: u64) {
    peer.stream.send(Header::new(kind, message_type, correlation), b"payload").unwrap();
}

#[test]
fn an_answer_that_no_request_waits_for_breaks_the_protocol() {
    for offset in [1, 64, 1 << 32, u64::MAX] {
        for kind in [Kind::Response, Kind::Error, Kind::StreamItem, Kind::StreamEnd, Kind::Pong] {
            breaks("another correlation", |peer, asked| {
                send(peer, kind, WORK, asked.header.correlation.wrapping_add(offset));
            });
        }
    }
    breaks("correlation 0", |peer, _| send(peer, Kind::Response, WORK, 0));
    breaks("another type", |peer, asked| send(peer, Kind::Response, WORK + 1, asked.header.correlation));
    breaks("a pong", |peer, asked| send(peer, Kind::Pong, WORK, asked.header.correlation));
    breaks("in fragments", |peer, asked| {
        let header = Header::new(Kind::Response, WORK, asked.header.correlation + 64);
        // It is not read to its end.
        let _ = peer.stream.send(header, &[0; 100_000]);
    });
    breaks("extended", |peer, asked| {
        let header = Header::new(Kind::Response, WORK, asked.header.correlation).extended();
        peer.stream.send(header, b"deadline").unwrap();
    });
}

#[test]
fn what_only_a_client_says_breaks_the_protocol() {
    for kind in [Kind::Request, Kind::Cancel, Kind::Ping] {
        breaks("not a server's", |peer, asked| send(peer, kind, WORK, asked.header.correlation));
    }
    breaks("a goodbye in fragments", |peer, _| {
        let _ = peer.stream.send(Header::new(Kind::Goodbye, 0, 0), &[0; 100_000]);
    });
}

#[test]
fn an_answer_given_twice_breaks_the_protocol() {
    once(
        client_and_peer(any()),
        |mut peer| {
            let asked = peer.next();
            peer.respond(&asked, b"once");
            peer.respond(&asked, b"twice");
            let _ = peer.stream.receive();
        },
        |mut client| {
            assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"once");
            let error = client.call(WORK, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptPeer);
        },
    );
}

#[test]
fn a_broken_protocol_is_seen_by_who_waits_for_room() {
    let (stream, peer) = pair(4 << 10);
    once(
        (any().over(stream), peer),
        |mut peer| {
            let asked = peer.next();
            send(&mut peer, Kind::Response, WORK, asked.header.correlation + 640);
            std::thread::sleep(Duration::from_millis(20));
            // Too late to make room.
            let _ = peer.try_next();
        },
        |mut client| {
            let error = loop {
                match client.submit(WORK, &[0; 1_000]) {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{error}");
            assert_eq!(client.ping().unwrap_err().kind(), ErrorKind::CorruptPeer);
        },
    );
}

#[test]
fn a_ping_is_answered_by_a_pong_alone() {
    once(
        client_and_peer(any()),
        |mut peer| {
            let asked = peer.next();
            assert_eq!(asked.header.kind, Kind::Ping);
            peer.respond(&asked, b"");
            let _ = peer.stream.receive();
        },
        |mut client| assert_eq!(client.ping().unwrap_err().kind(), ErrorKind::CorruptPeer),
    );
}

#[test]
fn garbled_statuses_are_statuses() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for garbled in [&[][..], &[1, 2, 3], &[0xFF; 3_000], &[0xFF; 100_000]] {
                let asked = peer.next();
                peer.say(Kind::Error, &asked, garbled);
            }
            peer.echo();
        },
        |mut client| {
            for _ in 0..4 {
                assert_eq!(client.call(WORK, b"").unwrap_err().status(), Some(Status::Unknown));
            }
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
        },
    );
}

/// Whatever a server says, every call ends by its deadline, with an answer or an error.
#[test]
fn nonsense_ends_no_more_than_the_connection() {
    let _watchdog = Watchdog::start();
    for seed in 1..150 {
        let (mut client, peer) = client_and_peer(any().max_message_bytes(50_000).events_capacity(4));
        std::thread::scope(|scope| {
            scope.spawn(|| babble(peer, Random(seed)));
            let mut random = Random(seed + 1_000_000);
            let mut tickets = Vec::new();
            for _ in 0..60 {
                let call = client.request(WORK).deadline(Duration::from_micros(random.below(500)));
                let ended = match random.below(7) {
                    0 => call.call(b"").map(drop),
                    1 => call.call_into(b"", &mut Vec::new()).map(drop),
                    2 => call.submit(b"").map(|ticket| tickets.push(ticket)),
                    3 => call.call_streaming(b"").map(|items| items.take(3).for_each(drop)),
                    4 => client.try_event().map(drop),
                    5 => tickets.pop().map_or(Ok(()), |ticket| client.collect(ticket).map(drop)),
                    _ => client.next_event(Some(Duration::from_micros(100))).map(drop),
                };
                if ended.is_err_and(|error| error.kind() == ErrorKind::CorruptPeer) {
                    break;
                }
            }
        });
    }
}

/// Says anything, often about requests that there are, sometimes in fragments or half.
fn babble(mut peer: Peer, mut random: Random) {
    const KINDS: [Kind; 9] = [
        Kind::Response,
        Kind::Error,
        Kind::StreamItem,
        Kind::StreamEnd,
        Kind::Pong,
        Kind::Goodbye,
        Kind::Event,
        Kind::Ping,
        Kind::Response,
    ];
    let mut seen = vec![64];
    peer.stream.set_receive_timeout(Some(Duration::from_micros(100)));
    peer.stream.set_send_timeout(Some(Duration::from_millis(1)));
    // Mostly what could be right, so that much of it is taken for that.
    let likely = random.below(10) > 0;
    for _ in 0..80 {
        if let Ok(asked) = peer.try_next() {
            seen.push(asked.header.correlation);
        }
        let kinds = if likely { 4 } else { KINDS.len() as u64 };
        let kind = if random.below(4) == 0 { Kind::Event } else { KINDS[random.below(kinds) as usize] };
        let at = random.below(seen.len() as u64) as usize;
        let correlation = if likely { seen.swap_remove(at) } else { seen[at] + random.below(2) };
        if seen.is_empty() {
            seen.push(correlation);
        }
        let header = Header::new(kind, WORK, correlation);
        let bytes = [0, 8, 500, 70_000][random.below(4) as usize];
        let mut writer = peer.stream.write_message(header);
        if writer.write_piece(&vec![0; bytes]).is_err() || random.below(10) == 0 {
            continue;
        }
        let _ = writer.finish();
    }
}
