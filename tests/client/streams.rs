//! Streamed responses: to the end, stopped early, in pieces, cut short.

use std::time::Duration;

use ringwire::wire::Status;
use ringwire::{ErrorKind, Kind};

use crate::WORK;
use crate::common::{assert_bytes, bytes};
use crate::peer::{Peer, both_ways, status_bytes};

/// Streams as many items as asked, until it is told to stop; then goes on with the next request.
pub(crate) fn serve_streams(mut peer: Peer) {
    while let Ok(asked) = peer.try_next() {
        let [count, bytes_each] =
            [0, 8].map(|at| u64::from_ne_bytes(asked.payload[at..at + 8].try_into().unwrap()));
        let cancellations = peer.stream.cancellations();
        let mut sent = 0;
        while sent < count && !cancellations.of(asked.header.correlation).is_cancelled() {
            peer.item(&asked, &bytes(sent, bytes_each as usize));
            sent += 1;
        }
        peer.end(&asked, if sent < count { Status::Cancelled } else { Status::Ok });
    }
}

pub(crate) fn question(count: u64, bytes_each: u64) -> Vec<u8> {
    [count.to_ne_bytes(), bytes_each.to_ne_bytes()].concat()
}

#[test]
fn items_come_in_order_and_end() {
    both_ways(
        |builder| builder,
        serve_streams,
        |mut client| {
            for (count, size) in [(0, 1), (1, 0), (10_000, 32), (200, 20_000), (5, 200_000)] {
                let mut items = client.call_streaming(WORK, &question(count, size)).unwrap();
                let mut number = 0;
                while let Some(item) = items.next_item().unwrap() {
                    assert_bytes(&item.to_vec(), &bytes(number, size as usize), "item");
                    number += 1;
                }
                assert_eq!(number, count);
                assert!(items.next_item().unwrap().is_none(), "stays at its end");
                drop(items);
                let all: Result<Vec<_>, _> =
                    client.call_streaming(WORK, &question(3, size)).unwrap().collect();
                assert_eq!(all.unwrap().len(), 3);
                assert_eq!(client.in_flight(), 0);
            }
        },
    );
}

#[test]
fn who_stops_early_cancels_and_the_rest_is_left_out() {
    both_ways(
        |builder| builder,
        serve_streams,
        |mut client| {
            for size in [32, 100_000] {
                for taken in [0, 1, 7] {
                    let endless = client.call_streaming(WORK, &question(u64::MAX, size)).unwrap();
                    assert_eq!(endless.take(taken).filter(Result::is_ok).count(), taken);
                    assert_eq!(client.in_flight(), 1);
                    let items = client.call_streaming(WORK, &question(3, 8)).unwrap();
                    assert_eq!(items.filter(Result::is_ok).count(), 3);
                    assert_eq!(client.in_flight(), 0);
                }
            }
        },
    );
}

#[test]
fn a_stream_ends_with_a_status_or_is_one_response() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = peer.next();
            peer.item(&asked, b"one");
            peer.end(&asked, Status::DataLoss);
            let asked = peer.next();
            peer.fail(&asked, Status::Unimplemented, "no handler");
            let asked = peer.next();
            peer.respond(&asked, &[4; 60_000]);
            let asked = peer.next();
            peer.respond(&asked, b"whole");
            peer.see_end();
        },
        |mut client| {
            let mut items = client.call_streaming(WORK, b"").unwrap();
            assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"one");
            assert_eq!(items.next_item().unwrap_err().status(), Some(Status::DataLoss));
            assert!(items.next_item().unwrap().is_none());
            drop(items);
            let mut items = client.call_streaming(WORK, b"").unwrap();
            assert_eq!(items.next().unwrap().unwrap_err().to_string(), "no handler");
            assert!(items.next().is_none());
            drop(items);
            for expected in [vec![4; 60_000], b"whole".to_vec()] {
                let items: Result<Vec<_>, _> = client.call_streaming(WORK, b"").unwrap().collect();
                assert_eq!(items.unwrap(), [expected]);
            }
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_stream_has_one_deadline_and_items_one_limit() {
    both_ways(
        |builder| builder.max_message_bytes(50_000),
        |mut peer| {
            let asked = peer.next();
            assert!(asked.deadline_ns.is_some());
            peer.item(&asked, b"in time");
            let next = peer.next();
            assert_eq!(next.deadline_ns, None);
            peer.end(&asked, Status::DeadlineExceeded);
            let header = ringwire::Header::new(Kind::StreamItem, WORK, next.header.correlation);
            let mut writer = peer.stream.write_message(header);
            writer.write_piece(&[1; 80_000]).unwrap();
            writer.finish().unwrap();
            peer.end(&next, Status::Ok);
            peer.echo();
        },
        |mut client| {
            client.set_call_timeout(Some(Duration::from_secs(40)));
            let call = client.request(WORK).deadline(Duration::from_millis(30));
            let mut items = call.call_streaming(b"").unwrap();
            assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"in time");
            assert_eq!(items.next_item().unwrap_err().kind(), ErrorKind::TimedOut);
            drop(items);
            assert_eq!(client.in_flight(), 1);
            let mut items = client.call_streaming(WORK, b"").unwrap();
            assert_eq!(items.next_item().unwrap_err().kind(), ErrorKind::MessageTooLarge);
            drop(items);
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn other_answers_and_events_are_kept_during_a_stream() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let other = peer.next();
            let asked = peer.next();
            peer.item(&asked, b"one");
            peer.event(9, b"event");
            peer.respond(&other, &[5; 70_000]);
            peer.item(&asked, b"two");
            peer.end(&asked, Status::Ok);
            peer.see_end();
        },
        |mut client| {
            let ticket = client.submit(WORK + 1, b"").unwrap();
            let items: Result<Vec<_>, _> = client.call_streaming(WORK, b"").unwrap().collect();
            assert_eq!(items.unwrap(), [b"one", b"two"]);
            assert_eq!(client.collect(ticket).unwrap().to_vec(), [5; 70_000]);
            assert_eq!(client.try_event().unwrap().unwrap().to_vec(), b"event");
        },
    );
}

