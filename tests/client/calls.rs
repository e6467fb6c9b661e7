//! Calls: what comes back, what does not, and what does not matter.

use std::thread;
use std::time::Duration;

use ringwire::client::{ECHO, PING};
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::{ErrorKind, Kind, PeerPolicy};

use crate::WORK;
use crate::common::{self, assert_bytes, bytes};
use crate::peer::{Peer, any, both_ways, client_and_peer, once, pair};

const SIZES: [usize; 9] = [0, 1, 8, 63, 64, 1_000, 30_000, 100_000, 3_000_000];

#[test]
fn each_form_of_a_call_brings_back_what_was_sent() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            let mut buffer = Vec::new();
            for (number, size) in SIZES.into_iter().enumerate() {
                let sent = bytes(number as u64, size);
                assert_bytes(&client.call(WORK, &sent).unwrap().to_vec(), &sent, "call");
                assert_eq!(client.call_into(WORK, &sent, &mut buffer).unwrap(), size);
                assert_bytes(&buffer, &sent, "call_into");
                let ticket = client.submit(ECHO, &sent).unwrap();
                assert_bytes(&client.collect(ticket).unwrap().to_vec(), &sent, "collect");
                let long = Duration::from_secs(50);
                let reply = client.request(WORK).deadline(long).call(&sent).unwrap();
                assert_eq!(reply.len(), size);
                assert_bytes(&reply.to_vec(), &sent, "with a deadline");
            }
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_request_is_written_and_a_response_read_in_place_whatever_the_deadline() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for _ in 0..2 {
                let asked = peer.next();
                assert_eq!(asked.payload, 5_u64.to_ne_bytes().repeat(4));
                peer.respond(&asked, &asked.payload[..16]);
            }
            peer.see_end();
        },
        |mut client| {
            for deadline in [false, true] {
                let call = client.request(WORK);
                let call = if deadline { call.deadline(Duration::from_secs(50)) } else { call };
                let sum = call.call_with(
                    100,
                    |slot| {
                        assert_eq!((slot.capacity(), slot.written()), (100, 0));
                        assert_eq!(slot.write_words(4, || 5), 4);
                        assert_eq!(slot.remaining(), 68);
                    },
                    |payload| {
                        let mut sum = 0;
                        payload.take_words(|word| sum += word);
                        sum
                    },
                );
                assert_eq!(sum.unwrap(), 10);
            }
            assert!(client.call_with(WORK, 1 << 20, |_| (), |_| ()).is_err(), "not one record");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

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
fn a_status_is_an_error_with_its_words_and_the_connection_goes_on() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for text in ["no such file", &"x".repeat(2_000)] {
                let asked = peer.next();
                peer.fail(&asked, Status::NotFound, text);
            }
            peer.echo();
        },
        |mut client| {
            let error = client.call(WORK, b"").unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(Status::NotFound)));
            assert_eq!(error.to_string(), "no such file");
            let mut buffer = b"old".to_vec();
            let error = client.call_into(WORK, b"", &mut buffer).unwrap_err();
            assert_eq!((error.to_string().len(), buffer.len()), (1_000, 0));
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
        },
    );
}

