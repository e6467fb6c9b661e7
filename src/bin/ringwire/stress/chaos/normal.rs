//! Those who do nothing wrong: ten calls a second, and beside them a full window, both through reconnecting clients.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringwire::client::ReconnectingClient;
use ringwire::{Client, ErrorKind};

use super::super::payload::{fill, is_mirrored};
use super::super::random::Random;
use super::super::server::{MIRROR, now_ns};
use super::PATIENCE;

const BETWEEN_CALLS: Duration = Duration::from_millis(100);
const SIZES: [u64; 3] = [60, 2 << 10, 10 << 10];
const WINDOW: usize = 16;
/// Between two windows: the machine is for the others too.
const BETWEEN_WINDOWS: Duration = Duration::from_millis(2);
/// Whoever was in flight when a server died may notice a little later.
const NOTICE_NS: u64 = 200_000_000;

/// When nobody was served.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    pub killed_ns: u64,
    pub listening_ns: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    /// The connection was lost, and the caller was told so.
    Lost,
    Failed(String),
}

#[derive(Debug)]
struct Call {
    begun_ns: u64,
    ended_ns: u64,
    outcome: Outcome,
}

/// A client that comes back however long the server is away.
fn client(socket: &Path, seed: u64) -> ReconnectingClient {
    let builder = Client::builder(socket).call_timeout(Some(PATIENCE)).timeout(PATIENCE);
    builder.reconnecting().max_attempts(None).seed(seed).build()
}

/// Ten calls a second.
pub struct Caller {
    thread: JoinHandle<Result<Calls, String>>,
    orders: Sender<()>,
}

impl Caller {
    pub fn start(socket: &Path, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut client = client(socket, seed);
        client.connect(Some(PATIENCE))?;
        let (orders, ordered) = channel();
        let thread = thread::spawn(move || {
            let (mut calls, mut random, mut number) = (Calls::default(), Random::new(seed ^ 1), 0);
            loop {
                let mut is_lost = true;
                // Whoever is told that the connection was lost calls again at once.
                while is_lost {
                    number += 1;
                    let call = call(&mut client, &mut random, number).map_err(|error| error.to_string())?;
                    is_lost = call.outcome == Outcome::Lost;
                    calls.0.push(call);
                }
                match ordered.recv_timeout(BETWEEN_CALLS) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Ok(calls),
                }
            }
        });
        Ok(Self { thread, orders })
    }

    /// Has it call at once, without waiting for its time.
    pub fn call_now(&self) {
        // If it has ended, its end says why.
        let _ = self.orders.send(());
    }

    /// All that it has called.
    pub fn end(self) -> Result<Calls, Box<dyn Error>> {
        drop(self.orders);
        Ok(self.thread.join().map_err(|_| "the calling thread panicked")??)
    }
}

const CALLER: u64 = 1;

fn call(client: &mut ReconnectingClient, random: &mut Random, number: u64) -> Result<Call, Box<dyn Error>> {
    let bytes = random.between(1, random.clone().one_of(&SIZES)) as usize;
    let mut request = vec![0; bytes];
    fill(&mut request, CALLER, number);
    let begun_ns = now_ns()?;
    let answered = if number.is_multiple_of(2) {
        client.call_idempotent(MIRROR, &request).map(|reply| reply.to_vec())
    } else {
        client.call(MIRROR, &request).map(|reply| reply.to_vec())
    };
    let outcome = match answered {
        Ok(answer) if is_mirrored(&answer, CALLER, number, bytes) => Outcome::Right,
        Ok(_) => Outcome::Wrong,
        Err(error) if error.kind() == ErrorKind::ConnectionLost => Outcome::Lost,
        Err(error) => Outcome::Failed(format!("{:?}: {error}", error.kind())),
    };
    Ok(Call { begun_ns, ended_ns: now_ns()?, outcome })
}

/// What became of all calls.
#[derive(Debug, Default)]
pub struct Calls(Vec<Call>);

impl Calls {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn with(&self, outcome: &Outcome) -> usize {
        self.0.iter().filter(|call| call.outcome == *outcome).count()
    }

