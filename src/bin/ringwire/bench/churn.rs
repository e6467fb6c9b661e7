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
const IDLE_THREADS_END: Duration = Duration::from_secs(11);
/// Behind the last connection's end its memory is still on the way back.
const SETTLE: Duration = Duration::from_millis(300);

struct State {
    total_kib: u64,
    descriptors: usize,
    threads: u64,
}

impl State {
    fn of(server: u32) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            total_kib: Memory::of(server)?.total_kib(),
            descriptors: fs::read_dir(format!("/proc/{server}/fd"))?.count(),
            threads: Activity::of(server)?.threads,
        })
    }
}

/// Opens and closes `connections`, `cycles` times, and prints what the server is left with.
pub fn run(
    server: &Peer,
    address: &str,
    connections: u32,
    cycles: u32,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let start = State::of(server.id())?;
    let mut totals = Vec::new();
    for _ in 0..cycles {
        let mut clients = Vec::new();
        for number in 0..connections {
            let mut client = Client::connect(address)?;
            client.call(ECHO, &[7; 1024][..if number % 2 == 0 { 64 } else { 1024 }])?;
            clients.push(client);
        }
        drop(clients);
        wait_until_closed(server.id(), start.descriptors)?;
        totals.push(State::of(server.id())?.total_kib);
    }
    thread::sleep(IDLE_THREADS_END);
    let end = State::of(server.id())?;
    let (first, most) = (totals.first().copied().unwrap_or(0), totals.iter().copied().max().unwrap_or(0));
    let result = json!({
        "bench": "memory", "layer": "call", "connections": connections, "cycles": cycles,
        "start_kib": start.total_kib, "first_kib": first, "most_kib": most, "above_first_kib": most - first,
        "last_kib": totals.last(), "end_kib": end.total_kib, "kib_of_cycles": totals,
        "descriptors_at_start": start.descriptors, "descriptors_at_end": end.descriptors,
        "threads_at_start": start.threads, "threads_at_end": end.threads,
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
