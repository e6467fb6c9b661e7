//! Events: kept in order, bounded by policy, never mistaken for an answer.

use std::time::{Duration, Instant};

use ringwire::{ErrorKind, EventPolicy, Kind};

use crate::WORK;
use crate::peer::{any, both_ways, client_and_peer, once};

const LONG: Option<Duration> = Some(Duration::from_secs(50));

#[test]
fn events_come_in_order_whenever_they_are_taken() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for round in 0..3_u8 {
                for number in 0..10 {
                    peer.event(number, &[round; 100]);
                }
                let asked = peer.next();
                peer.event(10, &[round; 80_000]);
                peer.respond(&asked, b"");
            }
            peer.see_end();
        },
        |mut client| {
            for round in 0..3_u8 {
                if round == 1 {
                    assert_eq!(client.next_event(LONG).unwrap().unwrap().message_type(), 0);
                }
                client.call(WORK, b"").unwrap();
                for number in u16::from(round == 1)..11 {
                    let event = client.next_event(LONG).unwrap().unwrap();
                    assert_eq!(event.message_type(), number);
                    assert_eq!(event.payload().read_at::<u8>(50), Some(round));
                    assert_eq!(event.to_vec().len(), if number < 10 { 100 } else { 80_000 });
                }
            }
            assert!(client.try_event().unwrap().is_none());
            assert_eq!(client.events_dropped(), 0);
        },
    );
}

#[test]
fn a_wait_for_an_event_keeps_answers_and_ends_in_time() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = peer.next();
            peer.respond(&asked, b"meanwhile");
            peer.event(3, &[7; 90_000]);
            peer.see_end();
        },
        |mut client| {
            let ticket = client.submit(WORK, b"").unwrap();
            assert_eq!(client.next_event(LONG).unwrap().unwrap().to_vec(), [7; 90_000]);
            let started = Instant::now();
            assert!(client.next_event(Some(Duration::from_millis(20))).unwrap().is_none());
            assert!(started.elapsed() >= Duration::from_millis(20));
            assert_eq!(client.collect(ticket).unwrap().to_vec(), b"meanwhile");
        },
    );
}

#[test]
fn the_oldest_events_make_room_and_are_counted() {
    both_ways(
        |builder| builder.events_capacity(4).event_policy(EventPolicy::DropOldest),
        |mut peer| {
            let asked = peer.next();
            for number in 0..100 {
                peer.event(number, b"");
            }
            peer.respond(&asked, b"");
            peer.see_end();
        },
        |mut client| {
            client.call(WORK, b"").unwrap();
            assert_eq!(client.events_dropped(), 96);
            for number in 96..100 {
                assert_eq!(client.try_event().unwrap().unwrap().message_type(), number);
            }
            assert!(client.try_event().unwrap().is_none());
        },
    );
}

#[test]
fn events_that_wait_stay_in_the_ring_and_the_caller_is_told() {
    both_ways(
        |builder| builder.events_capacity(4),
        |mut peer| {
            let asked = peer.next();
            for number in 0..10 {
                peer.event(number, b"");
            }
            peer.respond(&asked, b"behind ten events");
            let asked = peer.next();
            assert_eq!(asked.header.kind, Kind::Event, "who notifies does not wait");
            peer.see_end();
        },
        |mut client| {
            let ticket = client.submit(WORK, b"").unwrap();
            client.notify(WORK, b"").unwrap();
            for taken in [0, 4] {
                let error = client.collect(ticket).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
                assert!(error.to_string().contains("4 events wait"), "{error}");
                for number in taken..taken + 4 {
                    assert_eq!(client.try_event().unwrap().unwrap().message_type(), number);
                }
            }
            assert_eq!(client.collect(ticket).unwrap().to_vec(), b"behind ten events");
            for number in 8..10 {
                assert_eq!(client.try_event().unwrap().unwrap().message_type(), number);
            }
            assert_eq!(client.events_dropped(), 0);
        },
    );
}

#[test]
fn too_many_events_end_a_connection_that_wants_that() {
    once(
        client_and_peer(any().events_capacity(4).event_policy(EventPolicy::Disconnect)),
        |mut peer| {
            let asked = peer.next();
            for number in 0..5 {
                peer.event(number, b"");
            }
            // Its caller is gone.
            let _ = peer.stream.send(asked.header, b"");
            peer.see_end();
        },
        |mut client| {
            let ticket = client.submit(WORK, b"").unwrap();
            assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::ResourceExhausted);
            for _ in 0..2 {
                let error = client.submit(WORK, b"").unwrap_err();
                assert!(error.to_string().contains("closed by its event policy"), "{error}");
            }
            assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::ResourceExhausted);
            for number in 0..4 {
                assert_eq!(client.next_event(LONG).unwrap().unwrap().message_type(), number, "kept");
            }
            assert_eq!(client.next_event(LONG).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        },
    );
}

#[test]
fn events_beyond_the_limit_are_counted_and_the_next_one_comes() {
    both_ways(
        |builder| builder.max_message_bytes(50_000),
        |mut peer| {
            let mut writer = peer.stream.write_message(ringwire::Header::new(Kind::Event, 1, 0));
            writer.write_piece(&[1; 200_000]).unwrap();
            writer.finish().unwrap();
            let mut writer = peer.stream.write_message(ringwire::Header::new(Kind::Event, 1, 0));
            writer.write_piece(&[1; 40_000]).unwrap();
            drop(writer);
            peer.event(2, b"next");
            peer.see_end();
        },
        |mut client| {
            let event = client.next_event(LONG).unwrap().unwrap();
            assert_eq!((event.message_type(), event.to_vec()), (2, b"next".to_vec()));
            drop(event);
            assert_eq!(client.events_dropped(), 1, "and one was given up by its sender");
        },
    );
}

#[test]
fn an_event_that_never_fits_is_counted_with_those_that_made_room_for_it() {
    both_ways(
        |builder| builder.max_message_bytes(1_000).event_policy(EventPolicy::DropOldest),
        |mut peer| {
            let asked = peer.next();
            peer.event(1, &[1; 900]);
            peer.event(2, &[2; 1_001]);
            peer.event(3, &[3; 900]);
            peer.respond(&asked, b"");
            peer.see_end();
        },
        |mut client| {
            client.call(WORK, b"").unwrap();
            assert_eq!(client.try_event().unwrap().unwrap().message_type(), 3);
            assert!(client.try_event().unwrap().is_none());
            assert_eq!(client.events_dropped(), 2);
        },
    );
}

#[test]
fn events_as_an_iterator_end_with_the_connection() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for number in 0..5 {
                peer.event(number, b"x");
            }
        },
        |mut client| {
            let events: Result<Vec<_>, _> = client.events().collect();
            assert_eq!(events.unwrap().len(), 5);
        },
    );
}
