//! The clients: a thread for each, requests with contents of their own, and a look at every answer.

use std::error::Error;
use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::machine::pin;
use super::transport::{Connection, Plan};

/// On both sides: a thousand threads take what they touch of it.
const STACK_BYTES: usize = 64 << 10;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Latencies are counted with two digits, from 100 ns: a few lines of memory for each thread.
const DIGITS: u8 = 2;
const MIN_NS: u64 = 100;
const MAX_NS: u64 = 60_000_000_000;

/// Runs `count` closures that `make` gives, each on a thread of its own, until all have ended; the first error if any.
/// With `placed`, each thread on the next of the cores.
pub fn spawn_all<F>(
    count: u32,
    placed: bool,
    mut make: impl FnMut(u32) -> Result<F, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>>
where
    F: FnOnce() -> Result<(), Box<dyn Error>> + Send + 'static,
{
    let mut threads = Vec::new();
    for number in 0..count {
        let run = make(number)?;
        // Errors as text: they cross threads.
        threads.push(spawn(move || {
            place(placed, number).and_then(|()| run()).map_err(|error| error.to_string())
        })?);
    }
    let mut first = Ok(());
    for thread in threads {
        first = first.and(thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())));
    }
    first.map_err(Into::into)
}

/// Binds the calling thread to the core of connection `number`, the same in both processes.
fn place(placed: bool, number: u32) -> Result<(), Box<dyn Error>> {
    // As the library's server places its own: it counts connections from 1.
    if placed { Ok(pin(number as usize + 1)?) } else { Ok(()) }
}

fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(run)
}

/// What came of all requests.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were to be answered.
    pub requests: u64,
    /// Those that no right answer came to.
    pub lost: u64,
    /// Answers that another one overtook.
    pub reordered: u64,
    /// From the barrier, as the first client leaves it, to the last answer.
    pub elapsed: Duration,
    /// From before a turn's first request is written to behind the last answer that came with this one.
    pub latency: Histogram<u64>,
    /// Why the first connection that did not last ended.
    pub error: Option<String>,
}

impl Outcome {
    /// Requests answered in a second.
    pub fn per_second(&self) -> f64 {
        (self.requests - self.lost) as f64 / self.elapsed.as_secs_f64()
    }
}

/// Drives `connections`, all at once, each with the plan's requests, and again with as many until `at_least` has passed;
/// returns when all answers have come.
pub fn run(
    plan: &Plan,
    at_least: Duration,
    connections: Vec<impl Connection>,
) -> Result<Outcome, Box<dyn Error>> {
    let barrier = Arc::new(Barrier::new(connections.len()));
    let mut threads = Vec::new();
    for (number, connection) in (0..).zip(connections) {
        let (plan, barrier) = (*plan, Arc::clone(&barrier));
        let client = Client::new(plan, number)?;
        threads.push(spawn(move || client.run(connection, &barrier, at_least))?);
    }
    let mut measured: Option<(Instant, Instant)> = None;
    let mut outcome = Outcome {
        requests: 0,
        lost: 0,
        reordered: 0,
        elapsed: Duration::ZERO,
        latency: histogram()?,
        error: None,
    };
    for thread in threads {
        let client = thread.join().map_err(|_| "a client panicked")?;
        outcome.requests += client.requests;
        outcome.lost += client.requests - client.right;
        outcome.reordered += client.reordered;
        // By the clients' own clocks: this thread may have to wait for a core among them.
        let (started, ended) = measured.unwrap_or((client.started, client.ended));
        measured = Some((started.min(client.started), ended.max(client.ended)));
        for bucket in client.latency.iter_recorded() {
            outcome.latency.record_n(bucket.value_iterated_to(), bucket.count_at_value().into())?;
        }
        outcome.error = outcome.error.or(client.error);
    }
    outcome.elapsed = measured.map_or(Duration::ZERO, |(started, ended)| ended - started);
    Ok(outcome)
}

fn histogram<C: hdrhistogram::Counter>() -> Result<Histogram<C>, hdrhistogram::CreationError> {
    Histogram::new_with_bounds(MIN_NS, MAX_NS, DIGITS)
}

struct Client {
    plan: Plan,
    number: u32,
    /// When each request that is under way was begun, by its number modulo the window.
    begun: Vec<Instant>,
    next: u64,
    requests: u64,
    right: u64,
    reordered: u64,
    latency: Histogram<u32>,
    started: Instant,
    ended: Instant,
    error: Option<String>,
}

impl Client {
    fn new(plan: Plan, number: u32) -> Result<Self, Box<dyn Error>> {
        let now = Instant::now();
        let begun = vec![now; plan.window];
        let latency = histogram()?;
        Ok(Self {
            plan,
            number,
            begun,
            next: 0,
            requests: 0,
            right: 0,
            reordered: 0,
            latency,
            started: now,
            ended: now,
            error: None,
        })
    }

    fn run(mut self, mut connection: impl Connection, barrier: &Barrier, at_least: Duration) -> Self {
        let mut warm = connection.limit_waits(PATIENCE);
        warm = warm.and_then(|()| place(self.plan.placed, self.number));
        if warm.is_ok() {
            // Number 0: so that every page and thread is there.
            warm = self.exchange(&mut connection, 0..1);
            (self.right, self.reordered) = (0, 0);
            self.latency.reset();
        }
        barrier.wait();
        self.started = Instant::now();
        let mut done = warm;
        loop {
            let first = 1 + self.requests;
            self.requests += self.plan.messages;
            done = done.and_then(|()| self.exchange(&mut connection, first..first + self.plan.messages));
            if done.is_err() || self.started.elapsed() >= at_least {
                break;
            }
        }
        self.ended = Instant::now();
        self.error = done.err().map(|error| error.to_string());
        self
    }

