//! The states, in order, and the attempts.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ringwire::ErrorKind;
use ringwire::client::reconnect::ConnectionState::{
    self, Connected, Connecting, Disconnected, Failed, Reconnecting,
};
use ringwire::client::{Backoff, ReconnectingBuilder};

use crate::common::{Watchdog, wait_until};
use crate::{LONG, Serving, WORK, client, path};

/// From, to, generation, failed attempts.
type Change = (ConnectionState, ConnectionState, u64, u32);

fn watched(builder: ReconnectingBuilder) -> (ReconnectingBuilder, Receiver<Change>) {
    let (tell, told) = channel();
    let builder = builder.on_state_change(move |change| {
        match change.to {
            Connected => assert_eq!(change.cause, None, "{change:?}"),
            Failed => assert!(change.cause.is_some(), "{change:?}"),
            _ => {}
        }
        tell.send((change.from, change.to, change.generation, change.failed_attempts)).unwrap();
    });
    (builder, told)
}

#[test]
fn attempts_are_counted_to_the_last_and_connect_begins_again() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let backoff = Backoff::Fixed(Duration::from_millis(1));
    let (builder, told) = watched(client(&path).backoff(backoff).max_attempts(Some(3)));
    let mut client = builder.build();
    assert_eq!((client.state(), client.generation(), told.try_iter().count()), (Disconnected, 0, 0));
    wait_until(|| client.maintain() == Failed);
    let changes: Vec<_> = told.try_iter().collect();
    assert_eq!(changes, [(Disconnected, Connecting, 0, 0), (Connecting, Failed, 0, 3)]);

    let serving = Serving::named(&path, "here");
    let error = client.call(WORK, b"").unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(false)));
    assert!(error.to_string().contains("given up after 3 attempts"), "{error}");
    assert!(error.is_retryable());
    assert_eq!(client.events().count(), 1, "the error, and the end");
    assert_eq!(client.maintain(), Failed);

    client.connect(Some(LONG)).unwrap();
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"here");
    drop(serving);
    wait_until(|| client.maintain() != Connected);
    let changes: Vec<_> = told.try_iter().map(|(from, to, generation, _)| (from, to, generation)).collect();
    assert_eq!(
        changes[..3],
        [(Failed, Disconnected, 0), (Disconnected, Connecting, 0), (Connecting, Connected, 1)]
    );
    assert_eq!(changes[3], (Connected, Disconnected, 1));
    let _serving = Serving::named(&path, "back");
    client.connect(Some(LONG)).unwrap();
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"back");
    let last = changes.into_iter().skip(4).chain(told.try_iter().map(|(from, to, of, _)| (from, to, of)));
    let last: Vec<_> = last.filter(|(_, to, _)| *to != Failed).collect();
    let end = [(Disconnected, Reconnecting, 1), (Reconnecting, Connected, 2)];
    assert_eq!(last[last.len() - 2..], end, "{last:?}");
    client.close();
    assert_eq!(told.try_iter().last().unwrap().1, Disconnected);
}

#[test]
fn who_waits_tries_often_whatever_the_delay_and_only_what_is_due_counts() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let hour = Backoff::Fixed(Duration::from_secs(3_600));
    let mut client = client(&path).backoff(hour).max_attempts(Some(2)).build();
    let error = client.request(WORK).deadline(Duration::from_millis(200)).call(b"").unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::TimedOut, Some(false)), "{error}");
    assert_eq!((client.failed_attempts(), client.state()), (1, Connecting));
    assert!(client.try_event().unwrap().is_none());
    let _serving = Serving::named(&path, "here");
    std::thread::sleep(Duration::from_millis(25));
    assert_eq!(client.maintain(), Connecting, "not due, and nobody waits");
    assert_eq!(client.call(WORK, b"").unwrap().to_vec(), b"here");
}

#[test]
fn delays_are_kept_between_attempts_that_nobody_waits_for() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let backoff = Backoff::Linear { step: Duration::from_millis(60), cap: Duration::from_secs(1) };
    let (builder, told) = watched(client(&path).backoff(backoff).jitter(0.5).max_attempts(Some(3)));
    let mut client = builder.build();
    let (started, mut failed_at) = (Instant::now(), Vec::new());
    while client.maintain() != Failed {
        let failed = client.failed_attempts() as usize;
        if failed > failed_at.len() {
            failed_at.push(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Half of 60 ms, then half of 120 ms, at the least.
    assert_eq!(failed_at.len(), 2);
    assert!(failed_at[1] - failed_at[0] >= Duration::from_millis(29), "{failed_at:?}");
    assert!(started.elapsed() - failed_at[1] >= Duration::from_millis(59), "{failed_at:?}");
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn connections_that_are_lost_at_once_are_failed_attempts() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = path();
    let mut listener = ringwire::Listener::bind(&path).unwrap();
    let stopper = listener.stopper().unwrap();
    let serving = std::thread::spawn(move || while listener.accept().is_ok() {});
    let backoff = Backoff::Fixed(Duration::from_millis(1));
    let mut client = client(&path).backoff(backoff).max_attempts(Some(4)).build();
    client.set_call_timeout(None);
    let mut kinds = Vec::new();
    wait_until(|| {
        kinds.push(client.call(WORK, b"").map(drop).unwrap_err().kind());
        client.state() == Failed
    });
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::ConnectionLost), "{kinds:?}");
    assert_eq!((client.failed_attempts(), client.generation()), (4, 4));
    stopper.stop();
    serving.join().unwrap();
}
