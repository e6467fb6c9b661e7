//! `bench memory`: what a server's connections cost it, as another process reads it.

use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use ringwire::buffer::{Buffer, Pool, PoolConfig};
use ringwire::transport::limit_malloc_arenas;
use serde_json::json;

use super::churn;
use super::machine::raise_descriptor_limit;
use super::many::{Called, Connection, Plan, Transport};
use super::mode::Mode;
use super::procfs::{Activity, Memory, status_kib};
use super::report::{print, rounded};
use crate::child::{Peer, say, spawn_heard};
use crate::private_directory::PrivateDirectory;

/// Half of the connections exchange messages of the one size, half of the other.
const SIZES: [usize; 2] = [64, 1024];
/// Round trips on each connection, so that whatever a connection ever touches is touched.
const ROUND_TRIPS: u64 = 200;
/// Until traffic is in full swing, or has ceased: an idle connection is on the lifeline after 10 ms.
/// Each keeps some of what its threads have freed.
const ARENAS: u32 = 2;
const SETTLE: Duration = Duration::from_millis(500);

/// `bench memory`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Clients, each with a connection of its own
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// Further connections, for what each of them costs
    #[arg(long, default_value_t = 100)]
    further: u32,
    /// Measure while all connections are in use
    #[arg(long, conflicts_with = "idle")]
    active: bool,
    /// Measure when all connections have come to rest (unless --active)
    #[arg(long)]
    idle: bool,
    /// Have the buffer of 1 MiB lent too
    #[arg(long)]
    large: bool,
    /// Instead: open and close all connections so many times, and look at what is left
    #[arg(long)]
    cycles: Option<u32>,
    /// A tenth of the connections, and no wait for idle threads to end: to try it out, not to quote
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
    connections: u32,
    #[arg(action = clap::ArgAction::Set)]
    large: bool,
    #[arg(action = clap::ArgAction::Set)]
    pool: bool,
}

fn plan(connections: u32, size: usize) -> Plan {
    Plan { connections, messages: 1, size, window: 1, mode: Mode::Adaptive, placed: false }
}

/// The clients' process, which also reads what the server has.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let part = if arguments.quick { 10 } else { 1 };
    let (first, further) = (arguments.connections.div_ceil(part), arguments.further.div_ceil(part));
    if first == 0 || further == 0 {
        return Err("--connections and --further need at least 1".into());
    }
    raise_descriptor_limit()?;
    let all = first.checked_add(further).ok_or("--connections and --further are too many")?;
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let large = if arguments.large { "true" } else { "false" };
    let pool = if arguments.cycles.is_none() { "true" } else { "false" };
    let mut server = spawn_heard(["peer", "bench", "memory", path, &all.to_string(), large, pool])?;
    let address = server.hear()?;
    if let Some(cycles) = arguments.cycles {
        let wait = if arguments.quick { Duration::ZERO } else { churn::IDLE_THREADS_END };
        return churn::run(&server, address.trim_end(), first, cycles.max(1), wait, arguments.json);
    }
    let mut crowd = Crowd { address: address.trim_end().to_owned(), connections: Vec::new() };
    crowd.grow(first)?;
    let (few, beside) = crowd.measure(&server, arguments.active)?;
    crowd.grow(further)?;
    let (many, _) = crowd.measure(&server, arguments.active)?;
    drop(crowd);
    drop(server);
    let each = |now: u64, before: u64| rounded((now as f64 - before as f64) / f64::from(further));
    let result = json!({
        "bench": "memory", "layer": "call", "connections": first, "active": arguments.active, "large": arguments.large,
        "private_kib": few.private_kib, "segment_kib": few.segment_kib, "total_kib": few.total_kib(),
        "stacks_kib": few.stacks_kib, "heap_kib": few.heap_kib,
        "other_kib": few.private_kib - few.stacks_kib - few.heap_kib,
        "rss_kib": beside.rss_kib, "page_tables_kib": beside.page_tables_kib, "threads": beside.threads,
        "further": further,
        "kib_per_connection": each(many.total_kib(), few.total_kib()),
        "stack_kib_per_connection": each(many.stacks_kib, few.stacks_kib),
        "heap_kib_per_connection": each(many.heap_kib, few.heap_kib),
        "segment_kib_per_connection": each(many.segment_kib, few.segment_kib),
    });
    print(arguments.json, &result)?;
    Ok(())
}

/// What is not part of the sum.
struct Beside {
    rss_kib: u64,
    page_tables_kib: u64,
    threads: u64,
}

type Client = <Called as Transport>::Connection;

/// All clients, which one thread serves in turn.
struct Crowd {
    address: String,
    connections: Vec<Client>,
}

impl Crowd {
    fn grow(&mut self, count: u32) -> Result<(), Box<dyn Error>> {
        for (number, size) in (0..count).zip(SIZES.into_iter().cycle()) {
            let connected = Called::connect(&plan(1, size), &self.address, number..number + 1)?;
            self.connections.extend(connected);
        }
        for _ in 0..ROUND_TRIPS {
            exchange(&mut self.connections)?;
        }
        Ok(())
    }

    fn measure(&mut self, server: &Peer, active: bool) -> Result<(Memory, Beside), Box<dyn Error>> {
        if !active {
            thread::sleep(SETTLE);
            return read(server.id());
        }
        let (stop, stopped) = channel();
        let mut connections = std::mem::take(&mut self.connections);
        let traffic = thread::spawn(move || {
            let ended = exchange_until(&mut connections, &stopped).map_err(|error| error.to_string());
            ended.map(|()| connections)
        });
        thread::sleep(SETTLE);
        let found = read(server.id());
        drop(stop);
        self.connections = traffic.join().map_err(|_| "the clients panicked")??;
        found
    }
}

fn read(id: u32) -> Result<(Memory, Beside), Box<dyn Error>> {
    let beside = Beside {
        rss_kib: status_kib(id, "VmRSS:"),
        page_tables_kib: status_kib(id, "VmPTE:"),
        threads: Activity::of(id)?.threads,
    };
    Ok((Memory::of(id)?, beside))
}

fn exchange_until(connections: &mut [Client], stopped: &Receiver<()>) -> Result<(), Box<dyn Error>> {
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        exchange(connections)?;
    }
    Ok(())
}

/// A round trip on each.
fn exchange(connections: &mut [Client]) -> Result<(), Box<dyn Error>> {
    for connection in connections {
        connection.submit(0..1, |_, payload| payload.fill(7))?;
        connection.collect(|_, _| ())?;
    }
    Ok(())
}

/// The server, which the first process ends.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    // As a server with very many threads does first of all.
    limit_malloc_arenas(ARENAS)?;
    let plan = plan(arguments.connections, SIZES[1]);
    let lent = if arguments.pool { lend_all(arguments.large)? } else { Vec::new() };
    let path = arguments.directory.join("memory.sock");
    let server = Called::builder(&plan, &path)?.build()?;
    say(path.to_str().ok_or("temporary directory with a name that is not UTF-8")?)?;
    server.serve()?;
    drop(lent);
    Ok(())
}

/// Every buffer of a pool like the server's own, filled.
fn lend_all(large: bool) -> Result<Vec<Buffer>, Box<dyn Error>> {
    let config = PoolConfig::default();
    let pool = Pool::new(config)?;
    let tiers = [config.small, config.medium, config.large];
    let mut lent = Vec::new();
    for tier in &tiers[..if large { 3 } else { 2 }] {
        for _ in 0..tier.count {
            let mut buffer = pool.try_acquire(tier.buffer_bytes)?;
            buffer.fill(7);
            lent.push(buffer);
        }
    }
    Ok(lent)
}