    /// Keeps the window full until `numbers` are answered.
    fn exchange(
        &mut self,
        connection: &mut impl Connection,
        numbers: Range<u64>,
    ) -> Result<(), Box<dyn Error>> {
        let (window, mut submitted, mut answered) = (self.plan.window as u64, numbers.start, numbers.start);
        while answered < numbers.end {
            let to = numbers.end.min(answered + window);
            // One look at the clock for all that are sent together, before the first; and one for all answers that are
            // there, behind the last.
            let now = Instant::now();
            connection.submit(submitted..to, |number, payload| {
                self.begun[(number % window) as usize] = now;
                fill(payload, self.number, number);
            })?;
            submitted = to;
            let first = answered;
            connection.collect(|number, payload| {
                answered += 1;
                self.take(number, payload);
            })?;
            self.count_latency(first..answered);
        }
        Ok(())
    }

    /// Of the answers to `numbers`, which are there now. (A wrong one counts as that whose place it has.)
    fn count_latency(&mut self, numbers: Range<u64>) {
        let now = Instant::now();
        for number in numbers {
            let begun = self.begun[(number % self.plan.window as u64) as usize];
            self.latency.saturating_record((now - begun).as_nanos() as u64);
        }
    }

    #[inline]
    fn take(&mut self, number: u64, payload: &[u8]) {
        self.reordered += u64::from(number != self.next);
        self.next = number + 1;
        self.right += u64::from(payload.len() == self.plan.size && is_right(payload, self.number, number));
    }
}

/// The words of a payload count on from here.
fn first_word(connection: u32, number: u64) -> u64 {
    (u64::from(connection) << 40) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Writes what request `number` of a connection says.
#[inline]
fn fill(payload: &mut [u8], connection: u32, number: u64) {
    let (words, rest) = payload.as_chunks_mut();
    let mut word = first_word(connection, number);
    for target in words {
        *target = word.to_ne_bytes();
        word = word.wrapping_add(1);
    }
    let bytes = word.to_ne_bytes();
    rest.copy_from_slice(&bytes[..rest.len()]);
}

/// Whether this is what request `number` of a connection says.
#[inline]
fn is_right(payload: &[u8], connection: u32, number: u64) -> bool {
    let (words, rest) = payload.as_chunks();
    let mut word = first_word(connection, number);
    let mut difference = 0;
    for found in words {
        difference |= u64::from_ne_bytes(*found) ^ word;
        word = word.wrapping_add(1);
    }
    difference == 0 && *rest == word.to_ne_bytes()[..rest.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once, in the order of the requests, until one at which it breaks.
    struct Echo {
        payloads: std::collections::VecDeque<(u64, Vec<u8>)>,
        size: usize,
        fails_at: u64,
    }

    impl Connection for Echo {
        fn limit_waits(&mut self, _: Duration) -> Result<(), Box<dyn Error>> {
            Ok(())
        }
        fn submit(
            &mut self,
            numbers: Range<u64>,
            mut fill: impl FnMut(u64, &mut [u8]),
        ) -> Result<(), Box<dyn Error>> {
            for number in numbers {
                let mut payload = vec![0; self.size];
                fill(number, &mut payload);
                self.payloads.push_back((number, payload));
            }
            Ok(())
        }
        fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
            let (number, payload) = self.payloads.pop_front().ok_or("nothing under way")?;
            if number == self.fails_at {
                return Err("the connection broke".into());
            }
            take(number, &payload);
            Ok(())
        }
    }

    fn run_echoes(at_least: Duration, fails_at: u64) -> Outcome {
        let mode = super::super::super::mode::Mode::Block;
        let plan = Plan { connections: 2, messages: 50, size: 24, window: 4, mode, placed: false };
        let echo = || Echo { payloads: Default::default(), size: 24, fails_at };
        run(&plan, at_least, vec![echo(), echo()]).unwrap()
    }

    #[test]
    fn rounds_follow_each_other_until_the_time_has_passed() {
        let once = run_echoes(Duration::ZERO, u64::MAX);
        assert_eq!((once.requests, once.lost, once.reordered), (100, 0, 0));
        let at_least = Duration::from_millis(30);
        let outcome = run_echoes(at_least, u64::MAX);
        assert!(outcome.elapsed >= at_least && outcome.requests > 100 && outcome.requests.is_multiple_of(50));
        assert_eq!((outcome.lost, outcome.reordered, outcome.latency.len()), (0, 0, outcome.requests));
    }

    #[test]
    fn what_was_not_answered_in_the_round_that_broke_is_lost() {
        let outcome = run_echoes(Duration::from_secs(3600), 61);
        assert_eq!((outcome.requests, outcome.lost), (200, 2 * (100 - 60)));
        assert_eq!(outcome.error.as_deref(), Some("the connection broke"));
    }

    #[test]
    fn a_payload_is_right_for_its_own_request_alone() {
        for size in [0, 1, 7, 8, 13, 64, 1000] {
            let mut payload = vec![0; size];
            fill(&mut payload, 3, 70);
            assert!(is_right(&payload, 3, 70));
            if size >= 7 {
                assert!(!is_right(&payload, 4, 70) && !is_right(&payload, 3, 71));
            }
            if let Some(last) = payload.last_mut() {
                *last ^= 1;
                assert!(!is_right(&payload, 3, 70));
            }
        }
    }
}
