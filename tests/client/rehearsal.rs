//! Rehearsals: when they are made, when not, and what they leave behind.

use std::time::{Duration, Instant};

use ringwire::client::{ECHO, rehearse_until};
use ringwire::{Error, ErrorKind};

use crate::WORK;
use crate::peer::{Peer, both_ways};

/// Far more than a rehearsal lasts, even on a busy machine.
const LONG: Duration = Duration::from_millis(200);
/// At least as long as one lasts.
const LEAD: Duration = Duration::from_millis(1);

#[test]
fn it_begins_shortly_before_the_moment_and_never_ends_before_it() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            let mut answer = Vec::new();
            let mut rehearsals = 0;
            for number in 0..5_u64 {
                let at = Instant::now() + Duration::from_millis(20);
                let mut first = None;
                let rehearsed: Result<(), Error> = rehearse_until(at, || {
                    first.get_or_insert_with(Instant::now);
                    rehearsals += 1;
                    client.call_into(ECHO, &number.to_ne_bytes(), &mut answer).map(drop)
                });
                rehearsed.unwrap();
                assert!(Instant::now() >= at, "too early");
                // None where a busy machine lets the thread sleep beyond the moment.
                if let Some(first) = first {
                    assert!(first < at && at - first <= LEAD, "{:?} before the moment", at - first);
                }
                assert_eq!(client.call(WORK, b"now").unwrap().to_vec(), b"now");
            }
            assert!(rehearsals > 0);
            assert_eq!(client.in_flight(), 0);
        },
    );
}

#[test]
fn a_moment_that_has_passed_is_not_rehearsed_for() {
    let at = Instant::now();
    let none = || -> Result<(), Error> { panic!("a rehearsal behind the moment") };
    rehearse_until(at, none).unwrap();
    assert!(at.elapsed() < LONG);
}

#[test]
fn what_takes_too_long_is_made_once() {
    both_ways(
        |builder| builder,
        Peer::echo,
        |mut client| {
            // The first one begins before the moment, or none; the second would end behind it.
            let at = Instant::now() + Duration::from_millis(20);
            let mut rehearsals = 0;
            let slow = || {
                rehearsals += 1;
                std::thread::sleep(LONG);
                client.call(WORK, b"").map(drop)
            };
            rehearse_until(at, slow).unwrap();
            assert!(rehearsals <= 1, "{rehearsals} times");
        },
    );
}

#[test]
fn its_first_error_is_said_at_once() {
    both_ways(
        |builder| builder,
        drop,
        |mut client| {
            let at = Instant::now() + Duration::from_millis(20);
            let mut rehearsals = 0;
            let rehearsed = rehearse_until(at, || {
                rehearsals += 1;
                client.call(WORK, b"").map(drop)
            });
            match rehearsed {
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::PeerClosed | ErrorKind::PeerDied), "{error}");
                    assert_eq!(rehearsals, 1);
                }
                Ok(()) => assert_eq!(rehearsals, 0),
            }
        },
    );
}
