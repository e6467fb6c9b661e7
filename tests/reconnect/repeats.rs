//! What is sent again, and what is not.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::client::ReconnectingClient;
use ringwire::sync::Counter;
use ringwire::transport::Deadline;
use ringwire::{Error, ErrorKind, Payload};

use crate::common::Watchdog;
use crate::{LONG, Serving, WORK, accepting, client, path};

/// Each connection ends behind the first request, but for the last.
const CONNECTIONS: usize = 4;

#[test]
fn an_idempotent_call_is_sent_again_until_it_is_answered() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, CONNECTIONS, |number, mut peer| {
        let asked = peer.next();
        assert_eq!(asked.payload, b"again and again");
        if number == CONNECTIONS {
            peer.respond(&asked, b"at last");
            peer.see_end();
        }
    });
    let mut client = client(&path).build();
    assert_eq!(client.call_idempotent(WORK, b"again and again").unwrap().to_vec(), b"at last");
    assert_eq!(client.generation(), CONNECTIONS as u64);
    drop(client);
    serving.join().unwrap();
}

#[test]
fn any_other_call_is_sent_once_and_its_caller_is_told() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let executed = Arc::new(Counter::new(0));
    let counted = Arc::clone(&executed);
    let serving = accepting(&path, 3, move |number, mut peer| {
        let asked = peer.next();
        counted.add(1);
        if number == 3 {
            peer.respond(&asked, b"well");
            peer.see_end();
        }
    });
    let mut client = client(&path).build();
    for lost in 1..=2 {
        let error = client.call(WORK, b"once").unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(true)));
        assert!(!error.is_retryable(), "it may have been executed");
        let said = format!("connection {lost} was lost; the request may have been executed: ");
        assert!(error.to_string().starts_with(&said), "{error}");
        assert_eq!(executed.get(), lost);
    }
    assert_eq!(client.call(WORK, b"once").unwrap().to_vec(), b"well");
    assert_eq!(executed.get(), 3);
    drop(client);
    serving.join().unwrap();
}

#[test]
fn nothing_is_sent_again_behind_the_deadline() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let (arrived, arrivals) = channel();
    let mut listener = ringwire::Listener::bind(&path).unwrap();
    let stopper = listener.stopper().unwrap();
    let serving = thread::spawn(move || {
        while let Ok(stream) = listener.accept() {
            let mut peer = crate::peer::Peer::new(stream);
            if let Ok(asked) = peer.try_next() {
                arrived.send(asked.deadline_ns.unwrap()).unwrap();
            }
        }
    });
    let mut client = client(&path).max_attempts(None).build();
    let (started, deadline) = (Instant::now(), Deadline::after(Duration::from_millis(200)));
    let error = client.request(WORK).idempotent().deadline_at(deadline).call(b"?").unwrap_err();
    assert!(deadline.has_passed(), "given up too early");
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionLost), "{error}");
    assert_eq!(error.may_have_executed(), Some(true), "an earlier attempt counts too: {error}");
    stopper.stop();
    serving.join().unwrap();
    let seen: Vec<_> = arrivals.iter().collect();
    assert!(seen.len() >= 2, "{seen:?}");
    assert!(seen.iter().all(|each| *each == deadline.as_ns()), "one deadline for all attempts");
}

#[test]
fn a_request_that_kills_every_server_is_not_sent_for_ever() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let executed = Arc::new(Counter::new(0));
    let counted = Arc::clone(&executed);
    let serving = accepting(&path, 4, move |number, mut peer| {
        let asked = peer.next();
        counted.add(1);
        if number == 4 {
            peer.respond(&asked, b"harmless");
            peer.see_end();
        }
    });
    let mut client = client(&path).max_attempts(Some(3)).build();
    client.set_call_timeout(None);
    let error = client.call_idempotent(WORK, b"poison").unwrap_err();
    assert_eq!((error.kind(), executed.get()), (ErrorKind::ConnectionLost, 3));
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"harmless");
    drop(client);
    serving.join().unwrap();
}

