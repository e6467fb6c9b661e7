//! `bench latency`: one connection of the latency class, beside many that send without pause.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ringwire::client::{ECHO, rehearse_until};
use ringwire::transport::{Counter, DEFAULT_LATENCY_PRIORITY, LatencyGuard, enter_latency_class};
use ringwire::{Client, ClientBuilder, Server, WaitStrategy};
use serde_json::json;

use super::arena::Arena;
use super::bare::{Bare, answer, arena_bytes};
use super::limits::QUICK;
use super::machine::{cores, raise_descriptor_limit, steal_ticks};
use super::report::{Samples, print, rounded};
use crate::child::{say, spawn_heard};
use crate::private_directory::PrivateDirectory;

/// On both sides: a thousand threads take what they touch of it.
const STACK_BYTES: usize = 64 << 10;
/// What the second process says if it answers bare words too.
const BARE: &str = "bare";
/// Until all the others send.
const SETTLE: Duration = Duration::from_secs(1);
/// Where both cannot go on in turn, so many calls follow one exchange of bare words.
const BARE_PART: u32 = 10;
/// Upper ends of the histogram's classes in microseconds.
const CLASSES_US: [u64; 12] = [2, 3, 4, 5, 7, 10, 15, 20, 50, 100, 1_000, 10_000];

/// `bench latency`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Connections beside the one that is measured, each with a thread that calls without pause
    #[arg(long, default_value_t = 999)]
    others: u32,
    /// Bytes of their requests
    #[arg(long, default_value_t = 4096)]
    others_size: usize,
    /// Requests that are measured
    #[arg(long, default_value_t = 10_000)]
    messages: u32,
    /// Bytes of such a request, and of its answer
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Time over which they are spread: the longer, the less of theirs is still in the caches
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How long the server keeps the core behind each request, in milliseconds; 0: its thread sleeps. (Bare words between two
    /// threads that do the same are measured beside it: in turn if they sleep, before it if they poll)
    #[arg(long, default_value_t = 100)]
    busy_poll_ms: u64,
    /// Do not rehearse: each request finds a way that nobody has gone since the last
    #[arg(long)]
    cold: bool,
    /// Do not ask for the latency class: a connection like all others
    #[arg(long)]
    ordinary: bool,
    /// A hundredth of the messages, the time and the others: to try it out, not to quote
    #[arg(long)]
    quick: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// What the second process is told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    directory: PathBuf,
    connections: usize,
    busy_poll_ms: u64,
    /// Bytes of a bare message, and the memory for them.
    size: usize,
    arena: Option<String>,
}

/// The clients.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.messages == 0 || arguments.seconds == 0 {
        return Err("--messages and --seconds take at least 1".into());
    }
    let part = if arguments.quick { QUICK } else { 1 };
    let (others, messages) = (arguments.others.div_ceil(part), arguments.messages.div_ceil(part));
    let pause = Duration::from_secs(arguments.seconds.into()) / arguments.messages;
    raise_descriptor_limit()?;
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let bare = if arguments.ordinary { None } else { Some(Arena::create(arena_bytes(arguments.size))?) };
    let [count, busy_poll_ms, size] = [u64::from(others) + 1, arguments.busy_poll_ms, arguments.size as u64]
        .map(|number| number.to_string());
    let mut peer = vec!["peer", "bench", "latency", path, &count, &busy_poll_ms, &size];
    peer.extend(bare.as_ref().map(|(_, name)| name.as_str()));
    let mut server = spawn_heard(peer)?;
    let answers = server.hear()?.trim_end() == BARE;
    let bare = bare.filter(|_| answers).map(|(arena, _)| Bare::new(arena, arguments.size));
    let address = server.hear()?;
    let address = address.trim_end();
    let stop = Arc::new(Counter::new(0));
    // All are connected before the first of them sends: beside a thousand busy threads each would take its time.
    let clients = (0..others).map(|_| ordinary(address).connect()).collect::<Result<Vec<_>, _>>()?;
    // Their threads are there before this one enters the class: they would inherit its core.
    let begin = Arc::new(Barrier::new(clients.len() + 1));
    let crowd = start_crowd(clients, arguments.others_size, &begin, &stop)?;
    let measured = Measured::connect(address, arguments, bare);
    begin.wait();
    let mut measured = measured?;
    thread::sleep(SETTLE / part);
    let stolen_before = steal_ticks();
    let samples = measured.sample(arguments, messages, pause);
    stop.add(1);
    let mut answered = 0;
    for other in crowd {
        answered += other.join().map_err(|_| "a client panicked")??;
    }
    let ((mut samples, mut limit), realtime) =
        (samples?, measured.guard.as_ref().is_some_and(LatencyGuard::is_realtime));
    let counts = CLASSES_US.map(|us| samples.count_below(us * 1000));
    let histogram: serde_json::Map<_, _> =
        CLASSES_US.iter().zip(counts).map(|(us, count)| (format!("below_{us}_us"), count.into())).collect();
    let mut result = json!({
        "bench": "latency", "others": others, "others_size": arguments.others_size, "messages": messages,
        "size": arguments.size, "busy_poll_ms": arguments.busy_poll_ms, "rehearsed": !arguments.cold,
        "class": !arguments.ordinary, "realtime": realtime,
        "below_10_us": rounded(100.0 * samples.share_below(10_000)) , "p50_ns": samples.quantile(500),
        "p99_ns": samples.quantile(990), "p999_ns": samples.quantile(999), "max_ns": samples.quantile(1000),
        "histogram": histogram, "others_answered": answered, "steal_ticks": steal_ticks() - stolen_before,
    });
    if limit.len() > 0 {
        result["limit_below_10_us"] = rounded(100.0 * limit.share_below(10_000)).into();
        result["limit_p50_ns"] = limit.quantile(500).into();
        result["limit_p99_ns"] = limit.quantile(990).into();
        result["limit_max_ns"] = limit.quantile(1000).into();
    }
    print(arguments.json, &result)?;
    Ok(())
}

