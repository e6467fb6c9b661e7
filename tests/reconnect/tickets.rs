//! Tickets whose connection is lost.

use std::sync::mpsc::channel;

use ringwire::client::CircuitBreaker;
use ringwire::{Error, ErrorKind};

use crate::common::Watchdog;
use crate::{Serving, WORK, accepting, client, path};

fn is_lost(error: &Error) {
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(true)), "{error}");
}

#[test]
fn old_tickets_yield_nothing_of_the_new_connection() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, 2, |number, mut peer| {
        let asked = [peer.next(), peer.next(), peer.next()];
        // The same slots and correlations on each connection, but only its first answer on the first.
        for asked in &asked[..if number == 1 { 1 } else { 3 }] {
            peer.respond(asked, format!("{number}").as_bytes());
        }
        if number > 1 {
            peer.see_end();
        }
    });
    let mut client = client(&path).breaker(CircuitBreaker::new()).build();
    let old = [0, 1, 2].map(|_| client.submit(WORK, b"").unwrap());
    is_lost(&client.collect(old[1]).unwrap_err());
    is_lost(&client.try_collect(&old[1]).unwrap_err());
    client.connect(None).unwrap();
    let new = [0, 1, 2].map(|_| client.submit(WORK, b"").unwrap());
    assert_eq!(old.map(|ticket| ticket.generation()), [1, 1, 1]);
    assert_eq!(old.map(|ticket| ticket.correlation()), new.map(|ticket| ticket.correlation()));
    assert_eq!(new.map(|ticket| ticket.generation()), [2, 2, 2]);
    assert_eq!(client.collect(new[1]).unwrap().to_vec(), b"2");
    is_lost(&client.cancel(&old[2]).unwrap_err());
    is_lost(&client.collect(old[2]).unwrap_err());
    assert_eq!(client.collect(old[0]).unwrap().to_vec(), b"1", "it had arrived");
    for ticket in old {
        is_lost(&client.collect(ticket).unwrap_err());
        is_lost(&client.try_collect(&ticket).unwrap_err());
    }
    client.give_up(old[2]).unwrap();
    assert_eq!(client.collect(new[0]).unwrap().to_vec(), b"2");
    assert_eq!(client.collect(new[1]).unwrap_err().kind(), ErrorKind::InvalidInput);
    // The last one sent: it may still be on its way.
    let last = loop {
        if let Some(reply) = client.try_collect(&new[2]).unwrap() {
            break reply.to_vec();
        }
    };
    assert_eq!(last, b"2");
    assert_eq!(client.breaker().unwrap().stats().failures, 2, "two were lost");
    client.close();
    serving.join().unwrap();
}

#[test]
fn collect_any_tells_of_every_lost_ticket_once() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let serving = accepting(&path, 3, |number, mut peer| {
        let asked: Vec<_> = (0..10).map(|_| peer.next()).collect();
        for asked in asked.iter().skip(number) {
            peer.respond(asked, &asked.header.correlation.to_ne_bytes());
        }
    });
    let mut client = client(&path).build();
    let mut tickets = std::collections::HashSet::new();
    for generation in 1..=3 {
        client.connect(None).unwrap();
        for _ in 0..10 {
            tickets.insert(client.submit(WORK, b"").unwrap());
        }
        assert_eq!(client.generation(), generation);
        // The server is gone: found by who waits for it.
        while client.next_event(None).map(|_| ()).is_ok() {}
    }
    let mut lost = [0; 4];
    while let Some((ticket, reply)) = client.collect_any().unwrap() {
        assert!(tickets.remove(&ticket));
        match reply {
            Ok(reply) => assert_eq!(reply.to_vec(), ticket.correlation().to_ne_bytes()),
            Err(error) => {
                is_lost(&error);
                lost[usize::try_from(ticket.generation()).unwrap()] += 1;
            }
        }
    }
    assert!(tickets.is_empty(), "{tickets:?}");
    // Two connections later nothing is kept but the fact.
    assert_eq!(lost, [0, 10, 2, 3]);
    serving.join().unwrap();
}

#[test]
fn a_goodbye_is_no_loss_the_old_server_still_answers() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let (taken, takes) = channel();
    let (release, held) = channel::<()>();
    let held = std::sync::Mutex::new(held);
    let old = Serving::at(&path, |builder| {
        builder.handle(WORK, move |_, reply| {
            let _ = taken.send(());
            let _ = held.lock().unwrap().recv();
            reply.send(b"old")
        })
    });
    let mut client = client(&path).build();
    let ticket = client.submit(WORK, b"").unwrap();
    takes.recv().unwrap();
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| drop(old));
        // The path is free before the old server has ended.
        let new = loop {
            let server = ringwire::Server::builder(&path).handle(WORK, |_, reply| reply.send(b"new")).build();
            match server {
                Ok(server) => break server,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}"),
            }
        };
        let handle = new.handle();
        let serving = scope.spawn(|| new.serve());
        // Its goodbye comes when the handler is done; what is sent before it is seen is answered too.
        drop(release);
        assert_eq!(client.collect(ticket).unwrap().to_vec(), b"old");
        while client.generation() == 1 {
            let reply = client.call_idempotent(WORK, b"").unwrap().to_vec();
            assert_eq!(reply, if client.generation() == 1 { *b"old" } else { *b"new" });
        }
        ending.join().unwrap();
        assert!(handle.shutdown(crate::LONG));
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn answers_that_an_old_connection_owes_come_beside_those_of_the_new_one() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let (release, held) = channel::<()>();
    let held = std::sync::Mutex::new(held);
    let mut listener = ringwire::Listener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || {
        let mut old = crate::peer::Peer::new(listener.accept().unwrap());
        let owed = [old.next(), old.next(), old.next()];
        old.goodbye();
        let mut new = crate::peer::Peer::new(listener.accept().unwrap());
        let asked = new.next();
        new.respond(&asked, b"new");
        held.lock().unwrap().recv().unwrap();
        old.respond(&owed[2], b"old 2");
        old.respond(&owed[0], b"old 0");
        drop(old);
        new.see_end();
    });
    let mut client = client(&path).build();
    let tickets = [0, 1, 2].map(|_| client.submit(WORK, b"").unwrap());
    while client.generation() < 2 {
        client.maintain();
    }
    assert!(client.try_collect(&tickets[0]).unwrap().is_none(), "it may still come");
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"new");
    release.send(()).unwrap();
    assert_eq!(client.collect(tickets[0]).unwrap().to_vec(), b"old 0");
    let mut rest = Vec::new();
    while let Some((ticket, reply)) = client.collect_any().unwrap() {
        rest.push((ticket, reply.map(|reply| reply.to_vec()).map_err(|error| error.kind())));
    }
    assert_eq!(rest, [(tickets[2], Ok(b"old 2".to_vec())), (tickets[1], Err(ErrorKind::ConnectionLost))]);
    drop(client);
    serving.join().unwrap();
}