    pub fn right(&self) -> usize {
        self.with(&Outcome::Right)
    }

    pub fn lost(&self) -> usize {
        self.with(&Outcome::Lost)
    }

    pub fn wrong(&self) -> u64 {
        self.with(&Outcome::Wrong) as u64
    }

    pub fn slowest_ms(&self) -> f64 {
        self.0.iter().map(|call| (call.ended_ns - call.begun_ns) as f64 / 1e6).fold(0.0, f64::max).round()
    }

    /// From the moment at which the server listened again to the first right answer; `None` if there was none in time.
    pub fn recovery_ms(&self, restart: &Restart) -> Option<f64> {
        let answered = self
            .0
            .iter()
            .find(|call| call.outcome == Outcome::Right && call.ended_ns > restart.listening_ns)?;
        let waited_ns = answered.ended_ns - restart.listening_ns.max(answered.begun_ns);
        (waited_ns < PATIENCE.as_nanos() as u64).then_some(waited_ns as f64 / 1e6)
    }

    /// Calls that failed, or were lost, though no server was killed.
    pub fn unexplained(&self, restarts: &[Restart]) -> Vec<String> {
        let is_explained = |call: &Call| {
            restarts.iter().any(|restart| {
                call.ended_ns >= restart.killed_ns && call.begun_ns <= restart.listening_ns + NOTICE_NS
            })
        };
        self.0
            .iter()
            .filter_map(|call| match &call.outcome {
                Outcome::Failed(why) => Some(why.clone()),
                Outcome::Lost if !is_explained(call) => Some("connection lost without a restart".into()),
                _ => None,
            })
            .collect()
    }
}

/// What became of the requests of a full window.
#[derive(Debug, Default)]
pub struct Pressed {
    pub sent: u64,
    pub right: u64,
    pub wrong: u64,
    pub lost: u64,
    pub other: Vec<String>,
}

impl Pressed {
    /// Requests that came to an end, whichever it was.
    pub fn ended(&self) -> u64 {
        self.right + self.wrong + self.lost + self.other.len() as u64
    }
}

/// A window that is always full.
pub struct Load {
    thread: JoinHandle<Pressed>,
    stop: Sender<()>,
}

const LOAD: u64 = 2;

impl Load {
    pub fn start(socket: &Path, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut client = client(socket, seed ^ 2);
        client.connect(Some(PATIENCE))?;
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            let (mut pressed, mut number) = (Pressed::default(), 0);
            while stopped.recv_timeout(BETWEEN_WINDOWS) == Err(RecvTimeoutError::Timeout) {
                press(&mut client, &mut pressed, &mut number);
            }
            pressed
        });
        Ok(Self { thread, stop })
    }

    pub fn end(self) -> Result<Pressed, Box<dyn Error>> {
        drop(self.stop);
        Ok(self.thread.join().map_err(|_| "the loading thread panicked")?)
    }
}

/// Sends a window, and waits for what becomes of each request.
fn press(client: &mut ReconnectingClient, pressed: &mut Pressed, number: &mut u64) {
    let mut tickets = Vec::with_capacity(WINDOW);
    for _ in 0..WINDOW {
        *number += 1;
        let bytes = 1 + (*number * 97 % 1500) as usize;
        let mut request = vec![0; bytes];
        fill(&mut request, LOAD, *number);
        match client.submit(MIRROR, &request) {
            Ok(ticket) => {
                pressed.sent += 1;
                tickets.push((ticket, *number, bytes));
            }
            // It was not accepted. Who waits for the server has it at once, and not only at the next attempt's time, which a
            // server that is killed again and again may miss again and again.
            Err(_) => _ = client.connect(Some(PATIENCE)),
        }
    }
    for (ticket, number, bytes) in tickets {
        match client.collect(ticket) {
            Ok(reply) if is_mirrored(&reply.to_vec(), LOAD, number, bytes) => pressed.right += 1,
            Ok(_) => pressed.wrong += 1,
            Err(error) if error.kind() == ErrorKind::ConnectionLost => pressed.lost += 1,
            Err(error) => pressed.other.push(format!("{:?}: {error}", error.kind())),
        }
    }
}
