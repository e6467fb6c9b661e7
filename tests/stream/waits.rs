//! Timeouts, and waits that something else ends.

use std::thread;
use std::time::{Duration, Instant};

use ringwire::transport::{Deadline, Received};
use ringwire::{Backpressure, ErrorKind, Stream, WaitStrategy};

use super::common::Watchdog;
use super::{STRATEGIES, each_pair, event};

/// In the spin, in the futex stage, on the lifeline.
const TIMEOUTS_MS: [u64; 5] = [0, 1, 4, 8, 40];

#[test]
fn a_receive_ends_at_its_timeout_and_not_before() {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
        for timeout_ms in TIMEOUTS_MS {
            let timeout = Duration::from_millis(timeout_ms);
            two.set_receive_timeout(Some(timeout));
            let started = Instant::now();
            let error = two.receive().map(drop).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, true));
            assert_eq!(error.to_string(), "timed out");
            assert_eq!(two.receive_into(&mut Vec::new()).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(two.read_message().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(started.elapsed() >= 3 * timeout);
        }
        one.send(event(1), b"later").unwrap();
        assert_eq!(two.receive().unwrap().payload().to_vec(), b"later");
    }
}

#[test]
fn a_receive_with_no_time_at_all_still_takes_what_is_there() {
    each_pair(|mut one, mut two, _, ring_bytes| {
        two.set_receive_timeout(Some(Duration::ZERO));
        one.send(event(1), b"there").unwrap();
        assert_eq!(two.receive().unwrap().payload().to_vec(), b"there");
        let large = vec![5; ring_bytes as usize * 2 / 3];
        one.send(event(2), &large).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(two.receive_into(&mut buffer).unwrap(), event(2));
        assert_eq!(buffer.len(), large.len());
    });
}

#[test]
fn a_send_ends_at_its_timeout_and_not_before() {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
        while one.try_send(event(0), &[0; 100]).is_ok() {}
        for timeout_ms in TIMEOUTS_MS {
            let timeout = Duration::from_millis(timeout_ms);
            one.set_send_timeout(Some(timeout));
            let started = Instant::now();
            assert_eq!(one.send(event(1), &[0; 100]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(one.send(event(1), &[0; 9000]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(one.reserve(event(1), 100).map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(started.elapsed() >= 3 * timeout);
        }
        while two.try_receive().unwrap().is_some() {}
        one.send(event(2), b"later").unwrap();
        assert_eq!(two.receive().unwrap().payload().to_vec(), b"later");
    }
}

#[test]
fn a_sleeper_is_woken_in_every_stage_of_its_wait() {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
        let sender = thread::spawn(move || {
            for (number, pause_us) in
                [0, 5, 50, 500, 3_000, 7_000, 12_000, 60_000, 9_900, 10_100].into_iter().enumerate()
            {
                thread::sleep(Duration::from_micros(pause_us));
                one.send(event(number as u64), b"").unwrap();
            }
            one
        });
        for number in 0..10 {
            assert_eq!(two.receive().unwrap().header(), event(number));
        }
        drop(sender.join().unwrap());
    }
}

/// Two threads that answer each other; a lost wake-up would leave both asleep.
#[test]
fn many_hand_offs_lose_no_wake_up() {
    let _watchdog = Watchdog::start();
    for (strategy, rounds) in [
        (WaitStrategy::ParkAtOnce, 20_000),
        (WaitStrategy::SpinThenPark, 20_000),
        (WaitStrategy::SpinOnly, 300),
    ] {
        let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
        let echo = thread::spawn(move || {
            for number in 0..rounds {
                assert_eq!(two.receive().unwrap().header(), event(number));
                two.send(event(number), &[1; 30]).unwrap();
            }
            two
        });
        for number in 0..rounds {
            one.send(event(number), &[2; 40]).unwrap();
            assert_eq!(one.receive().unwrap().header(), event(number));
        }
        drop(echo.join().unwrap());
    }
}

#[test]
fn the_strategy_can_change_at_any_time() {
    let (mut one, mut two) = Stream::pair().unwrap();
    let echo = thread::spawn(move || {
        for number in 0..60 {
            two.set_wait_strategy(STRATEGIES[number as usize % 3]);
            assert_eq!(two.receive().unwrap().header(), event(number));
            two.send(event(number), b"").unwrap();
        }
        two
    });
    for number in 0..60 {
        one.set_wait_strategy(STRATEGIES[number as usize / 3 % 3]);
        one.send(event(number), b"").unwrap();
        assert_eq!(one.receive().unwrap().header(), event(number));
    }
    drop(echo.join().unwrap());
}

#[test]
fn a_deadline_of_its_own_bounds_a_send_whatever_the_backpressure() {
    let _watchdog = Watchdog::start();
    for backpressure in [Backpressure::Wait, Backpressure::Fail, Backpressure::Drop] {
        let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
        one.set_backpressure(backpressure);
        one.set_send_timeout(Some(Duration::from_secs(1_000)));
        let mut filled = 0;
        while one.try_send(event(0), &[0; 100]).is_ok() {
            filled += 1;
        }
        for timeout_ms in [0, 10] {
            let due = || Deadline::after(Duration::from_millis(timeout_ms));
            let started = Instant::now();
            let sender = one.halves().0;
            let refused = [
                sender.send_until(event(1), &[0; 100], due()).unwrap_err(),
                sender.send_until(event(1), &[0; 9000], due()).unwrap_err(),
                sender.reserve_until(event(1), 100, due()).map(drop).unwrap_err(),
                one.send_until(event(1), &[0; 100], due()).unwrap_err(),
                one.reserve_until(event(1), 100, due()).map(drop).unwrap_err(),
            ];
            assert!(refused.iter().all(|error| error.kind() == ErrorKind::TimedOut), "{refused:?}");
            assert!(started.elapsed() >= 5 * Duration::from_millis(timeout_ms));
        }
        // With room in time they go through.
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            for _ in 0..filled {
                assert_eq!(two.receive().unwrap().header(), event(0));
            }
            [(); 2].map(|()| two.receive().unwrap().payload().to_vec())
        });
        one.send_until(event(2), &[2; 100], Deadline::NEVER).unwrap();
        let mut slot = one.reserve_until(event(3), 100, Deadline::NEVER).unwrap();
        slot.write(&[3; 50]);
        slot.commit();
        assert_eq!(reader.join().unwrap(), [vec![2; 100], vec![3; 50]]);
        assert_eq!(one.dropped(), 0);
    }
}

#[test]
fn receiving_anything_ends_at_its_deadline_and_takes_every_form() {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
        for timeout_ms in [0, 12] {
            let deadline = Deadline::after(Duration::from_millis(timeout_ms));
            assert_eq!(two.receive_any(deadline).map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(deadline.has_passed());
        }
        one.send(event(1), b"whole").unwrap();
        one.send(event(2), &[7; 3000]).unwrap();
        match two.receive_any(Deadline::NEVER).unwrap() {
            Received::Whole(message) => {
                assert_eq!((message.header(), message.payload().to_vec()), (event(1), b"whole".to_vec()));
            }
            other => panic!("{other:?}"),
        }
        match two.halves().1.receive_any(Deadline::NEVER).unwrap() {
            Received::Pieces(mut reader) => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
                assert_eq!((reader.header(), bytes), (event(2), vec![7; 3000]));
            }
            other => panic!("{other:?}"),
        }
        drop(one);
        assert_eq!(two.receive_any(Deadline::NEVER).map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
    }
}
