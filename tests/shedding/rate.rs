//! Rates of connections and of users.

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use ringwire::server::shed::{Rate, RateLimit};
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{Client, PeerPolicy};

use super::caller::Serving;
use super::common::{Watchdog, second, setting, wait_until};
use super::{client, refused};

const HOUR: Duration = Duration::from_secs(3600);

fn serving(limit: RateLimit) -> (Serving, Arc<RateLimit>) {
    let limit = Arc::new(limit);
    (Serving::start(|builder| builder.middleware(Arc::clone(&limit))), limit)
}

#[test]
fn a_connection_that_is_too_fast_is_told_when_to_retry_and_the_others_are_not_concerned() {
    let _watchdog = Watchdog::start();
    let (serving, limit) = serving(RateLimit::new().per_connection(Rate::new(4, HOUR)));
    let (mut fast, mut other) = (client(&serving), client(&serving));
    for _ in 0..4 {
        fast.call(ECHO, b"in time").unwrap();
    }
    for _ in 0..3 {
        let (status, hint) = refused(fast.call(ECHO, b"too fast"));
        assert_eq!(status, Status::ResourceExhausted);
        let hint = hint.unwrap();
        assert!(hint <= HOUR / 4 && hint > HOUR / 4 - Duration::from_secs(120), "{hint:?}");
    }
    // Nobody waits for the answer to a notification: it is left out, and counted.
    fast.notify(ECHO, b"").unwrap();
    wait_until(|| limit.refused() == 4);
    fast.ping().unwrap();
    other.call(ECHO, b"in time").unwrap();
    assert_eq!(serving.handle.stats().handler_errors, 4);
    // The bucket is the connection's, not the thread's that serves the next one.
    drop(fast);
    drop(other);
    wait_until(|| serving.handle.connections().is_empty());
    for _ in 0..3 {
        client(&serving).call(ECHO, b"a new one").unwrap();
    }
    assert_eq!(limit.refused(), 4);
}

#[test]
fn who_retries_when_told_is_served() {
    let _watchdog = Watchdog::start();
    let (serving, limit) = serving(RateLimit::new().per_connection(Rate::per_second(50).burst(2)));
    let mut client = client(&serving);
    for _ in 0..10 {
        let hint = loop {
            match client.call(ECHO, b"again") {
                Ok(_) => {}
                Err(error) => break error.retry_after().unwrap(),
            }
        };
        assert!(hint >= Duration::from_millis(1) && hint <= Duration::from_millis(20), "{hint:?}");
        std::thread::sleep(hint);
        client.call(ECHO, b"as told").unwrap();
    }
    assert_eq!(limit.refused(), 10);
}

/// The second process: another user, who calls as often as it may.
pub(super) fn stranger() {
    let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    setgroups(&[]).unwrap();
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
    // Lost with the user.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut client = Client::connect(setting("PATH_TO_SERVE")).unwrap();
    for _ in 0..3 {
        client.call(ECHO, b"mine").unwrap();
    }
    assert_eq!(refused(client.call(ECHO, b"mine")).0, Status::ResourceExhausted);
}

#[test]
fn a_user_has_one_bucket_on_all_connections_and_every_user_its_own() {
    let _watchdog = Watchdog::start();
    let limit = RateLimit::new().per_uid(Rate::new(3, HOUR)).per_connection(Rate::new(2, HOUR));
    let (serving, limit) = serving(limit);
    let (mut first, mut second_one) = (client(&serving), client(&serving));
    first.call(ECHO, b"1").unwrap();
    first.call(ECHO, b"2").unwrap();
    // By its connection's limit: costs the user nothing.
    assert_eq!(refused(first.call(ECHO, b"")).0, Status::ResourceExhausted);
    second_one.call(ECHO, b"3").unwrap();
    let (status, hint) = refused(second_one.call(ECHO, b""));
    assert_eq!(status, Status::ResourceExhausted);
    assert!(hint.unwrap() > Duration::from_secs(60));
    assert_eq!(refused(client(&serving).call(ECHO, b"")).0, Status::ResourceExhausted);
    assert_eq!(limit.refused(), 3);
    if !Uid::effective().is_root() {
        eprintln!("not root: no second user");
        return;
    }
    let relaxed = Arc::new(RateLimit::new().per_uid(Rate::new(3, HOUR)));
    let other = Serving::start(|builder| {
        let both = PeerPolicy::Allow { uids: vec![0, 65_534], gids: vec![] };
        builder.middleware(Arc::clone(&relaxed)).accept_from(both).mode(0o666)
    });
    open_to_all(&other.path);
    let mut own = client(&other);
    for _ in 0..3 {
        own.call(ECHO, b"").unwrap();
    }
    refused(own.call(ECHO, b""));
    second("stranger", &[("PATH_TO_SERVE", other.path.to_str().unwrap())]).join();
    assert_eq!(relaxed.refused(), 2);
}

/// The directory of the socket lets other users through.
fn open_to_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path.parent().unwrap(), all).unwrap();
}
