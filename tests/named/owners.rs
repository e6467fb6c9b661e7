//! Who has a name, and which half of its ring.

use std::fs;
use std::thread;
use std::time::Duration;

use ringwire::{ErrorKind, NamedReceiver, NamedSender};

use super::common::{Random, Watchdog, say, second, setting, told};
use super::{Name, RING, event, kind};

/// The second process: has the ring until it is told otherwise.
pub(crate) fn owner() {
    let sender = NamedSender::create(&setting("NAME"), RING).unwrap();
    say("created");
    told();
    drop(sender);
}

#[test]
fn a_living_owner_keeps_its_name_and_a_dead_ones_is_taken_over() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut child = second("owner", &[("NAME", &name)]);
    assert_eq!(child.hear(), "created");
    let refused = NamedSender::create(&name, RING).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddressInUse);
    assert!(refused.to_string().contains(&*name), "{refused}");
    assert_eq!(kind(NamedReceiver::create(&name, RING)), ErrorKind::AddressInUse);
    child.kill();

    assert!(!name.is_free(), "the dead one leaves it behind");
    assert_eq!(kind(NamedReceiver::open(&name)), ErrorKind::ConnectionRefused);
    let mut receiver = NamedReceiver::create(&name, 2 * RING).unwrap();
    assert_eq!(kind(NamedReceiver::create(&name, RING)), ErrorKind::AddressInUse);
    let mut sender = NamedSender::open(&name).unwrap();
    sender.send(event(1), b"after the dead").unwrap();
    assert_eq!(receiver.receive().unwrap().payload().to_vec(), b"after the dead");
    drop(receiver);
    name.assert_free();
}

#[test]
fn whoever_has_opened_a_dead_owners_ring_keeps_what_it_had() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut child = second("owner", &[("NAME", &name)]);
    child.hear();
    let mut old = NamedReceiver::open(&name).unwrap();
    child.kill();
    let mut sender = NamedSender::create(&name, RING).unwrap();
    let mut new = NamedReceiver::open(&name).unwrap();
    sender.send(event(2), b"for the new one").unwrap();
    assert_eq!(kind(old.receive()), ErrorKind::PeerDied);
    drop(old);
    assert_eq!(new.receive().unwrap().header(), event(2));
    drop(sender);
    assert_eq!(kind(new.receive()), ErrorKind::PeerClosed);
    name.assert_free();
}

/// The second process: creates the ring each time it is told to, and says how that went.
pub(crate) fn racer() {
    while !told().is_empty() {
        match NamedSender::create(&setting("NAME"), RING) {
            Ok(sender) => {
                say("won");
                told();
                drop(sender);
                say("gone");
            }
            Err(error) => {
                say(&format!("{:?}", error.kind()));
                told();
                say("gone");
            }
        }
    }
}

#[test]
fn of_two_that_create_at_once_one_wins() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let model = Name::new();
    let stale = NamedSender::create(&model, RING).unwrap();
    let mut racers = [second("racer", &[("NAME", &name)]), second("racer", &[("NAME", &name)])];
    let mut wins = [0; 2];
    for round in 0..200 {
        // With nothing there, a dead creator's ring, and what one left that died sooner.
        match round % 4 {
            1 => drop(fs::copy(model.path(), name.path()).unwrap()),
            3 => fs::write(name.path(), b"").unwrap(),
            _ => {}
        }
        let (first, second) = (round % 2, (round + 1) % 2);
        racers[first].tell("go");
        racers[second].tell("go");
        let said = [racers[0].hear(), racers[1].hear()];
        let winner =
            said.iter().position(|word| word == "won").unwrap_or_else(|| panic!("{round}: {said:?}"));
        assert_eq!(said[1 - winner], "AddressInUse", "round {round}");
        wins[winner] += 1;
        for racer in &mut racers {
            racer.tell("drop");
            assert_eq!(racer.hear(), "gone");
        }
        name.assert_free();
    }
    println!("200 races: {wins:?} wins");
    let [one, two] = racers;
    one.join();
    two.join();
    drop(stale);
    model.assert_free();
}

fn more_rounds() -> u64 {
    std::env::var("RINGWIRE_NAMED_ROUNDS").map_or(1, |text| text.parse().unwrap())
}

/// The second process: creates and drops the ring without end.
pub(crate) fn maker() {
    say("begun");
    loop {
        drop(NamedSender::create(&setting("NAME"), 1 << 20).unwrap());
    }
}

#[test]
fn a_creator_killed_anywhere_leaves_nothing_that_the_next_cannot_take() {
    let _watchdog = Watchdog::start();
    let (mut random, mut left) = (Random(5), [0; 3]);
    for round in 0..40 * more_rounds() {
        let name = Name::new();
        let mut child = second("maker", &[("NAME", &name)]);
        child.hear();
        thread::sleep(Duration::from_micros(random.below(3000)));
        child.kill();
        let found = fs::metadata(name.path()).map(|metadata| metadata.len());
        left[match found {
            Err(_) => 0,
            Ok(0) => 1,
            Ok(_) => 2,
        }] += 1;
        if found.is_ok() {
            assert_eq!(kind(NamedReceiver::open(&name)), ErrorKind::ConnectionRefused, "round {round}");
        }
        drop(NamedReceiver::create(&name, RING).unwrap());
        name.assert_free();
    }
    println!("killed creators left nothing, an empty object, more: {left:?}");
}

