//! `bench memory --cycles`: what a server keeps of connections that have come and gone.

use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::Client;
use ringwire::client::ECHO;
use serde_json::json;

use super::procfs::{Activity, Memory};
use super::report::print;
use crate::child::Peer;

/// Until a server has noticed that its clients have gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// An idle thread of the server waits 10 s for a new connection, then ends.
pub const IDLE_THREADS_END: Duration = Duration::from_secs(11);
/// Behind the last connection's end its memory is still on the way back.
const SETTLE: Duration = Duration::from_millis(300);

struct State {
    memory: Memory,
    descriptors: usize,
    threads: u64,
}

impl State {
    fn of(server: u32) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            memory: Memory::of(server)?,
            descriptors: fs::read_dir(format!("/proc/{server}/fd"))?.count(),
            threads: Activity::of(server)?.threads,
        })
    }
}

/// Opens and closes `connections`, `cycles` times, and prints what the server is left with, once its idle threads have
/// ended.
pub fn run(
    server: &Peer,
    address: &str,
    connections: u32,
    cycles: u32,
    idle_threads_end: Duration,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let start = State::of(server.id())?;
    let mut totals = Vec::new();
    let mut first = None;
    for _ in 0..cycles {
        let mut clients = Vec::new();
        for number in 0..connections {
            let mut client = Client::connect(address)?;
            client.call(ECHO, &[7; 1024][..if number % 2 == 0 { 64 } else { 1024 }])?;
            clients.push(client);
        }
        drop(clients);
        wait_until_closed(server.id(), start.descriptors)?;
        totals.push(Memory::of(server.id())?.total_kib());
        if first.is_none() {
            thread::sleep(idle_threads_end);
            first = Some(State::of(server.id())?);
        }
    }
    thread::sleep(idle_threads_end);
    let (first, last) = (first.ok_or("no cycle")?.memory, State::of(server.id())?);
    let result = json!({
        "bench": "memory", "layer": "call", "connections": connections, "cycles": cycles,
        "start_kib": start.memory.total_kib(), "first_kib": first.total_kib(), "last_kib": last.memory.total_kib(),
        "above_first_kib": last.memory.total_kib().saturating_sub(first.total_kib()),
        "first_heap_kib": first.heap_kib, "last_heap_kib": last.memory.heap_kib,
        "first_stacks_kib": first.stacks_kib, "last_stacks_kib": last.memory.stacks_kib,
        "with_idle_threads_kib": totals,
        "descriptors_at_start": start.descriptors, "descriptors_at_end": last.descriptors,
        "threads_at_start": start.threads, "threads_at_end": last.threads,
    });
    print(json, &result)?;
    Ok(())
}

fn wait_until_closed(server: u32, descriptors: usize) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    while fs::read_dir(format!("/proc/{server}/fd"))?.count() > descriptors {
        if started.elapsed() > PATIENCE {
            return Err("the server keeps descriptors of connections that are closed".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(SETTLE);
    Ok(())
}
