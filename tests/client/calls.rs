//! Calls: what comes back, what does not, and what does not matter.

use std::thread;
use std::time::Duration;

use ringwire::client::{ECHO, PING};
use ringwire::wire::{Status, call};
use ringwire::{Client, ErrorKind, Header, Kind, PeerPolicy, Stream};

use crate::WORK;
use crate::common::{Watchdog, assert_bytes, bytes};
use crate::peer::{Peer, any, both_ways, client_and_peer};

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

/// A control word holds the low half of what was cancelled: 2^26 requests later it would mean another one.
#[test]
fn what_was_cancelled_is_taken_back_before_its_slot_is_used_again() {
    let _watchdog = Watchdog::start();
    let (stream, mut server) = Stream::pair().unwrap();
    let cancellations = server.cancellations();
    let mut client = Client::builder("").over(stream);
    let ticket = client.submit(WORK, b"unwanted").unwrap();
    let asked = server.receive().unwrap().header();
    client.cancel(&ticket).unwrap();
    assert!(cancellations.of(asked.correlation).is_cancelled());
    let much_later = asked.correlation + (1 << 32);
    assert!(cancellations.of(much_later).is_cancelled(), "the word alone cannot tell");
    server.send(Header::new(Kind::Response, WORK, asked.correlation), b"done").unwrap();
    assert_eq!(client.collect(ticket).unwrap().to_vec(), b"done");
    client.submit(WORK, b"wanted").unwrap();
    assert_eq!(
        call::slot_of(server.receive().unwrap().header().correlation),
        call::slot_of(asked.correlation)
    );
    assert!(!cancellations.of(much_later).is_cancelled());
    assert!(!cancellations.of(call::correlation(1 << 26, 0)).is_cancelled(), "nothing is cancelled");
}

/// An interruption is not for a call, and does not keep it from waiting.
#[test]
fn a_client_whose_stream_is_interrupted_waits_on() {
    let _watchdog = Watchdog::start();
    let (mut stream, mut server) = Stream::pair().unwrap();
    let interrupter = stream.halves().1.interrupter();
    let mut client = Client::builder("").over(stream);
    let serving = thread::spawn(move || {
        let correlation = server.receive().unwrap().header().correlation;
        interrupter.interrupt();
        // So long that the caller has gone to sleep, or would have gone round and round.
        thread::sleep(Duration::from_millis(100));
        server.send(Header::new(Kind::Response, WORK, correlation), b"late").unwrap();
        server
    });
    let used = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let before = Duration::from(used());
    assert_eq!(client.call(WORK, b"x").unwrap().to_vec(), b"late");
    assert!(Duration::from(used()) - before < Duration::from_millis(50), "it went round and round");
    serving.join().unwrap();
}
