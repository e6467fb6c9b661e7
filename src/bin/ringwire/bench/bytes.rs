//! `bench bytes`: round trips over a byte stream, in blocks that alternate with the same over a Unix socket.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use ringwire::{ByteStream, Listener, Stream};
use serde_json::json;

use super::limits::QUICK;
use super::machine::{pin, steal_ticks, unpin};
use super::mode::Mode;
use super::report::{Samples, median, print, rounded};
use crate::child::spawn;
use crate::private_directory::PrivateDirectory;

/// About this many bytes go each way in a block.
const BLOCK_BYTES: usize = 32 << 20;
const MAX_PER_BLOCK: usize = 1_000;
const BLOCKS: u32 = 32;
const MAX_RING_BYTES: u32 = 1 << 30;

/// `bench bytes`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Bytes there, and as many back
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// What both ends of the byte stream do while they wait
    #[arg(long, value_enum, default_value_t = Mode::Spin)]
    mode: Mode,
    /// Bind each process to a core of its own
    #[arg(long)]
    pin: bool,
    /// Pairs of processes, one after the other
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Size of each ring in bytes; by default the library's own
    #[arg(long, default_value_t = 512 << 10)]
    ring: u32,
    /// Blocks of a run
    #[arg(long, default_value_t = BLOCKS)]
    blocks: u32,
    /// A hundredth of the work: to try it out, not to quote
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
    size: usize,
    mode: Mode,
    ring: u32,
    blocks: u32,
    per_block: usize,
    #[arg(action = clap::ArgAction::Set)]
    pinned: bool,
}

fn per_block(arguments: &Arguments) -> usize {
    let all = (BLOCK_BYTES / arguments.size).clamp(10, MAX_PER_BLOCK);
    if arguments.quick { all.div_ceil(QUICK as usize) } else { all }
}

fn ring_path(directory: &Path) -> PathBuf {
    directory.join("ring.sock")
}

fn socket_path(directory: &Path) -> PathBuf {
    directory.join("unix.sock")
}

#[derive(Default)]
struct Results {
    bytes: Samples,
    socket: Samples,
    /// How many times faster the byte stream is, for each block.
    ratios: Vec<f64>,
}

/// The first process.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.runs == 0 || arguments.blocks == 0 || arguments.size == 0 {
        return Err("--size, --runs and --blocks need at least 1".into());
    }
    let (stolen_before, mut ratios) = (steal_ticks(), Vec::new());
    let mut all = Results::default();
    for _ in 0..arguments.runs {
        let run = one_run(arguments)?;
        ratios.push(median(&run.ratios));
        all.bytes.extend(&run.bytes);
        all.socket.extend(&run.socket);
    }
    let mode = format!("{:?}", arguments.mode).to_lowercase();
    let result = json!({
        "bench": "bytes", "mode": mode, "size": arguments.size, "ring": arguments.ring, "pinned": arguments.pin,
        "iterations": all.bytes.len(),
        "p50_ns": all.bytes.quantile(500), "p99_ns": all.bytes.quantile(990),
        "socket_p50_ns": all.socket.quantile(500), "socket_p99_ns": all.socket.quantile(990),
        "ratio": rounded(median(&ratios)),
        "ratio_of_runs": ratios.iter().map(|ratio| rounded(*ratio)).collect::<Vec<_>>(),
        "steal_ticks": steal_ticks() - stolen_before,
    });
    print(arguments.json, &result)?;
    Ok(())
}

fn one_run(arguments: &Arguments) -> Result<Results, Box<dyn Error>> {
    let per_block = per_block(arguments);
    // The second process inherits the cores of this one.
    unpin()?;
    let directory = PrivateDirectory::create()?;
    let mut listener = Listener::builder(ring_path(directory.path()))
        .max_ring_bytes(MAX_RING_BYTES)
        .wait_strategy(arguments.mode.strategy())
        .bind()?;
    let socket_listener = UnixListener::bind(socket_path(directory.path()))?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let mode = format!("{:?}", arguments.mode).to_lowercase();
    let numbers = [arguments.size, arguments.ring as usize, arguments.blocks as usize, per_block];
    let [size, ring, blocks, per_block_text] = &numbers.map(|number| number.to_string());
    let pinned = if arguments.pin { "true" } else { "false" };
    let peer = spawn(["peer", "bench", "bytes", path, size, &mode, ring, blocks, per_block_text, pinned])?;
    let mut bytes = ByteStream::from(listener.accept_timeout(Duration::from_secs(10))?);
    // It connects to the one after the other.
    let (mut socket, _) = socket_listener.accept()?;
    if arguments.pin {
        pin(0)?;
    }
    let (mut run, mut block) = (Results::default(), Block::new(arguments.size, per_block));
    for _ in 0..arguments.blocks {
        let socket_p50 = block.measure(&mut socket, &mut run.socket)?;
        let bytes_p50 = block.measure(&mut bytes, &mut run.bytes)?;
        run.ratios.push(socket_p50 / bytes_p50);
    }
    drop((bytes, socket));
    peer.join()?;
    Ok(run)
}

struct Block {
    payload: Vec<u8>,
    echo: Vec<u8>,
    samples: Samples,
    per_block: usize,
}

impl Block {
    fn new(size: usize, per_block: usize) -> Self {
        let payload = (0..size).map(|i| (i % 251) as u8).collect();
        Self { payload, echo: vec![0; size], samples: Samples::with_capacity(per_block), per_block }
    }

    /// One block over `stream`; its p50 in nanoseconds.
    fn measure(
        &mut self,
        stream: &mut (impl Read + Write),
        all: &mut Samples,
    ) -> Result<f64, Box<dyn Error>> {
        self.samples.clear();
        self.echo.fill(0);
        // The second process may still be on its way from the other stream.
        self.round_trip(stream)?;
        let mut before = Instant::now();
        for _ in 0..self.per_block {
            self.round_trip(stream)?;
            let now = Instant::now();
            self.samples.push((now - before).as_nanos() as u64);
            before = now;
        }
        if self.echo != self.payload {
            return Err("the echo differs".into());
        }
        all.extend(&self.samples);
        Ok(self.samples.quantile(500).max(1) as f64)
    }

    #[inline(always)]
    fn round_trip(&mut self, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        stream.write_all(&self.payload)?;
        stream.read_exact(&mut self.echo)
    }
}

/// The second process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let stream = Stream::builder(ring_path(&arguments.directory))
        .ring_bytes(arguments.ring)
        .wait_strategy(arguments.mode.strategy())
        .connect()?;
    let mut bytes = ByteStream::from(stream);
    let mut socket = UnixStream::connect(socket_path(&arguments.directory))?;
    if arguments.pinned {
        pin(1)?;
    }
    let mut buffer = vec![0; arguments.size];
    for _ in 0..arguments.blocks {
        echo(&mut socket, &mut buffer, arguments.per_block)?;
        echo(&mut bytes, &mut buffer, arguments.per_block)?;
    }
    Ok(())
}

fn echo(stream: &mut (impl Read + Write), buffer: &mut [u8], per_block: usize) -> std::io::Result<()> {
    for _ in 0..=per_block {
        stream.read_exact(buffer)?;
        stream.write_all(buffer)?;
    }
    Ok(())
}
