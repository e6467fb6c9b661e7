//! The process that is attacked: one thread serves a good neighbour, one survives the hostile connections.

use std::fs;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringwire::sync::Counter;
use ringwire::{Error, ErrorKind, Listener, Stream, WaitStrategy};

use super::common::{Random, descriptors, say, segments, setting, told};
use super::rounds::{pin, round_seed};
use super::scribble::use_somehow;

/// The deadlines of hostile connections: a receive sleeps on the ring for all of the first, and on the lifeline for most of
/// the second.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(8), Duration::from_millis(25)];
/// Calls of a round, unless the connection ends before.
const CALLS: u32 = 12;
/// A call has at most six waits. What is beyond is a hang, however busy the machine: the ticks count only time in which
/// this process runs.
const MOST_TICKS: u64 = 200;
const TICK: Duration = Duration::from_millis(10);

/// How the calls of hostile connections ended.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    messages: u64,
    sent: u64,
    /// By [`KINDS`].
    errors: [u64; KINDS.len()],
    worst_overshoot: Duration,
}

/// What a call may end with; anything else is a mistake.
const KINDS: [ErrorKind; 9] = [
    ErrorKind::CorruptPeer,
    ErrorKind::PeerClosed,
    ErrorKind::PeerDied,
    ErrorKind::TimedOut,
    ErrorKind::Full,
    ErrorKind::MessageTooLarge,
    ErrorKind::Abandoned,
    ErrorKind::InvalidInput,
    // Both rings full, and as much set aside as the message limit allows.
    ErrorKind::ResourceExhausted,
];

impl Tally {
    fn count(&mut self, ended: &Result<bool, Error>, beyond: Duration) {
        self.worst_overshoot = self.worst_overshoot.max(beyond);
        match ended {
            Ok(true) => self.messages += 1,
            Ok(false) => self.sent += 1,
            Err(error) => match KINDS.iter().position(|kind| *kind == error.kind()) {
                Some(index) => self.errors[index] += 1,
                None => panic!("a hostile peer causes {error:?}"),
            },
        }
    }

    fn text(&self) -> String {
        let errors: Vec<String> = KINDS
            .iter()
            .zip(self.errors)
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{kind:?} {count}"))
            .collect();
        format!(
            "{} rounds: {} messages, {} sent, {}; worst call {:?} beyond its deadline",
            self.rounds,
            self.messages,
            self.sent,
            errors.join(", "),
            self.worst_overshoot
        )
    }
}

/// Counts time in which this process runs: a stopped one does not hang.
fn start_ticks() -> Arc<Counter> {
    let ticks = Arc::new(Counter::new(0));
    let counted = Arc::clone(&ticks);
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            counted.add(1);
        }
    });
    ticks
}

/// Resident memory in KiB: `VmRSS`, or its peak `VmHWM`.
pub(super) fn resident_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The second process. Serves its first client until that leaves; then does what it is told: `attack N` survives the next
/// `N` clients, `busy` serves the next one as a good one, `weigh` says what it holds, nothing ends it.
pub(super) fn victim() {
    let mut listener = Listener::builder(setting("SOCKET"))
        .max_message_bytes(256 << 10)
        .max_ring_bytes(1 << 20)
        .bind()
        .unwrap();
    say("bound");
    let neighbour = serve_neighbour(listener.accept().unwrap());
    pin(&setting("CORE"));
    let ticks = start_ticks();
    let seed: u64 = setting("SEED").parse().unwrap();
    let mut tally = Tally::default();
    loop {
        let order = told();
        match order.split_once(' ') {
            Some(("attack", rounds)) => {
                for _ in 0..rounds.parse::<u64>().unwrap() {
                    survive(listener.accept().unwrap(), seed, &mut tally, &ticks);
                }
                say(&tally.text());
            }
            _ if order == "busy" => {
                echo(&mut listener.accept().unwrap());
                say("idle");
            }
            _ if order == "weigh" => {
                let id = std::process::id();
                let (rss, peak) = (resident_kib("VmRSS:"), resident_kib("VmHWM:"));
                say(&format!("{rss} {peak} {} {} {}", descriptors(id), segments(id), listener.connections()));
            }
            _ => break,
        }
    }
    say(&neighbour.join().unwrap().to_string());
}

fn serve_neighbour(mut stream: Stream) -> JoinHandle<u64> {
    if setting("CORE") != "any" {
        stream.set_wait_strategy(WaitStrategy::ParkAtOnce);
    }
    let core = setting("NEIGHBOUR_CORE");
    thread::spawn(move || {
        pin(&core);
        echo(&mut stream)
    })
}

/// Sends back what comes, and says how many that were.
fn echo(stream: &mut Stream) -> u64 {
    let (mut buffer, mut count) = (Vec::new(), 0);
    loop {
        match stream.receive_into(&mut buffer) {
            Ok(header) => stream.send(header, &buffer).unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
                return count;
            }
        }
        count += 1;
    }
}

/// One hostile connection: each call comes back in time with something that is allowed.
fn survive(mut stream: Stream, seed: u64, tally: &mut Tally, ticks: &Counter) {
    let mut random = Random(!round_seed(seed, tally.rounds) | 1);
    let timeout = TIMEOUTS[random.below(2) as usize];
    stream.set_receive_timeout(Some(timeout));
    stream.set_send_timeout(Some(timeout));
    stream.set_wait_strategy(match random.below(6) {
        0 => WaitStrategy::SpinOnly,
        1 | 2 => WaitStrategy::SpinThenPark,
        _ => WaitStrategy::ParkAtOnce,
    });
    for _ in 0..CALLS {
        let (started, first_tick) = (Instant::now(), ticks.get());
        let ended = use_somehow(&mut random, &mut stream);
        let spent = ticks.get() - first_tick;
        assert!(spent < MOST_TICKS, "round {} of seed {seed}: {ended:?} after {spent} ticks", tally.rounds);
        tally.count(&ended, started.elapsed().saturating_sub(timeout));
        let last = [ErrorKind::CorruptPeer, ErrorKind::PeerDied, ErrorKind::PeerClosed];
        if ended.is_err_and(|error| last.contains(&error.kind())) && random.below(2) == 0 {
            break;
        }
    }
    tally.rounds += 1;
}
