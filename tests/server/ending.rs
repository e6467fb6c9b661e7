//! How servers end: everything that was asked is answered, and nothing is left.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::sync::Counter;
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{Client, ErrorKind, Kind, Stream};

use super::caller::Serving;
use super::common::{Watchdog, second, wait_until};

const WORK: u16 = 7;
const WINDOW: usize = 16;

/// Threads of this process that serve connections.
fn serving_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let serves = |task: std::io::Result<std::fs::DirEntry>| {
        let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        name.starts_with("ringwire-")
    };
    names.filter(|task| task.as_ref().is_ok()).map(serves).filter(|serves| *serves).count()
}

/// Asks as fast as it can until it hears that the server goes; says how many were answered, and how many refused.
fn press(serving: &Serving) -> (u64, u64) {
    let mut caller = serving.caller();
    let (mut open, mut answered, mut refused) = (0, 0, 0);
    loop {
        while open < WINDOW && caller.goodbye.is_none() {
            match caller.try_ask(WORK, b"work") {
                Ok(_) => open += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::PeerClosed);
                    break;
                }
            }
        }
        match caller.answer() {
            Ok(came) if came.header.kind == Kind::Response => answered += 1,
            Ok(came) => {
                assert_eq!(came.status().status, Status::Unavailable);
                refused += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PeerClosed);
                assert!(caller.goodbye.is_some(), "a goodbye before the end");
                // What it sent without a look for longer than the server lingered was never taken.
                return (answered, refused);
            }
        }
        open -= 1;
    }
}

/// The second process, which has no other server: 100 connections that ask as fast as they can, and a shutdown.
pub(super) fn under_load() {
    let ran = Arc::new(Counter::new(0));
    let serving = Arc::new(Serving::start(|builder| {
        let ran = Arc::clone(&ran);
        builder.handle(WORK, move |request, reply| {
            ran.add(1);
            reply.send_payload(request.payload())
        })
    }));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let serving = Arc::clone(&serving);
            thread::Builder::new().stack_size(128 << 10).spawn(move || press(&serving)).unwrap()
        })
        .collect();
    wait_until(|| serving.handle.connections().len() == 100 && ran.get() > 10_000);
    // A thread that has just been started bears its starter's name yet.
    wait_until(|| serving_threads() >= 100);
    assert!(serving.handle.shutdown(Duration::from_secs(30)), "in time");
    assert_eq!(serving_threads(), 0, "none is left");
    let (mut answered, mut refused) = (0, 0);
    for caller in callers {
        let (ok, no) = caller.join().unwrap();
        answered += ok;
        refused += no;
    }
    assert_eq!(answered, ran.get(), "what ran was answered, and what did not was not");
    let stats = serving.handle.stats();
    assert_eq!((stats.requests, stats.failures, stats.connections), (answered + refused, refused, 0));
    assert_eq!(Stream::connect(&serving.path).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_shutdown_under_load_answers_everything_and_leaves_no_thread() {
    let _watchdog = Watchdog::start();
    second("under load", &[]).join();
}

#[test]
fn the_client_of_a_server_that_goes_gets_answers_until_it_is_told() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let mut client = Client::connect(&serving.path).unwrap();
    client.call(ECHO, b"one").unwrap();
    let handle = serving.handle.clone();
    let other = thread::spawn(move || handle.shutdown(Duration::from_secs(10)));
    let error = loop {
        match client.call(ECHO, b"more") {
            Ok(reply) => assert_eq!(reply.to_vec(), b"more"),
            Err(error) => break error,
        }
    };
    let expected = error.status() == Some(Status::Unavailable) || error.kind() == ErrorKind::PeerClosed;
    assert!(expected, "{error:?}");
    assert!(other.join().unwrap());
}

