//! The other side's death, seen from every wait; a stop is none.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringwire::{Error, ErrorKind, NamedReceiver, NamedSender};

use super::common::{Second, Watchdog, assert_bytes, bytes, say, second, setting, told};
use super::{Name, RING, STRATEGIES, event, kind, strategy};

/// What the issue allows.
const SEEN_WITHIN: Duration = Duration::from_millis(200);
/// Commits of the second process before it dies.
const COMMITTED: u64 = 20;
const ROUNDS: usize = 3;

/// The second process: takes the other half in the other role, and waits for its end.
pub(crate) fn waiter() {
    let name = setting("NAME");
    match (setting("HALF").as_str(), setting("CREATES").as_str()) {
        ("writing", creates) => {
            let made =
                if creates == "yes" { NamedSender::create(&name, RING) } else { NamedSender::open(&name) };
            let mut sender = made.unwrap();
            say("there");
            while told() == "send" {
                for number in 0..COMMITTED {
                    sender.send(event(number), &bytes(number, 50)).unwrap();
                }
                say("sent");
            }
        }
        (_, creates) => {
            let made = if creates == "yes" {
                NamedReceiver::create(&name, RING)
            } else {
                NamedReceiver::open(&name)
            };
            let _receiver = made.unwrap();
            say("there");
            told();
        }
    }
}

enum Side {
    Sender(NamedSender),
    Receiver(NamedReceiver),
}

impl Side {
    /// This process's half, and the second process with the other one.
    fn beside(name: &Name, half: &str, creates: bool) -> (Self, Second) {
        let settings: [(&str, &str); 3] = [
            ("NAME", name),
            ("HALF", if half == "writing" { "reading" } else { "writing" }),
            ("CREATES", if creates { "no" } else { "yes" }),
        ];
        let take = || match (half, creates) {
            ("writing", true) => Self::Sender(NamedSender::create(name, RING).unwrap()),
            ("writing", false) => Self::Sender(NamedSender::open(name).unwrap()),
            (_, true) => Self::Receiver(NamedReceiver::create(name, RING).unwrap()),
            (_, false) => Self::Receiver(NamedReceiver::open(name).unwrap()),
        };
        let early = creates.then(take);
        let mut child = second("waiter", &settings);
        assert_eq!(child.hear(), "there");
        (early.unwrap_or_else(take), child)
    }

    fn set_wait_strategy(&mut self, name: &str) {
        match self {
            Self::Sender(sender) => sender.set_wait_strategy(strategy(name)),
            Self::Receiver(receiver) => receiver.set_wait_strategy(strategy(name)),
        }
    }

    /// Receives, or sends until there is no room, and goes on with it: until an error.
    fn wait_for_the_end(&mut self) -> Error {
        loop {
            let done = match self {
                Self::Sender(sender) => sender.send(event(0), &[1; 500]),
                Self::Receiver(receiver) => receiver.receive().map(drop),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }
}

/// How long after the end of the second process this one saw it.
fn seen_after(half: &str, creates: bool, strategy_name: &str) -> Duration {
    let name = Name::new();
    let (mut side, mut child) = Side::beside(&name, half, creates);
    side.set_wait_strategy(strategy_name);
    let waiting = thread::spawn(move || {
        let error = side.wait_for_the_end();
        (error, Instant::now(), side)
    });
    // It sleeps for long, if its strategy lets it.
    thread::sleep(Duration::from_millis(60));
    child.kill();
    let killed = Instant::now();
    let (error, seen, _side) = waiting.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::PeerDied, "{half} {creates} {strategy_name}: {error}");
    assert!(error.to_string().contains(&*name), "{error}");
    seen.saturating_duration_since(killed)
}

#[test]
fn a_death_is_seen_from_every_wait() {
    let _watchdog = Watchdog::start();
    for half in ["reading", "writing"] {
        for creates in [true, false] {
            for (name, _) in STRATEGIES {
                // The machine may have had something else to do; the best shows what it takes.
                let took = (0..ROUNDS).map(|_| seen_after(half, creates, name)).min().unwrap();
                println!("{half} half, creator: {creates}, {name}: seen after {took:?}");
                assert!(took < SEEN_WITHIN, "{half} {creates} {name}: {took:?}");
            }
        }
    }
}

#[test]
fn what_was_sent_before_a_death_is_received() {
    let _watchdog = Watchdog::start();
    for creates in [true, false] {
        let name = Name::new();
        let (side, mut child) = Side::beside(&name, "reading", creates);
        let Side::Receiver(mut receiver) = side else { panic!("the reading half") };
        child.tell("send");
        child.hear();
        child.kill();
        for number in 0..COMMITTED {
            let message = receiver.receive().unwrap();
            assert_eq!(message.header(), event(number));
            assert_bytes(&message.payload().to_vec(), &bytes(number, 50), "before the death");
        }
        for _ in 0..3 {
            assert_eq!(kind(receiver.receive()), ErrorKind::PeerDied);
        }
    }
}

#[test]
fn a_full_ring_of_a_dead_reader_says_so_without_waiting() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let (side, mut child) = Side::beside(&name, "writing", true);
    let Side::Sender(mut sender) = side else { panic!("the writing half") };
    child.kill();
    let error = (0..100).find_map(|number| sender.try_send(event(number), &[1; 500]).err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
}

#[test]
fn a_stopped_process_is_not_declared_dead() {
    let _watchdog = Watchdog::start();
    for creates in [true, false] {
        let name = Name::new();
        let (side, mut child) = Side::beside(&name, "reading", creates);
        let Side::Receiver(mut receiver) = side else { panic!("the reading half") };
        child.signal(Signal::SIGSTOP);
        receiver.set_timeout(Some(Duration::from_millis(350)));
        assert_eq!(kind(receiver.receive()), ErrorKind::TimedOut);
        assert!(receiver.has_peer());
        child.signal(Signal::SIGCONT);
        receiver.set_timeout(None);
        child.tell("send");
        for number in 0..COMMITTED {
            assert_eq!(receiver.receive().unwrap().header(), event(number));
        }
        child.hear();
        child.tell("end");
        child.join();
        assert_eq!(kind(receiver.receive()), ErrorKind::PeerClosed);
    }
}
