//! The server that is put under stress, a process of its own, and the handle that the first process has of it.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use ringwire::{Client, Server, ServerHandle};
use serde_json::{Value, json};

use super::payload::{mirror, sum};
use super::session;
use crate::bench::procfs::Memory;
use crate::child::{Peer, say, spawn_heard};

/// Answers with every bit turned round.
pub const MIRROR: u16 = 1;
/// Answers a request that is put together whole with the sum over it.
pub const SUM: u16 = 2;
/// The same, read piece by piece.
pub const SUM_STREAMED: u16 = 3;
/// As [`SUM`], by a handler that takes its time: meanwhile nobody else has its buffer.
pub const SUM_HELD: u16 = 7;
/// Answers with [`Status`].
const STATUS: u16 = 4;
/// Stops the server.
const STOP: u16 = 5;
/// Nothing becomes of it but work.
pub const NOTE: u16 = 6;

const PIECE_BYTES: usize = 512;
const HELD: Duration = Duration::from_millis(1);
/// What fits into one record of the default rings, which all but hostile clients have.
const MIRRORED_IN_PLACE_BYTES: usize = 16 << 10;
/// A server that is asked how it is answers within this, whatever else it has to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server's process is told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    socket: PathBuf,
    /// Descriptors that the process may have
    #[arg(long)]
    descriptors: Option<u64>,
    #[arg(long, default_value_t = 1000)]
    max_connections: usize,
    /// A core for the latency class
    #[arg(long)]
    latency_core: Option<u32>,
    #[arg(long, default_value_t = 64 << 10)]
    ring_bytes: u32,
    /// Where the files of `session` are
    #[arg(long)]
    files: Option<PathBuf>,
}

/// Nanoseconds of the clock that all processes share.
pub fn now_ns() -> Result<u64, Box<dyn Error>> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

/// The server's process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    if let Some(descriptors) = arguments.descriptors {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, descriptors.min(most), most)?;
    }
    let mut builder = Server::builder(&arguments.socket)
        .max_connections(arguments.max_connections)
        .ring_bytes(arguments.ring_bytes)
        .handle(MIRROR, |request, reply| {
            let payload = request.payload();
            if payload.len() > MIRRORED_IN_PLACE_BYTES {
                let mut bytes = payload.to_vec();
                mirror(&mut bytes);
                return reply.send(&bytes);
            }
            reply.send_with(payload.len(), |slot| {
                let (mut piece, mut at) = ([0; PIECE_BYTES], 0);
                while at < payload.len() {
                    let count = payload.copy_from(at, &mut piece);
                    mirror(&mut piece[..count]);
                    at += slot.write(&piece[..count]);
                }
            })
        })
        .handle(SUM, |request, reply| {
            let mut payload = request.payload();
            reply.send(&sum_of(&mut payload)?)
        })
        .handle(SUM_HELD, |request, reply| {
            thread::sleep(HELD);
            reply.send(&sum_of(&mut request.payload())?)
        })
        .handle_streaming(SUM_STREAMED, |mut request, items| items.send(&sum_of(&mut request)?))
        .handle(NOTE, |_, reply| reply.send(&[]));
    if let Some(core) = arguments.latency_core {
        builder = builder.latency_class(core);
    }
    if let Some(files) = &arguments.files {
        builder = session::handlers(builder, files);
    }
    let server = builder.build()?;
    let handle = server.handle();
    let (told, stopped) = (handle.clone(), handle.clone());
    handle.add_handler(STATUS, move |_, reply| reply.send(status(&told).to_string().as_bytes()))?;
    handle.add_handler(STOP, move |_, reply| {
        stopped.stop();
        reply.send(&[])
    })?;
    say(&now_ns()?.to_string())?;
    server.serve()?;
    Ok(())
}

fn sum_of(source: &mut impl Read) -> Result<[u8; 8], std::io::Error> {
    let (mut piece, mut value) = ([0; PIECE_BYTES], 0_u64);
    loop {
        match source.read(&mut piece)? {
            0 => return Ok(value.to_ne_bytes()),
            count => value = sum(value, &piece[..count]),
        }
    }
}

fn status(handle: &ServerHandle) -> Value {
    let (stats, pool) = (handle.stats(), handle.pool_stats());
    let tiers = pool.tiers();
    json!({
        "connections": stats.connections, "requests": stats.requests, "panics": stats.panics,
        "request_errors": stats.request_errors, "connection_errors": stats.connection_errors,
        "accept_errors": stats.accept_errors, "refused": stats.refused,
        "lent": pool.lent(),
        "kept_bytes": tiers[0].resident_bytes + tiers[1].resident_bytes,
        "large_bytes": tiers[2].resident_bytes,
    })
}

/// The first process's view of a server.
pub struct Served {
    /// Its process.
    pub peer: Peer,
    /// Where it listens.
    pub socket: PathBuf,
    /// Since when.
    pub listening_ns: u64,
}

impl Served {
    /// Starts one at `socket`. From the main thread: it ends with the thread that started it.
    pub fn start(socket: &Path, settings: &[&str]) -> Result<Self, Box<dyn Error>> {
        let path = socket.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
        let mut peer = spawn_heard(["peer", "stress", "server", path].iter().chain(settings))?;
        let listening_ns = peer.hear()?.trim_end().parse()?;
        Ok(Self { peer, socket: socket.to_owned(), listening_ns })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Box<dyn Error>> {
        Ok(kill(Pid::from_raw(i32::try_from(self.peer.id())?), signal)?)
    }

    /// A client that gives up in the end.
    pub fn client(&self) -> Result<Client, ringwire::Error> {
        Client::builder(&self.socket).timeout(PATIENCE).call_timeout(Some(PATIENCE)).connect()
    }

    /// What it counts, asked over `client`.
    pub fn status(client: &mut Client) -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_slice(&client.call(STATUS, b"")?.to_vec())?)
    }

    /// Waits until it has no other connections than `expected`; says how many there are then.
    pub fn settle(client: &mut Client, expected: u64, patience: Duration) -> Result<u64, Box<dyn Error>> {
        let started = Instant::now();
        loop {
            let connections = Self::status(client)?["connections"].as_u64().ok_or("connections")?;
            if connections <= expected || started.elapsed() > patience {
                return Ok(connections);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has it end in good order.
    pub fn stop(self) -> Result<(), Box<dyn Error>> {
        self.client()?.call(STOP, b"")?;
        Ok(self.peer.join()?)
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Its memory.
    pub memory: Memory,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Lines of `/proc/<id>/maps`.
    pub mappings: u64,
}

impl Footprint {
    /// Of process `id`.
    pub fn of(id: u32) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            memory: Memory::of(id)?,
            descriptors: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
            threads: fs::read_dir(format!("/proc/{id}/task"))?.count() as u64,
            mappings: fs::read_to_string(format!("/proc/{id}/maps"))?.lines().count() as u64,
        })
    }
}