#[test]
fn deferred_replies_are_waited_for_and_a_hanging_handler_is_cut_off() {
    let _watchdog = Watchdog::start();
    let (said, heard) = channel();
    let release = Arc::new(Counter::new(0));
    let serving = Serving::start(|builder| {
        let release = Arc::clone(&release);
        builder
            .handle(WORK, move |_, reply| {
                let (replied, later) = reply.detach();
                said.send(later).unwrap();
                Ok(replied)
            })
            .handle(WORK + 1, move |_, reply| {
                while release.get() == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                reply.send(b"too late")
            })
    });
    let mut caller = serving.caller();
    let number = caller.ask(WORK, b"");
    let later = heard.recv().unwrap();
    let handle = serving.handle.clone();
    let shutdown = thread::spawn(move || handle.shutdown(Duration::from_millis(800)));
    // It hears of it, what it asks is refused, and what is owed comes all the same.
    let goodbye = caller.next().unwrap();
    assert_eq!((goodbye.header.kind, goodbye.status().status), (Kind::Goodbye, Status::Unavailable));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(caller.refused(ECHO, b"").0, Status::Unavailable);
    later.send(b"at last").unwrap();
    let came = caller.answer().unwrap();
    assert_eq!((came.header.correlation, &came.payload[..]), (number, &b"at last"[..]));
    assert!(caller.until_closed().is_empty());
    assert!(shutdown.join().unwrap(), "in time");
    serving.join().unwrap();

    let release_again = Arc::new(Counter::new(0));
    let serving = Serving::start(|builder| {
        let release = Arc::clone(&release_again);
        builder.handle(WORK, move |_, reply| {
            while release.get() == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            reply.send(b"too late")
        })
    });
    let mut caller = serving.caller();
    caller.ask(WORK, b"");
    wait_until(|| serving.handle.stats().requests == 1);
    let before = Instant::now();
    assert!(!serving.handle.shutdown(Duration::from_millis(50)), "not all of it in time");
    assert!(before.elapsed() < Duration::from_secs(20));
    // The client knows, though the handler still runs.
    assert_eq!(caller.answer().unwrap_err().kind(), ErrorKind::PeerDied);
    release_again.set(1);
    serving.join().unwrap();
}

#[test]
fn what_needs_no_answer_does_not_count_behind_a_goodbye() {
    let _watchdog = Watchdog::start();
    let release = Arc::new(Counter::new(0));
    let serving = Serving::start(|builder| {
        let release = Arc::clone(&release);
        builder
            .handle(WORK, move |_, reply| {
                while release.get() == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                reply.send(b"done")
            })
            .handle(WORK + 1, |_, reply| reply.send(b""))
    });
    let mut caller = serving.caller();
    let numbers = [caller.ask(WORK, b""), {
        for _ in 0..500 {
            caller.notify(WORK + 1, b"");
        }
        caller.ask(ECHO, b"under way")
    }];
    let handle = serving.handle.clone();
    let shutdown = thread::spawn(move || handle.shutdown(Duration::from_secs(10)));
    // The path is taken away before the goodbyes; what then is wanted of the connection comes within moments.
    wait_until(|| !serving.path.exists());
    thread::sleep(Duration::from_millis(50));
    release.set(1);
    for number in numbers {
        let came = caller.answer().unwrap();
        assert_eq!((came.header.kind, came.header.correlation), (Kind::Response, number));
    }
    assert!(shutdown.join().unwrap());
}

/// A drain under way, in which a deferred stream sends 200 items; then a request. Says how it was answered, and the longest
/// time in which nothing happened.
fn ask_behind_items() -> (Kind, Duration) {
    let (said, heard) = channel();
    let serving = Serving::start(|builder| {
        builder.handle(WORK, move |_, reply| {
            let (replied, later) = reply.detach();
            said.send(later).unwrap();
            Ok(replied)
        })
    });
    let mut caller = serving.caller();
    caller.ask(WORK, b"");
    let mut later = heard.recv().unwrap();
    let handle = serving.handle.clone();
    let shutdown = thread::spawn(move || handle.shutdown(Duration::from_secs(10)));
    assert_eq!(caller.next().unwrap().header.kind, Kind::Goodbye);
    let (mut pause, mut last) = (Duration::ZERO, Instant::now());
    for item in 0..200u32 {
        later.item(item.to_ne_bytes()).unwrap();
        assert_eq!(caller.answer().unwrap().payload, item.to_ne_bytes());
        pause = pause.max(last.elapsed());
        last = Instant::now();
    }
    let number = caller.ask(ECHO, b"under way");
    let came = caller.answer().unwrap();
    assert_eq!(came.header.correlation, number);
    pause = pause.max(last.elapsed());
    later.finish().unwrap();
    assert!(shutdown.join().unwrap());
    (came.header.kind, pause)
}