#[test]
fn items_that_come_while_the_request_is_still_being_sent_are_not_lost() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for item_bytes in [0, 300, 9_000, 60_000] {
                // A handler that answers each piece of its request before it reads the next.
                let (sender, receiver) = peer.stream.halves();
                let mut reader = receiver.read_message().unwrap();
                let asked = reader.header();
                let item = ringwire::Header::new(Kind::StreamItem, WORK, asked.correlation);
                let mut count = 0;
                while reader.next_piece().unwrap().is_some() {
                    sender.send(item, &bytes(count, item_bytes)).unwrap();
                    count += 1;
                }
                drop(reader);
                assert!(count > 20, "{count}");
                sender.send(item, &count.to_ne_bytes()).unwrap();
                let end = ringwire::Header::new(Kind::StreamEnd, WORK, asked.correlation);
                sender.send(end, &status_bytes(Status::Ok, "")).unwrap();
            }
            peer.echo();
        },
        |mut client| {
            for item_bytes in [0, 300, 9_000, 60_000] {
                let items = client.call_streaming(WORK, &vec![7; 1 << 20]).unwrap();
                let mut items: Vec<_> = items.collect::<Result<_, _>>().unwrap();
                let count = items.pop().unwrap();
                assert_eq!(count, (items.len() as u64).to_ne_bytes());
                for (number, item) in items.iter().enumerate() {
                    assert_bytes(item, &bytes(number as u64, item_bytes), "an early item");
                }
            }
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_stream_of_early_items_has_bounds_too() {
    both_ways(
        |builder| builder.max_message_bytes(100_000),
        |mut peer| {
            for (count, item_bytes) in [(1, 30_000), (3_000, 0)] {
                let (sender, receiver) = peer.stream.halves();
                let mut reader = receiver.read_message().unwrap();
                let asked = reader.header();
                let item = ringwire::Header::new(Kind::StreamItem, WORK, asked.correlation);
                while let Ok(Some(_)) = reader.next_piece() {
                    for _ in 0..count {
                        sender.send(item, &vec![1; item_bytes]).unwrap();
                    }
                }
                drop(reader);
                let end = ringwire::Header::new(Kind::StreamEnd, WORK, asked.correlation);
                sender.send(end, &status_bytes(Status::Aborted, "half a request")).unwrap();
            }
            peer.echo();
        },
        |mut client| {
            for _ in 0..2 {
                let error = client.call_streaming(WORK, &vec![7; 1 << 20]).unwrap_err();
                assert_eq!((error.kind(), client.in_flight()), (ErrorKind::ResourceExhausted, 0));
            }
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
        },
    );
}

#[test]
fn an_early_item_beyond_the_limit_is_an_error_behind_those_before_it() {
    both_ways(
        |builder| builder.max_message_bytes(100_000),
        |mut peer| {
            let (sender, receiver) = peer.stream.halves();
            let mut reader = receiver.read_message().unwrap();
            let asked = reader.header();
            reader.next_piece().unwrap();
            let item = ringwire::Header::new(Kind::StreamItem, WORK, asked.correlation);
            sender.send(item, b"early").unwrap();
            let mut writer = sender.write_message(item);
            writer.write_piece(&[1; 200_000]).unwrap();
            writer.finish().unwrap();
            while reader.next_piece().unwrap().is_some() {}
            drop(reader);
            let end = ringwire::Header::new(Kind::StreamEnd, WORK, asked.correlation);
            sender.send(end, &status_bytes(Status::Ok, "")).unwrap();
            peer.echo();
        },
        |mut client| {
            let mut items = client.call_streaming(WORK, &vec![7; 1 << 20]).unwrap();
            assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"early");
            assert_eq!(items.next_item().unwrap_err().kind(), ErrorKind::MessageTooLarge);
            assert!(items.next_item().unwrap().is_none());
            drop(items);
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_forgotten_stream_is_skipped() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = peer.next();
            peer.item(&asked, b"one");
            peer.item(&asked, &[1; 70_000]);
            peer.end(&asked, Status::Ok);
            peer.echo();
        },
        |mut client| {
            std::mem::forget(client.call_streaming(WORK, b"").unwrap());
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert!(client.collect_any().unwrap().is_none());
            assert_eq!(client.in_flight(), 0);
        },
    );
}