#[test]
fn a_server_that_went_while_nobody_asked_costs_no_request() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let mut client = client(&path).build();
    for name in ["one", "two", "three"] {
        let _serving = Serving::named(&path, name);
        assert_eq!(client.call(WORK, b"").unwrap().to_vec(), name.as_bytes());
        drop(_serving);
        // A connection that has just been used is believed for 5 ms.
        thread::sleep(Duration::from_millis(15));
    }
    assert_eq!(client.generation(), 3);
}

#[test]
fn a_long_request_that_is_cut_off_may_have_been_begun() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    // Never read: the ring fills up.
    let serving = accepting(&path, 1, |_, peer| {
        thread::sleep(Duration::from_millis(if peer.stream.dropped() == 0 { 50 } else { 0 }))
    });
    let mut client = client(&path).build();
    let error = client.call(WORK, &vec![1; 1 << 20]).unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(true)), "{error}");
    serving.join().unwrap();
    // Too long for any server: nothing of it leaves.
    let _serving = Serving::named(&path, "whole");
    let error = client.call(WORK, &vec![1; 11 << 20]).unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::MessageTooLarge, Some(false)));
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"whole");
}

#[test]
fn servers_that_take_over_from_each_other_are_not_noticed() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let mut client = client(&path).build();
    let over = Counter::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                let _serving = Serving::named(&path, "the same");
                thread::sleep(Duration::from_millis(50));
            }
            over.set(1);
        });
        let mut answered = 0;
        while over.get() == 0 {
            let call = client.request(WORK).idempotent().deadline(Duration::from_millis(500));
            match call.call(b"?") {
                Ok(reply) => assert_eq!(reply.to_vec(), b"the same"),
                // The last one has gone.
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            }
            answered += 1;
        }
        assert!(answered > 10 && client.generation() > 2, "{answered} on {}", client.generation());
    });
}

#[test]
fn every_form_of_a_call_reaches_the_server_that_is_there_now() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let notified = Arc::new(Counter::new(0));
    let start = |number: u8| {
        let notified = Arc::clone(&notified);
        Serving::at(&path, |builder| {
            builder.handle(WORK, move |request, reply| {
                notified.add(u64::from(request.is_one_way()));
                reply.send(&[&[number], &*request.payload().to_vec()].concat())
            })
        })
    };
    let mut serving = start(0);
    let mut client = client(&path).connect(Some(LONG)).unwrap();
    assert!(client.server().unwrap().to_server_bytes >= 4096);
    type Form = fn(&mut ReconnectingClient, &mut Vec<u8>) -> Result<(), Error>;
    let forms: [Form; 6] = [
        |client, found| client.call_into(WORK, b"form", found).map(|bytes| assert_eq!(bytes, 5)),
        |client, found| {
            let read = |payload: Payload<'_>| payload.to_vec();
            *found = client.call_with(WORK, 4, |slot| _ = slot.write(b"form"), read)?;
            Ok(())
        },
        |client, found| client.request(WORK).deadline(LONG).call_into(b"form", found).map(drop),
        |client, found| {
            let ticket = client.request(WORK).deadline(LONG).submit(b"form")?;
            *found = client.collect(ticket)?.to_vec();
            Ok(())
        },
        |client, found| {
            assert!(client.ping()? < LONG);
            client.call_into(WORK, b"form", found).map(drop)
        },
        |client, found| {
            client.request(WORK).deadline(LONG).notify(b"")?;
            client.call_into(WORK, b"form", found).map(drop)
        },
    ];
    for (number, form) in (1..).zip(forms) {
        drop(serving);
        serving = start(number);
        thread::sleep(Duration::from_millis(15));
        let mut found = b"of another call".to_vec();
        form(&mut client, &mut found).unwrap();
        assert_eq!(found, [&[number], &b"form"[..]].concat());
        assert_eq!(client.generation(), u64::from(number) + 1);
    }
    assert_eq!(notified.get(), 1);
    drop(serving);
    thread::sleep(Duration::from_millis(15));
    // And each says so where there is none.
    client.set_call_timeout(Some(Duration::from_millis(20)));
    for (number, form) in (1..).zip(forms).filter(|(number, _)| ![3, 4, 6].contains(number)) {
        let error = form(&mut client, &mut Vec::new()).unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_executed()),
            (ErrorKind::TimedOut, Some(false)),
            "{number}: {error}"
        );
    }
}