/// The second process: opens the ring for sending, and has it until it is told otherwise.
pub(crate) fn opener() {
    let sender = NamedSender::open(&setting("NAME")).unwrap();
    say("opened");
    told();
    drop(sender);
}

#[test]
fn a_ring_is_opened_once() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let mut receiver = NamedReceiver::create(&name, RING).unwrap();
    assert!(!receiver.has_peer());
    let mut child = second("opener", &[("NAME", &name)]);
    assert_eq!(child.hear(), "opened");
    assert!(receiver.has_peer());
    for _ in 0..3 {
        assert_eq!(kind(NamedSender::open(&name)), ErrorKind::AddressInUse);
    }
    child.kill();
    assert!(!receiver.has_peer());
    let used = NamedSender::open(&name).unwrap_err();
    assert_eq!(used.kind(), ErrorKind::ConnectionRefused);
    assert!(used.is_retryable(), "once the owner has made another");
    assert_eq!(kind(receiver.receive()), ErrorKind::PeerDied);
    drop(receiver);
    assert_eq!(kind(NamedSender::open(&name)), ErrorKind::NotFound);
}

#[test]
fn the_creators_own_half_is_not_to_be_had() {
    let name = Name::new();
    let sender = NamedSender::create(&name, RING).unwrap();
    let error = NamedSender::open(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.to_string().contains("open the reading half"), "{error}");
    drop(sender);
    let receiver = NamedReceiver::create(&name, RING).unwrap();
    let error = NamedReceiver::open(&name).unwrap_err();
    assert!(error.to_string().contains("open the writing half"), "{error}");
    drop(receiver);
    name.assert_free();
}

#[test]
fn a_closed_ring_makes_room_for_another() {
    let name = Name::new();
    for round in 0..20 {
        let mut sender = NamedSender::create(&name, RING).unwrap();
        let mut receiver = NamedReceiver::open(&name).unwrap();
        assert_eq!((sender.name(), receiver.name()), (&*name, &*name));
        sender.send(event(round), &[]).unwrap();
        // Its name is free at once, whether the other side has read everything or not.
        sender.close();
        name.assert_free();
        assert_eq!(receiver.receive().unwrap().header(), event(round));
        assert_eq!(kind(receiver.receive()), ErrorKind::PeerClosed);
    }
}

/// The second process: opens the ring and sends, some time after it says so.
pub(crate) fn hasty_opener() {
    say("begun");
    let mut sender = NamedSender::open(&setting("NAME")).unwrap();
    sender.send(event(1), b"there").unwrap();
    told();
}

#[test]
fn an_opener_killed_anywhere_was_there_or_was_not() {
    let _watchdog = Watchdog::start();
    let (mut random, mut found) = (Random(6), [0; 3]);
    for round in 0..40 * more_rounds() {
        let name = Name::new();
        let mut receiver = NamedReceiver::create(&name, RING).unwrap();
        let mut child = second("hasty opener", &[("NAME", &name)]);
        child.hear();
        thread::sleep(Duration::from_micros(random.below(300)));
        child.kill();
        receiver.set_timeout(Some(Duration::from_millis(20)));
        let said = receiver.receive().map(|message| message.payload().to_vec());
        let (came, end) = match said {
            Ok(payload) => {
                assert_eq!(payload, b"there", "round {round}");
                (2, kind(receiver.receive()))
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => (0, ErrorKind::TimedOut),
            Err(error) => (1, error.kind()),
        };
        found[came] += 1;
        if came == 0 {
            // It never was there, and leaves its place to another.
            NamedSender::open(&name).unwrap().send(event(2), &[]).unwrap();
            assert_eq!(receiver.receive().unwrap().header(), event(2), "round {round}");
        } else {
            assert_eq!(end, ErrorKind::PeerDied, "round {round}");
            assert_eq!(kind(NamedSender::open(&name)), ErrorKind::ConnectionRefused, "round {round}");
        }
    }
    println!("killed openers were not there, were there, had sent: {found:?}");
}

#[test]
fn a_name_leads_to_its_living_owner_while_others_come_and_go() {
    let _watchdog = Watchdog::start();
    let name = Name::new();
    let wins: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=3)
            .map(|me| {
                let name = &name;
                scope.spawn(move || {
                    let mut wins = 0;
                    for _ in 0..1000 {
                        let mut sender = match NamedSender::create(name, RING) {
                            Ok(sender) => sender,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
                                continue;
                            }
                        };
                        wins += 1;
                        sender.send(event(me), &[]).unwrap();
                        let mut receiver = NamedReceiver::open(name).unwrap();
                        assert_eq!(receiver.receive().unwrap().header(), event(me), "another's ring");
                    }
                    wins
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("1000 tries each: {wins:?} wins");
    assert!(wins.iter().sum::<u64>() > 0);
    name.assert_free();
}