#[test]
fn the_items_of_a_deferred_stream_do_not_count_behind_a_goodbye() {
    let _watchdog = Watchdog::start();
    loop {
        match ask_behind_items() {
            (Kind::Response, _) => return,
            // The machine paused for as long as the server lingers.
            (_, pause) if pause > Duration::from_millis(25) => {}
            (kind, pause) => panic!("answered with {kind:?} though nothing paused for more than {pause:?}"),
        }
    }
}

#[test]
fn a_handler_can_stop_the_server_that_it_serves() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.drain_timeout(Duration::from_secs(5)));
    let handle = serving.handle.clone();
    let stop = move |_: &ringwire::server::Request<'_>, reply: ringwire::server::Reply<'_>| {
        handle.stop();
        reply.send(b"so be it")
    };
    serving.handle.add_handler(WORK, stop).unwrap();
    let mut caller = serving.caller();
    assert_eq!(caller.call(WORK, b""), Ok(b"so be it".to_vec()));
    caller.until_closed();
    assert!(caller.goodbye.is_some());
    serving.join().unwrap();
}

const IDLE: Duration = Duration::from_millis(300);

/// One client asks nothing until the server has closed its connection, the other asks all the time. Whether the latter is
/// served to the end without a goodbye, and the longest time between two of its answers.
fn be_idle_and_busy() -> (bool, Duration) {
    let serving = Serving::start(|builder| builder.idle_timeout(Some(IDLE)));
    let (mut idle, mut busy) = (serving.caller(), serving.caller());
    // A connection is listed from its first answer on at the latest.
    idle.call(ECHO, b"").unwrap();
    busy.call(ECHO, b"").unwrap();
    let (mut pause, mut last) = (Duration::ZERO, Instant::now());
    loop {
        let is_over = serving.handle.connection(1).is_none();
        busy.ask(ECHO, b"busy");
        let came = busy.answer();
        pause = pause.max(last.elapsed());
        last = Instant::now();
        let is_served = came.is_ok_and(|came| came.payload == b"busy") && busy.goodbye.is_none();
        if is_over || !is_served {
            assert!(idle.until_closed().is_empty());
            assert!(idle.goodbye.unwrap().message.contains("idle timeout"));
            return (is_served, pause);
        }
    }
}

#[test]
fn a_client_that_asks_nothing_is_told_goodbye_and_a_busy_one_is_not() {
    let _watchdog = Watchdog::start();
    loop {
        match be_idle_and_busy() {
            (true, _) => return,
            // The machine paused: two requests may have been as far apart as the server bears.
            (false, pause) if pause >= IDLE / 2 => {}
            (false, pause) => panic!("told goodbye though nothing paused for more than {pause:?}"),
        }
    }
}

#[test]
fn a_path_is_free_for_the_next_server_as_soon_as_shutdown_returns() {
    let _watchdog = Watchdog::start();
    let first = Serving::start(|builder| builder);
    let path = first.path.clone();
    let mut caller = first.caller();
    caller.call(ECHO, b"").unwrap();
    assert!(first.handle.shutdown(Duration::from_secs(10)));
    let second = ringwire::Server::builder(&path).build().unwrap();
    let handle = second.handle();
    let thread = thread::spawn(move || second.serve());
    let mut again = super::caller::Caller::new(Stream::connect(&path).unwrap());
    assert_eq!(again.call(ECHO, b"new"), Ok(b"new".to_vec()));
    assert!(handle.shutdown(Duration::from_secs(10)));
    thread.join().unwrap().unwrap();
}