#[test]
fn a_stream_where_a_response_was_expected_is_the_callers_mistake() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for round in 0..4 {
                let asked = peer.next();
                for _ in 0..round {
                    peer.item(&asked, b"item");
                }
                peer.end(&asked, Status::Ok);
            }
            peer.echo();
        },
        |mut client| {
            for _ in 0..3 {
                let error = client.call(WORK, b"").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("call_streaming"), "{error}");
            }
            let ticket = client.submit(WORK, b"").unwrap();
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.collect(ticket).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn long_responses_stay_within_the_limit_and_the_next_one_comes() {
    both_ways(
        |builder| builder.max_message_bytes(100_000),
        |mut peer| {
            for size in [100_000, 100_001, 5_000_000] {
                let asked = peer.next();
                let mut writer = peer.stream.write_message(ringwire::Header::new(
                    Kind::Response,
                    asked.header.message_type,
                    asked.header.correlation,
                ));
                writer.write_piece(&bytes(1, size)).unwrap();
                writer.finish().unwrap();
            }
            peer.echo();
        },
        |mut client| {
            assert_eq!(client.call(WORK, b"").unwrap().len(), 100_000);
            assert_eq!(client.call(WORK, b"").unwrap_err().kind(), ErrorKind::MessageTooLarge);
            let mut buffer = Vec::new();
            let error = client.call_into(WORK, b"", &mut buffer).unwrap_err();
            assert_eq!((error.kind(), buffer.len()), (ErrorKind::MessageTooLarge, 0));
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_request_beyond_the_servers_limit_is_refused_and_nothing_is_sent() {
    let (mut client, _peer) = client_and_peer(any());
    let error = client.call(WORK, &vec![0; (10 << 20) + 1]).unwrap_err();
    assert_eq!((error.kind(), client.in_flight()), (ErrorKind::MessageTooLarge, 0));
}

#[test]
fn an_answer_that_its_sender_gave_up_half_way_still_comes() {
    both_ways(
        |builder| builder.max_message_bytes(100_000),
        |mut peer| {
            let asked = peer.next();
            let header = ringwire::Header::new(Kind::Response, WORK, asked.header.correlation);
            let mut writer = peer.stream.write_message(header);
            writer.write_piece(&[1; 50_000]).unwrap();
            drop(writer);
            let mut writer = peer.stream.write_message(header);
            writer.write_piece(&[1; 150_000]).unwrap();
            drop(writer);
            peer.respond(&asked, &[2; 80_000]);
            peer.see_end();
        },
        |mut client| {
            assert_eq!(client.call(WORK, b"").unwrap().to_vec(), [2; 80_000]);
            assert_eq!(client.in_flight(), 0);
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
fn an_answer_before_the_requests_end_is_an_answer() {
    both_ways(
        |builder| builder,
        |mut peer| {
            for size in [5, 200_000, 5, 200_000] {
                let (sender, receiver) = peer.stream.halves();
                let header = receiver.read_message().unwrap().header();
                let answer = ringwire::Header::new(Kind::Response, WORK, header.correlation);
                sender.send(answer, &bytes(1, size)).unwrap();
            }
            let header = peer.stream.read_message().unwrap().header();
            let answer = ringwire::Header::new(Kind::Error, WORK, header.correlation);
            peer.stream
                .send(answer, &crate::peer::status_bytes(Status::MessageTooLarge, "too much"))
                .unwrap();
            peer.echo();
        },
        |mut client| {
            let long = vec![7; 1 << 20];
            let mut buffer = Vec::new();
            for size in [5, 200_000] {
                assert_bytes(&client.call(WORK, &long).unwrap().to_vec(), &bytes(1, size), "an early answer");
            }
            for size in [5, 200_000] {
                assert_eq!(client.call_into(WORK, &long, &mut buffer).unwrap(), size);
                assert_bytes(&buffer, &bytes(1, size), "an early answer in a buffer");
            }
            let error = client.call(WORK, &long).unwrap_err();
            assert_eq!(error.status(), Some(Status::MessageTooLarge));
            assert_eq!(client.call(WORK, b"on").unwrap().to_vec(), b"on");
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn pings_are_answered_and_the_server_is_known() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            assert!(client.ping().unwrap() > Duration::ZERO);
            assert_eq!(client.call(PING, b"").unwrap().len(), 0);
            let server = client.server().clone();
            assert_eq!(server.credentials.uid, nix::unistd::geteuid().as_raw());
            assert_eq!((server.to_server_bytes, server.to_client_bytes), (64 << 10, 64 << 10));
            assert_eq!((server.version, server.latency_core), (ringwire::wire::VERSION, None));
            assert_eq!(server.max_message_bytes, 10 << 20);
            client.close();
        },
    );
}

#[test]
fn values_travel_as_they_lie_in_memory() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            let back: [u64; 3] = client.call_typed(WORK, &[1_u64, 2, 3]).unwrap();
            assert_eq!(back, [1, 2, 3]);
            let error = client.call_typed::<_, u16>(WORK, &[1_u64, 2, 3]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("24 bytes received, expected the 2"), "{error}");
        },
    );
}

#[cfg(feature = "protocol")]
#[test]
fn values_travel_as_json() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            let sent = (7, "a b", vec![1.5, 2.5]);
            let back: (u8, String, Vec<f64>) = client.call_json(WORK, &sent).unwrap();
            assert_eq!(back, (7, "a b".to_owned(), vec![1.5, 2.5]));
            let error = client.call_json::<_, u8>(WORK, &sent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
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
            assert!(most <= (32 << 10) && most >= 4 << 10, "{most}");
        },
    );
}

#[test]
fn a_client_waits_for_its_server_only_if_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let error = ringwire::Client::connect(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let patient = ringwire::Client::builder(&path).wait_for_server(true);
    let error = patient.clone().timeout(Duration::from_millis(40)).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "still not there");
    thread::scope(|scope| {
        let connecting = scope.spawn(|| patient.trust(PeerPolicy::Anyone).connect().unwrap());
        thread::sleep(Duration::from_millis(50));
        let mut listener = ringwire::Listener::bind(&path).unwrap();
        let peer = Peer::new(listener.accept().unwrap());
        scope.spawn(|| peer.echo());
        let mut client = connecting.join().unwrap();
        assert_eq!(client.call(WORK, b"there").unwrap().to_vec(), b"there");
    });
}
