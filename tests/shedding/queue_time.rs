//! Requests that have waited.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use ringwire::server::shed::QueueTime;
use ringwire::wire::Status;
use ringwire::{Client, Error};

use super::caller::Serving;
use super::common::Watchdog;
use super::{WORK, client, refused};

const SERVICE: Duration = Duration::from_millis(4);

/// A server whose handler takes a while.
fn serving(limit: QueueTime) -> (Serving, Arc<QueueTime>) {
    let limit = Arc::new(limit);
    let serving = Serving::start(|builder| {
        builder.middleware(Arc::clone(&limit)).handle(WORK, |request, reply| {
            sleep(SERVICE);
            reply.send_payload(request.payload())
        })
    });
    (serving, limit)
}

/// Sends all at once, and says how each ended.
fn burst(client: &mut Client, requests: usize, timeout: Option<Duration>) -> Vec<Result<(), Error>> {
    let tickets: Vec<_> = (0..requests)
        .map(|_| match timeout {
            Some(timeout) => client.request(WORK).deadline(timeout).submit(b"").unwrap(),
            None => client.submit(WORK, b"").unwrap(),
        })
        .collect();
    tickets.into_iter().map(|ticket| client.collect(ticket).map(drop)).collect()
}

#[test]
fn behind_a_busy_handler_what_has_waited_too_long_is_refused() {
    let _watchdog = Watchdog::start();
    let (serving, limit) = serving(QueueTime::new(Duration::from_millis(20)));
    let mut client = client(&serving);
    let ends = burst(&mut client, 60, None);
    assert!(ends[0].is_ok(), "{ends:?}");
    let refusals: Vec<_> = ends.into_iter().filter(Result::is_err).map(refused).collect();
    assert!(!refusals.is_empty());
    let expected = (Status::Unavailable, Some(Duration::from_millis(20)));
    assert!(refusals.iter().all(|refusal| *refusal == expected), "{refusals:?}");
    assert_eq!(limit.refused(), refusals.len() as u64);
}

#[test]
fn who_waits_for_each_answer_is_never_refused() {
    let _watchdog = Watchdog::start();
    let (serving, limit) = serving(QueueTime::new(Duration::from_millis(2)));
    let mut client = client(&serving);
    for round in 0..60 {
        client.call(WORK, b"").unwrap();
        if round % 10 == 0 {
            sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(limit.refused(), 0);
}

#[test]
fn with_the_clients_timeout_known_the_wait_is_exact() {
    let _watchdog = Watchdog::start();
    let timeout = Duration::from_secs(60);
    let (serving, limit) = serving(QueueTime::new(SERVICE * 10).call_timeout(timeout));
    let mut client = client(&serving);
    let ends = burst(&mut client, 60, Some(timeout));
    // Each waits for those in front of it, and they sleep at least this long.
    let served = ends.iter().filter(|end| end.is_ok()).count();
    assert!((1..=11).contains(&served), "{served} of 60");
    assert_eq!(limit.refused(), 60 - served as u64);
    let refusals = ends.into_iter().filter(Result::is_err).map(|end| refused(end).0);
    assert!(refusals.into_iter().all(|status| status == Status::Unavailable));
}

#[test]
fn what_has_less_time_left_than_its_answer_takes_is_not_begun() {
    let _watchdog = Watchdog::start();
    let limit = QueueTime::new(Duration::from_secs(30)).least_left(Duration::from_secs(20));
    let (serving, limit) = serving(limit);
    let mut client = client(&serving);
    let hopeless = client.request(WORK).deadline(Duration::from_secs(10)).call(b"");
    assert_eq!(refused(hopeless), (Status::DeadlineExceeded, Some(Duration::from_secs(30))));
    client.request(WORK).deadline(Duration::from_secs(300)).call(b"").unwrap();
    client.call(WORK, b"no deadline").unwrap();
    assert_eq!(limit.refused(), 1);
}
