//! Pipelining: any order, a full window, full rings, a full store.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use ringwire::wire::Status;
use ringwire::{ErrorKind, Kind, Ticket};

use crate::WORK;
use crate::common::{Random, assert_bytes, bytes};
use crate::peer::{Asked, Peer, any, both_ways, client_and_peer, once, pair};

/// Takes `count` requests before it answers the first.
fn gather(peer: &mut Peer, count: usize) -> Vec<Asked> {
    (0..count).map(|_| peer.next()).collect()
}

fn answer_to(asked: &Asked) -> Vec<u8> {
    let number = u64::from_ne_bytes(asked.payload[..8].try_into().unwrap());
    response(number)
}

fn response(number: u64) -> Vec<u8> {
    // Small, large, and in fragments.
    bytes(number, [10, 3_000, 90_000][number as usize % 3])
}

#[test]
fn answers_come_in_any_order_and_are_collected_in_any_other() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let mut random = Random(5);
            for _ in 0..4 {
                let mut asked = gather(&mut peer, 64);
                while !asked.is_empty() {
                    let one = asked.swap_remove(random.below(asked.len() as u64) as usize);
                    peer.respond(&one, &answer_to(&one));
                }
            }
            peer.see_end();
        },
        |mut client| {
            let mut random = Random(6);
            for round in 0..4_u64 {
                let mut tickets: Vec<(u64, Ticket)> = (round * 64..(round + 1) * 64)
                    .map(|number| (number, client.submit(WORK, &number.to_ne_bytes()).unwrap()))
                    .collect();
                assert_eq!(client.in_flight(), 64);
                let error = client.submit(WORK, b"one more").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
                while !tickets.is_empty() {
                    let (number, ticket) = tickets.swap_remove(random.below(tickets.len() as u64) as usize);
                    assert_bytes(&client.collect(ticket).unwrap().to_vec(), &response(number), "collected");
                    assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::InvalidInput);
                }
            }
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn any_answer_comes_with_its_ticket() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let mut asked = gather(&mut peer, 60);
            asked.reverse();
            for one in &asked {
                if one.payload[0] % 10 == 3 {
                    peer.fail(one, Status::NotFound, "not this one");
                } else {
                    peer.respond(one, &answer_to(one));
                }
            }
            peer.echo();
        },
        |mut client| {
            let mut numbers: HashMap<Ticket, u64> = (0..60_u64)
                .map(|number| (client.submit(WORK, &number.to_ne_bytes()).unwrap(), number))
                .collect();
            // Some answers are stored while a call waits for its own.
            assert_eq!(client.call(WORK, b"mine").unwrap().to_vec(), b"mine");
            while let Some((ticket, reply)) = client.collect_any().unwrap() {
                let number = numbers.remove(&ticket).unwrap();
                match reply {
                    Ok(reply) => assert_bytes(&reply.to_vec(), &response(number), "any"),
                    Err(error) => assert_eq!((error.status(), number % 10), (Some(Status::NotFound), 3)),
                }
            }
            assert_eq!((numbers.len(), client.in_flight()), (0, 0));
        },
    );
}

/// Some while a call waits for its own, the others when they are asked for.
#[test]
fn answers_come_out_in_the_order_in_which_they_arrived() {
    const REQUESTS: usize = 20;
    let order = || (0..REQUESTS).map(|place| place * 7 % REQUESTS);
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = gather(&mut peer, REQUESTS + 1);
            for (place, number) in order().enumerate() {
                if place == REQUESTS / 2 {
                    peer.respond(&asked[REQUESTS], b"mine");
                }
                peer.respond(&asked[number], b"");
            }
            peer.echo();
        },
        |mut client| {
            let tickets: Vec<_> = (0..REQUESTS).map(|_| client.submit(WORK, b"").unwrap()).collect();
            assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"mine");
            for number in order() {
                let (ticket, reply) = client.collect_any().unwrap().unwrap();
                assert_eq!((ticket, reply.unwrap().len()), (tickets[number], 0), "request {number}");
            }
            assert!(client.collect_any().unwrap().is_none());
        },
    );
}

