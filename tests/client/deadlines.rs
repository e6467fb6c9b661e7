//! Deadlines: what travels with a request, and what becomes of answers that come late.

use std::thread;
use std::time::Duration;

use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::{ErrorKind, Kind};

use crate::WORK;
use crate::common::{self, assert_bytes, bytes};
use crate::peer::{any, both_ways, once, pair};

#[test]
fn a_deadline_travels_with_the_request_and_only_then() {
    both_ways(
        |builder| builder,
        |mut peer| {
            assert_eq!(peer.next().deadline_ns, None);
            let now_ns = Deadline::now_ns();
            for size in [3, 200_000] {
                let asked = peer.next();
                let deadline_ns = asked.deadline_ns.unwrap();
                assert!((now_ns..now_ns + 400_000_000_000).contains(&deadline_ns), "{deadline_ns} {now_ns}");
                assert_bytes(&asked.payload, &bytes(size, size as usize), "behind the deadline");
                peer.respond(&asked, b"yes");
            }
            let last = peer.next();
            assert_eq!((last.deadline_ns.is_some(), last.header.kind), (true, Kind::Event));
            peer.see_end();
        },
        |mut client| {
            client.notify(WORK, b"none").unwrap();
            client.set_call_timeout(Some(Duration::from_secs(300)));
            client.call(WORK, &bytes(3, 3)).unwrap();
            client.call(WORK, &bytes(200_000, 200_000)).unwrap();
            client.notify(WORK, b"with one").unwrap();
        },
    );
}

#[test]
fn a_late_answer_is_left_out_and_its_slot_is_taken_until_then() {
    both_ways(
        |builder| builder.call_timeout(Some(Duration::from_millis(20))),
        |mut peer| {
            let late = peer.next();
            let next = peer.next();
            assert_eq!(next.payload, b"wait for me");
            peer.respond(&late, &[1; 100_000]);
            peer.respond(&next, b"here");
            let last = peer.next();
            assert_eq!(last.header.correlation % 64, late.header.correlation % 64, "its slot is free again");
            peer.respond(&last, b"last");
            peer.see_end();
        },
        |mut client| {
            let error = client.call(WORK, b"never").unwrap_err();
            assert_eq!((error.kind(), client.in_flight()), (ErrorKind::TimedOut, 1));
            let call = client.request(WORK).deadline(Duration::from_secs(50));
            assert_eq!(call.call(b"wait for me").unwrap().to_vec(), b"here");
            assert_eq!(client.in_flight(), 0);
            client.set_call_timeout(None);
            assert_eq!(client.call(WORK, b"last").unwrap().to_vec(), b"last");
        },
    );
}

#[test]
fn calls_go_on_once_a_slow_server_has_answered_what_nobody_waits_for() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked: Vec<_> = (0..64).map(|_| peer.next()).collect();
            assert_eq!(peer.next().header.kind, Kind::Event, "all have been given up");
            for one in &asked {
                peer.respond(one, b"late");
            }
            peer.event(1, b"all answered");
            peer.echo();
        },
        |mut client| {
            for _ in 0..64 {
                let error = client.request(WORK).deadline(Duration::from_micros(100)).call(b"").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            }
            client.notify(WORK, b"go on").unwrap();
            common::wait_until(|| match client.call(WORK, b"on") {
                Ok(reply) => reply.to_vec() == b"on",
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
                    false
                }
            });
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_deadline_that_the_server_saw_first_is_the_same_to_the_caller() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for _ in 0..2 {
                let asked = peer.next();
                thread::sleep(Duration::from_millis(30));
                peer.fail(&asked, Status::DeadlineExceeded, "too late");
            }
            peer.see_end();
        },
        |mut client| {
            let ticket = client.request(WORK).deadline(Duration::from_millis(10)).submit(b"").unwrap();
            thread::sleep(Duration::from_millis(80));
            assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::TimedOut);
            let error = client.call(WORK, b"no deadline of its own").unwrap_err();
            assert_eq!(error.status(), Some(Status::DeadlineExceeded));
        },
    );
}

#[test]
fn a_deadline_in_the_middle_of_a_long_answer_loses_only_that_answer() {
    both_ways(
        |builder| builder,
        |mut peer| {
            let asked = peer.next();
            let header = ringwire::Header::new(Kind::Response, WORK, asked.header.correlation);
            let mut writer = peer.stream.write_message(header);
            writer.write_piece(&[1; 50_000]).unwrap();
            thread::sleep(Duration::from_millis(60));
            writer.write_piece(&[1; 50_000]).unwrap();
            writer.finish().unwrap();
            peer.echo();
        },
        |mut client| {
            let error = client.request(WORK).deadline(Duration::from_millis(30)).call(b"").unwrap_err();
            assert_eq!((error.kind(), client.in_flight()), (ErrorKind::TimedOut, 1));
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_request_given_up_half_sent_may_be_answered_or_not() {
    let (stream, peer) = pair(4 << 10);
    once(
        (any().over(stream), peer),
        |mut peer| {
            // Reads the request's beginning, then nothing until its caller has given up.
            let mut reader = peer.stream.read_message().unwrap();
            let header = reader.header();
            let mut ended = Ok(Some(0));
            reader.next_piece().unwrap();
            thread::sleep(Duration::from_millis(80));
            while let Ok(Some(_)) = ended {
                ended = reader.next_piece().map(|piece| piece.map(|piece| piece.len()));
            }
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Abandoned);
            drop(reader);
            let answer = ringwire::Header::new(Kind::Error, WORK, header.correlation);
            peer.stream.send(answer, &crate::peer::status_bytes(Status::Aborted, "half")).unwrap();
            peer.echo();
        },
        |mut client| {
            let call = client.request(WORK).deadline(Duration::from_millis(30));
            assert_eq!(call.call(&[1; 50_000]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(client.in_flight(), 0);
            for _ in 0..100 {
                assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            }
        },
    );
}

#[test]
fn a_deadline_may_be_a_point_in_time_and_a_message_may_have_one() {
    both_ways(
        |builder| builder.ring_bytes(16 << 10).strategy(ringwire::WaitStrategy::ParkAtOnce),
        |mut peer| {
            let asked = peer.next();
            let told = peer.next();
            assert_eq!((told.header.kind, told.header.correlation), (Kind::Event, 0));
            assert!(asked.deadline_ns.is_some() && told.deadline_ns > asked.deadline_ns);
            assert_eq!(told.payload, asked.deadline_ns.unwrap().to_ne_bytes());
            peer.respond(&asked, b"");
            peer.see_end();
        },
        |mut client| {
            let deadline = Deadline::after(Duration::from_secs(50));
            let ticket = client.request(WORK).deadline_at(deadline).submit(b"").unwrap();
            assert!(ticket.correlation() > 0);
            let call = client.request(WORK).deadline(Duration::from_secs(55));
            call.notify(&deadline.as_ns().to_ne_bytes()).unwrap();
            assert!(client.collect(ticket).unwrap().is_empty());
            let most = client.max_record_bytes();
            assert!((4 << 10..32 << 10).contains(&most), "{most}");
        },
    );
}
