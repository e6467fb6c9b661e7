//! Servers that race for one path: exactly one wins, and nothing that is left keeps the next one out.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use ringwire::{ErrorKind, Listener, Stream};

use super::common::{Random, Second, Watchdog, say, second, told};
use super::{is_a, is_full_form, place, round_trip, send_back};

const ROUNDS: usize = 1_000;
/// How long the races of killed winners last in the short form.
const SHORT: Duration = Duration::from_secs(3);

/// Leaves what a killed server leaves: a socket that nobody listens at, and a lock that nobody holds. Nobody ever did
/// listen: a child that another test is just starting would have a copy of that for a moment.
fn leave_stale_files(path: &Path) {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    std::fs::write(path.with_extension("sock.lock"), "").unwrap();
}

fn nothing_is_left(path: &Path) -> bool {
    !path.exists() && !path.with_extension("sock.lock").exists()
}

/// 1 for who has it, 0 for who is told that another has.
fn won(result: &Result<Listener, ringwire::Error>) -> usize {
    match result {
        Ok(_) => 1,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
            0
        }
    }
}

#[test]
fn of_four_threads_that_race_a_thousand_times_exactly_one_wins() {
    const RACERS: usize = 4;
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let start = Barrier::new(RACERS);
    for round in 0..ROUNDS {
        if round % 2 == 1 {
            leave_stale_files(&path);
        }
        let race = || {
            start.wait();
            Listener::bind(&path)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(results.iter().map(won).sum::<usize>(), 1, "round {round}: {results:?}");
        drop(results);
        assert!(nothing_is_left(&path), "round {round}");
    }
}

/// The second process: binds when it is told to, and lets go when it is told to.
pub(crate) fn racer() {
    let path = super::socket();
    say("ready");
    while told() == "race" {
        let result = Listener::bind(&path);
        say(&won(&result).to_string());
        told();
        drop(result);
        say("let go");
    }
}

fn hear_wins(racers: &mut [Second]) -> usize {
    racers.iter_mut().map(|racer| racer.hear().parse::<usize>().unwrap()).sum()
}

#[test]
fn of_two_processes_that_race_a_thousand_times_exactly_one_wins() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut racers = [(); 2].map(|()| second("racer", &[("SOCKET", path.to_str().unwrap())]));
    let all = |racers: &mut [Second], what: &str, answer: &str| {
        racers.iter_mut().for_each(|racer| racer.tell(what));
        racers.iter_mut().filter(|_| !answer.is_empty()).for_each(|racer| assert_eq!(racer.hear(), answer));
    };
    racers.iter_mut().for_each(|racer| assert_eq!(racer.hear(), "ready"));
    for round in 0..ROUNDS {
        if round % 2 == 1 {
            leave_stale_files(&path);
        }
        // Who is told first has a small start.
        racers.reverse();
        all(&mut racers, "race", "");
        assert_eq!(hear_wins(&mut racers), 1, "round {round}");
        is_a(ErrorKind::AddressInUse, Listener::bind(&path));
        all(&mut racers, "let go", "let go");
        assert!(nothing_is_left(&path), "round {round}");
    }
    all(&mut racers, "end", "");
    racers.into_iter().for_each(Second::join);
}

/// The second process: binds again and again, and is killed at it.
pub(crate) fn doomed_racer() {
    let path = super::socket();
    say("ready");
    told();
    loop {
        let _ = won(&Listener::bind(&path));
    }
}

#[test]
fn a_racer_killed_at_any_moment_leaves_nothing_that_keeps_the_next_out() {
    let mut random = Random(5);
    let (_directory, path) = place();
    let path_text = path.to_str().unwrap();
    let started = Instant::now();
    let mut rounds = 0;
    let mut watchdog = Watchdog::start();
    while if is_full_form() { rounds < ROUNDS } else { started.elapsed() < SHORT } {
        rounds += 1;
        if rounds % 100 == 0 {
            watchdog = Watchdog::start();
        }
        let mut racers = [(); 2].map(|()| second("doomed racer", &[("SOCKET", path_text)]));
        racers.iter_mut().for_each(|racer| assert_eq!(racer.hear(), "ready"));
        racers.iter_mut().for_each(|racer| racer.tell("race"));
        thread::sleep(Duration::from_micros(random.below(1_500)));
        racers.iter().for_each(|racer| racer.signal(Signal::SIGKILL));
        racers.iter_mut().for_each(Second::kill);
        let mut listener = Listener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| send_back(listener.accept().unwrap()));
            round_trip(&mut Stream::connect(&path).unwrap(), 1);
        });
        drop(listener);
        assert!(nothing_is_left(&path), "round {rounds}");
    }
    drop(watchdog);
    println!("{rounds} pairs of racers killed");
}