#[test]
fn looking_for_an_answer_does_not_wait_for_it() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = gather(&mut peer, 3);
            for one in asked.iter().rev() {
                peer.respond(one, &one.payload);
            }
            peer.see_end();
        },
        |mut client| {
            let first = client.submit(WORK, &[1; 50_000]).unwrap();
            let second = client.submit(WORK, b"second").unwrap();
            assert!(client.try_collect(&first).unwrap().is_none());
            let _third = client.submit(WORK, b"third").unwrap();
            let mut looks = 0;
            while client.try_collect(&first).unwrap().is_none() {
                looks += 1;
                thread::sleep(Duration::from_millis(1));
                assert!(looks < 10_000);
            }
            assert_eq!(client.try_collect(&first).unwrap_err().kind(), ErrorKind::InvalidInput, "taken");
            assert_eq!(client.try_collect(&second).unwrap().unwrap().to_vec(), b"second");
        },
    );
}

#[test]
fn a_cancelled_request_is_answered_all_the_same_and_one_given_up_is_forgotten() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = gather(&mut peer, 3);
            let cancellations = peer.stream.cancellations();
            let is_cancelled = |asked: &Asked| cancellations.of(asked.header.correlation).is_cancelled();
            crate::common::wait_until(|| is_cancelled(&asked[1]) && is_cancelled(&asked[2]));
            assert!(!is_cancelled(&asked[0]));
            peer.respond(&asked[0], b"kept");
            peer.fail(&asked[1], Status::Cancelled, "as you like");
            peer.respond(&asked[2], b"too late");
            peer.echo();
        },
        |mut client| {
            let tickets: Vec<_> = (0..3).map(|_| client.submit(WORK, b"").unwrap()).collect();
            client.cancel(&tickets[1]).unwrap();
            client.give_up(tickets[2]).unwrap();
            assert_eq!(client.in_flight(), 3);
            assert_eq!(client.collect(tickets[1]).unwrap_err().status(), Some(Status::Cancelled));
            assert_eq!(client.collect(tickets[0]).unwrap().to_vec(), b"kept");
            assert_eq!(client.collect(tickets[2]).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(client.cancel(&tickets[0]).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn each_ticket_has_its_own_deadline() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = gather(&mut peer, 3);
            thread::sleep(Duration::from_millis(60));
            for one in &asked {
                peer.respond(one, b"late for some");
            }
            peer.echo();
        },
        |mut client| {
            let short = client.request(WORK).deadline(Duration::from_millis(20)).submit(b"").unwrap();
            let long = client.request(WORK).deadline(Duration::from_secs(50)).submit(b"").unwrap();
            let shorter = client.request(WORK).deadline(Duration::from_millis(10)).submit(b"").unwrap();
            let (ticket, reply) = client.collect_any().unwrap().unwrap();
            assert_eq!((ticket, reply.unwrap_err().kind()), (shorter, ErrorKind::TimedOut));
            assert_eq!(client.collect(short).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(client.collect(long).unwrap().to_vec(), b"late for some");
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn both_rings_full_do_not_wait_for_each_other() {
    let payload = bytes(1, 32 << 10);
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            let mut window = std::collections::VecDeque::new();
            for _ in 0..300 {
                if window.len() == 16 {
                    let oldest = window.pop_front().unwrap();
                    assert_bytes(&client.collect(oldest).unwrap().to_vec(), &payload, "echo");
                }
                window.push_back(client.submit(WORK, &payload).unwrap());
            }
            for ticket in window {
                assert_eq!(client.collect(ticket).unwrap().len(), payload.len());
            }
        },
    );
}

#[test]
fn a_long_answer_arrives_while_a_long_request_is_sent() {
    let (question, answer) = (bytes(1, 1 << 20), bytes(2, 1 << 20));
    both_ways(
        |builder| builder,
        |mut peer| {
            for _ in 0..5 {
                let asked = peer.next();
                // Nothing of the next request is read before all of this has gone.
                peer.say_strictly(Kind::Response, &asked, &answer);
                let asked = peer.next();
                assert_bytes(&asked.payload, &question, "the long request");
                for piece in answer.chunks(30_000) {
                    peer.say_strictly(Kind::StreamItem, &asked, piece);
                }
                peer.end(&asked, Status::Ok);
            }
            peer.see_end();
        },
        |mut client| {
            for _ in 0..5 {
                let short = client.submit(WORK, b"?").unwrap();
                let items = client.call_streaming(WORK, &question).unwrap();
                let pieces: Result<Vec<_>, _> = items.collect();
                assert_bytes(&pieces.unwrap().concat(), &answer, "the stream");
                assert_bytes(&client.collect(short).unwrap().to_vec(), &answer, "the long answer");
            }
        },
    );
}

#[test]
fn who_waits_for_room_behind_events_that_have_none_is_told() {
    let (stream, peer) = pair(4 << 10);
    once(
        (any().events_capacity(3).over(stream), peer),
        |mut peer| {
            let asked = peer.next();
            for _ in 0..10 {
                peer.event(1, &[0; 1_000]);
            }
            peer.respond(&asked, b"");
            peer.echo();
        },
        |mut client| {
            let first = client.submit(WORK, b"").unwrap();
            let mut tickets = Vec::new();
            let error = loop {
                match client.submit(WORK, &[1; 1_000]) {
                    Ok(ticket) => tickets.push(ticket),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
            for _ in 0..10 {
                assert_eq!(client.next_event(None).unwrap().unwrap().to_vec(), [0; 1_000]);
            }
            assert_eq!(client.collect(first).unwrap().len(), 0);
            for ticket in tickets {
                assert_eq!(client.collect(ticket).unwrap().len(), 1_000);
            }
        },
    );
}

#[test]
fn replies_that_nobody_collects_are_bounded_and_none_is_lost() {
    once(
        client_and_peer(any().max_message_bytes(100_000)),
        |mut peer| {
            for asked in gather(&mut peer, 5) {
                peer.respond(&asked, &bytes(u64::from(asked.payload[0]), 30_000));
            }
            peer.echo();
        },
        |mut client| {
            let tickets: Vec<_> = (0..5).map(|number| client.submit(WORK, &[number]).unwrap()).collect();
            // The last one's answer is behind four, of which only three have a place.
            let error = client.collect(tickets[4]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
            assert!(error.to_string().contains("90000 bytes of replies wait"), "{error}");
            let error = client.call(WORK, b"mine").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
            let error = client.try_collect(&tickets[4]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
            for number in [1, 0, 4, 2, 3] {
                let reply = client.collect(tickets[number]).unwrap().to_vec();
                assert_bytes(&reply, &bytes(number as u64, 30_000), "kept");
            }
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_full_store_refuses_what_would_need_more_of_it() {
    once(
        client_and_peer(any().max_message_bytes(60_000)),
        |mut peer| {
            for asked in gather(&mut peer, 2) {
                peer.respond(&asked, &[1; 30_000]);
            }
            for _ in 0..2 {
                let asked = peer.next();
                peer.respond(&asked, b"mine");
            }
            peer.see_end();
        },
        |mut client| {
            let tickets: Vec<_> = (0..2).map(|_| client.submit(WORK, b"").unwrap()).collect();
            assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"mine");
            let error = client.submit(WORK, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
            for ticket in tickets {
                assert_eq!(client.collect(ticket).unwrap().len(), 30_000);
            }
            assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"mine");
        },
    );
}

#[test]
fn a_wait_for_room_ends_with_the_deadline() {
    let (stream, peer) = pair(4 << 10);
    let mut client = any().over(stream);
    let mut sent = 0;
    let error = loop {
        match client.request(WORK).deadline(Duration::from_millis(20)).submit(&[0; 1_000]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), client.in_flight()), (ErrorKind::TimedOut, sent));
    drop(peer);
    assert_eq!(client.submit(WORK, &[0; 1_000]).unwrap_err().kind(), ErrorKind::PeerClosed);
}

#[test]
fn events_and_streams_between_answers_belong_to_nobody_elses() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = gather(&mut peer, 2);
            peer.event(3, b"first");
            peer.say(Kind::Response, &asked[1], &[2; 70_000]);
            peer.event(4, &[9; 70_000]);
            peer.respond(&asked[0], b"one");
            peer.see_end();
        },
        |mut client| {
            let one = client.submit(WORK, b"").unwrap();
            let two = client.submit(WORK + 1, b"").unwrap();
            assert_eq!(client.collect(one).unwrap().to_vec(), b"one");
            assert_eq!(client.collect(two).unwrap().to_vec(), [2; 70_000]);
            assert_eq!(client.try_event().unwrap().unwrap().to_vec(), b"first");
            let event = client.try_event().unwrap().unwrap();
            assert_eq!((event.message_type(), event.to_vec()), (4, vec![9; 70_000]));
        },
    );
}
