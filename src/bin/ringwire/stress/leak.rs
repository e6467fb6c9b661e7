//! `stress leak`: waves of connections, and what the server still holds when each has gone.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::Client;

use super::Options;
use super::payload::{fill, is_mirrored};
use super::random::Random;
use super::server::{Footprint, MIRROR, Served};
use super::verdict::Verdict;
use crate::private_directory::PrivateDirectory;

const WARM_UPS: u32 = 8;
const SIZES: [usize; 3] = [60, 2 << 10, 10 << 10];
/// Threads that share the connections of a cycle between them.
const WORKERS: u64 = 4;
/// For connections and their threads to go.
const SETTLE: Duration = Duration::from_secs(10);
/// Threads wait for their next connection for 10 s.
const IDLE_THREADS: Duration = Duration::from_secs(20);
const GROWTH_KIB: f64 = 512.0;
const GROWTH_AT_THE_END_KIB: f64 = 256.0;

/// How much.
struct Plan {
    cycles: u32,
    least: u64,
    most: u64,
    rounds: u64,
}

/// Runs it.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let (seed, form) = (options.seed(), options.form());
    let mut verdict = Verdict::new("leak", options, seed);
    let (cycles, least, most, rounds) =
        form.choose((6, 10, 50, 10), (6, 100, 500, 100), (120, 100, 500, 100));
    let plan = Plan { cycles, least, most, rounds };
    let directory = PrivateDirectory::create()?;
    let served = Served::start(&directory.path().join("leak.sock"), &[])?;
    let mut client = served.client()?;
    let mut random = Random::new(seed);
    verdict.note("memory_kib_before_the_first_wave", Footprint::of(served.peer.id())?.memory.total_kib());
    // Whatever is touched once is touched now; what comes on top later is a leak. Several times: of each size, the
    // allocator keeps seven freed pieces for every thread.
    cycle(&served, &mut client, plan.most, plan.rounds)?;
    for _ in 0..WARM_UPS {
        Served::settle(&mut client, 1, SETTLE)?;
        cycle(&served, &mut client, plan.most, 1)?;
    }
    let start = settled(&served, &mut client, None)?;
    let (mut before, mut worst_kib, mut connections) = (start, 0.0_f64, 0);
    for number in 1..=plan.cycles {
        let count = random.between(plan.least, plan.most);
        cycle(&served, &mut client, count, plan.rounds)?;
        connections += count;
        let after = settled(&served, &mut client, Some(start))?;
        let growth = growth_kib(before, after);
        worst_kib = worst_kib.max(growth);
        verdict.tell(format_args!(
            "cycle {number}: {count} connections; {} KiB, {growth:+} KiB; stacks {} KiB, heap {} KiB, segments {} KiB",
            after.memory.total_kib(), after.memory.stacks_kib, after.memory.heap_kib, after.memory.segment_kib
        ));
        before = after;
    }
    judge(&mut verdict, [start, before], worst_kib);
    verdict.note("connections", connections);
    verdict.note("calls", connections * plan.rounds * SIZES.len() as u64);
    if options.form() != super::Form::Short {
        let started = Instant::now();
        // Of the cache of threads none is left but the one that serves this connection, and the one that accepts.
        while Footprint::of(served.peer.id())?.threads > 2 && started.elapsed() < IDLE_THREADS {
            thread::sleep(Duration::from_millis(100));
        }
        let idle = Footprint::of(served.peer.id())?;
        verdict.note("memory_kib_when_idle_threads_have_ended", idle.memory.total_kib());
        verdict.at_most("threads_when_idle_ones_have_ended", idle.threads as f64, 2.0);
    }
    drop(client);
    served.stop()?;
    verdict.finish()
}

fn growth_kib(before: Footprint, after: Footprint) -> f64 {
    after.memory.total_kib() as f64 - before.memory.total_kib() as f64
}

fn judge(verdict: &mut Verdict, [start, end]: [Footprint; 2], worst_kib: f64) {
    verdict.note("memory_kib_at_the_start", start.memory.total_kib());
    verdict.note("memory_kib_at_the_end", end.memory.total_kib());
    verdict.note("threads_at_the_start", start.threads);
    verdict.below("growth_of_the_worst_cycle_kib", worst_kib, GROWTH_KIB);
    verdict.below("growth_at_the_end_kib", growth_kib(start, end), GROWTH_AT_THE_END_KIB);
    for (name, start, end) in [
        ("descriptors", start.descriptors, end.descriptors),
        ("threads", start.threads, end.threads),
        ("mappings", start.mappings, end.mappings),
    ] {
        verdict.at_most(name, end as f64, start as f64);
    }
}

/// What the server holds once all connections but `client` have gone; waits for what is still on its way.
fn settled(
    served: &Served,
    client: &mut Client,
    start: Option<Footprint>,
) -> Result<Footprint, Box<dyn Error>> {
    let left = Served::settle(client, 1, SETTLE)?;
    if left > 1 {
        return Err(format!("{left} connections in the server, expected the one that asks").into());
    }
    let started = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = Footprint::of(served.peer.id())?;
        let is_back = start.is_none_or(|start| {
            now.descriptors <= start.descriptors
                && now.threads <= start.threads
                && now.mappings <= start.mappings
        });
        if is_back || started.elapsed() > SETTLE {
            return Ok(now);
        }
    }
}

/// `count` connections at once, `rounds` times each size on each of them, all of them gone behind it.
fn cycle(served: &Served, client: &mut Client, count: u64, rounds: u64) -> Result<(), Box<dyn Error>> {
    let threads: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let socket = served.socket.clone();
            thread::spawn(move || work(&socket, worker, count, rounds).map_err(|error| error.to_string()))
        })
        .collect();
    let mut connections = Vec::new();
    for thread in threads {
        connections.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    // All there at once, for a moment at least.
    let found = Served::status(client)?["connections"].as_u64();
    if found != Some(count + 1) {
        return Err(format!("{found:?} connections in the server, expected {}", count + 1).into());
    }
    Ok(())
}

/// What one worker's connections do.
fn work(socket: &Path, worker: u64, count: u64, rounds: u64) -> Result<Vec<Client>, Box<dyn Error>> {
    let patience = Some(Duration::from_secs(30));
    let mut connections = Vec::new();
    for number in (worker..count).step_by(WORKERS as usize) {
        connections.push((number, Client::builder(socket).call_timeout(patience).connect()?));
    }
    let mut payload = vec![0; SIZES[2]];
    for round in 0..rounds {
        for (number, client) in &mut connections {
            for bytes in SIZES {
                fill(&mut payload[..bytes], *number, round);
                let answer = client.call(MIRROR, &payload[..bytes])?.to_vec();
                if !is_mirrored(&answer, *number, round, bytes) {
                    return Err("a wrong answer".into());
                }
            }
        }
    }
    Ok(connections.into_iter().map(|(_, client)| client).collect())
}