fn ordinary(address: &str) -> ClientBuilder {
    Client::builder(address).strategy(WaitStrategy::ParkAtOnce)
}

type Crowd = Vec<thread::JoinHandle<Result<u64, String>>>;

/// Clients that call without pause from `begin` until `stop`; each says how often it was answered.
fn start_crowd(
    clients: Vec<Client>,
    size: usize,
    begin: &Arc<Barrier>,
    stop: &Arc<Counter>,
) -> Result<Crowd, Box<dyn Error>> {
    let mut crowd = Crowd::new();
    for mut client in clients {
        let (begin, stop, request) = (Arc::clone(begin), Arc::clone(stop), vec![7; size]);
        let run = move || {
            let mut answered = 0;
            begin.wait();
            while stop.get() == 0 {
                client.call(ECHO, &request).map_err(|error| error.to_string())?;
                answered += 1;
            }
            Ok(answered)
        };
        crowd.push(thread::Builder::new().stack_size(STACK_BYTES).spawn(run)?);
    }
    Ok(crowd)
}

/// The client that is measured, on the calling thread.
struct Measured {
    client: Client,
    guard: Option<LatencyGuard>,
    /// With a real-time priority: what the machine itself can do.
    bare: Option<Bare>,
}

impl Measured {
    fn connect(address: &str, arguments: &Arguments, bare: Option<Bare>) -> Result<Self, Box<dyn Error>> {
        if arguments.ordinary {
            return Ok(Self { client: ordinary(address).connect()?, guard: None, bare: None });
        }
        let core = u32::try_from(*cores()?.first().ok_or("no core")?)?;
        let guard = enter_latency_class(core, DEFAULT_LATENCY_PRIORITY)?;
        let client = ordinary(address).latency_class(core).strategy(guard.wait_strategy()).connect()?;
        let bare = bare.filter(|_| guard.is_realtime());
        Ok(Self { client, guard: Some(guard), bare })
    }

    fn sample(
        &mut self,
        arguments: &Arguments,
        messages: u32,
        pause: Duration,
    ) -> Result<(Samples, Samples), Box<dyn Error>> {
        let (request, mut answer) = (vec![3; arguments.size], Vec::new());
        self.client.call_into(ECHO, &request, &mut answer)?;
        let mut samples = Samples::with_capacity(messages as usize);
        let mut limit = Samples::with_capacity(if self.bare.is_some() { messages as usize } else { 0 });
        let polls = arguments.busy_poll_ms > 0;
        if let Some(mut bare) = self.bare.take_if(|_| polls) {
            // Two pairs of threads that poll would take turns: so they do it one after the other.
            thread::sleep(Duration::from_millis(2 * arguments.busy_poll_ms));
            for _ in 0..messages.div_ceil(BARE_PART) {
                thread::sleep(pause);
                limit.push(timed(|| bare.call(&request)).1);
            }
            bare.end();
        }
        let pause = if self.bare.is_some() { pause / 2 } else { pause };
        for _ in 0..messages {
            if let Some(bare) = &mut self.bare {
                thread::sleep(pause);
                limit.push(timed(|| bare.call(&request)).1);
            }
            let mut call = || self.client.call_into(ECHO, &request, &mut answer).map(drop);
            let due = Instant::now() + pause;
            if arguments.cold {
                thread::sleep(pause);
            } else {
                rehearse_until(due, &mut call)?;
            }
            let (called, ns) = timed(call);
            called?;
            samples.push(ns);
            if answer != request {
                return Err("a wrong answer".into());
            }
        }
        Ok((samples, limit))
    }
}

/// What `call` returns, and how long it takes in nanoseconds.
#[inline(always)]
fn timed<T>(call: impl FnOnce() -> T) -> (T, u64) {
    let started = Instant::now();
    let returned = call();
    (returned, started.elapsed().as_nanos() as u64)
}

/// The server, which the first process ends.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let path = arguments.directory.join("latency.sock");
    let core = u32::try_from(*cores()?.first().ok_or("no core")?)?;
    let server = Server::builder(&path)
        .max_connections(arguments.connections)
        .wait_strategy(WaitStrategy::ParkAtOnce)
        .latency_class(core)
        .latency_busy_poll(Duration::from_millis(arguments.busy_poll_ms))
        .build()?;
    let answers = match &arguments.arena {
        None => Err("not asked for".into()),
        Some(name) => answer(name, core, arguments.size, arguments.busy_poll_ms > 0),
    };
    say(&answers.map_or_else(|error| format!("no bare words: {error}"), |()| BARE.to_owned()))?;
    say(path.to_str().ok_or("temporary directory with a name that is not UTF-8")?)?;
    Ok(server.serve()?)
}
