//! `bench rtt`: round trips over a stream or of calls, in blocks that alternate with their limit.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use ringwire::{Header, Kind, Listener, Stream};
use serde_json::{Value, json};

use super::arena::{Arena, PAIRS};
use super::call;
use super::limits::{
    BLOCK_ROUND_TRIPS, QUICK, futex_block, futex_block_peer, line_block, line_block_peer, wake_block,
};
use super::machine::{busy_wait, pin, steal_ticks, unpin};
use super::mode::Mode;
use super::report::{Samples, median, print, rounded};
use crate::child::spawn;
use crate::private_directory::PrivateDirectory;

/// What makes a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layer {
    /// A message and its echo
    Stream,
    /// A client's call and a server's answer; with pauses, beside an echo over a Unix socket
    Call,
}

/// `bench rtt`
#[derive(Args, Debug)]
pub struct Arguments {
    /// What makes a round trip
    #[arg(long, value_enum, default_value_t = Layer::Stream)]
    layer: Layer,
    /// Bytes of a message
    #[arg(long, default_value_t = 64)]
    pub(super) size: usize,
    /// What both sides do while they wait
    #[arg(long, value_enum, default_value_t = Mode::Spin)]
    pub(super) mode: Mode,
    /// Busy pause before each round trip, in microseconds
    #[arg(long, default_value_t = 0)]
    pub(super) pause_us: u64,
    /// Bind each process to a core of its own (the limits always need that; this says it for the stream too)
    #[arg(long)]
    pub(super) pin: bool,
    /// Pairs of processes, one after the other
    #[arg(long, default_value_t = 5)]
    pub(super) runs: u32,
    /// Size of each ring in bytes
    #[arg(long, default_value_t = 65_536)]
    pub(super) ring: u32,
    /// Blocks of a run (64, so that each takes another pair of lines, unless there are pauses)
    #[arg(long)]
    blocks: Option<u32>,
    /// A hundredth of the work: to try it out, not to quote
    #[arg(long)]
    quick: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(super) json: bool,
}

/// What the second process is told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    socket: PathBuf,
    arena: String,
    size: usize,
    mode: Mode,
    ring: u32,
    blocks: u32,
    per_block: u32,
    #[arg(action = clap::ArgAction::Set)]
    pinned: bool,
}

/// Blocks and their length: about 10 s at the most for a run with pauses.
pub(super) fn schedule(arguments: &Arguments) -> (u32, u32) {
    let (blocks, per_block) = match (arguments.mode, arguments.pause_us) {
        (Mode::Spin | Mode::Adaptive, 0) => (PAIRS, BLOCK_ROUND_TRIPS),
        (Mode::Block, 0) => (20, 500),
        (_, pause_us) => (20, u32::try_from(250_000 / pause_us).unwrap_or(0).clamp(5, 200)),
    };
    let per_block = if arguments.quick { per_block.div_ceil(QUICK) } else { per_block };
    (arguments.blocks.unwrap_or(blocks), per_block)
}

/// The lines' blocks are as long as the stream's, unless pauses make those short.
pub(super) fn limit_per_block(per_block: u32) -> u32 {
    per_block.max(BLOCK_ROUND_TRIPS / QUICK)
}

fn header(correlation: u32) -> Header {
    Header::new(Kind::Request, 1, u64::from(correlation))
}

/// The first process.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.runs == 0 || arguments.blocks == Some(0) {
        return Err("--runs and --blocks need at least 1".into());
    }
    let (stolen_before, mut runs) = (steal_ticks(), Vec::new());
    for _ in 0..arguments.runs {
        runs.push(match arguments.layer {
            Layer::Stream => one_run(arguments)?,
            Layer::Call => call::one_run(arguments)?,
        });
    }
    let mut result = summary(arguments, &runs);
    result["steal_ticks"] = (steal_ticks() - stolen_before).into();
    print(arguments.json, &result)?;
    Ok(())
}

/// What one pair of processes has shown.
#[derive(Default)]
pub(super) struct Run {
    pub(super) samples: Samples,
    pub(super) limits: Vec<f64>,
    pub(super) ratios: Vec<f64>,
    /// Over a Unix socket.
    pub(super) socket: Samples,
    pub(super) socket_ratios: Vec<f64>,
    /// A bare wake-up.
    pub(super) wakes: Samples,
    /// Of the wake-up to the socket: what no call can be below that wakes its server.
    pub(super) wake_socket_ratios: Vec<f64>,
}

fn summary(arguments: &Arguments, runs: &[Run]) -> Value {
    let (mut all, mut socket, mut wakes) = (Samples::default(), Samples::default(), Samples::default());
    for run in runs {
        all.extend(&run.samples);
        socket.extend(&run.socket);
        wakes.extend(&run.wakes);
    }
    let limits: Vec<f64> = runs.iter().flat_map(|run| run.limits.iter().copied()).collect();
    let ratios: Vec<f64> = runs.iter().map(|run| median(&run.ratios)).collect();
    let layer = format!("{:?}", arguments.layer).to_lowercase();
    let mut result = json!({
        "bench": "rtt", "layer": layer, "mode": arguments.mode.name(), "size": arguments.size, "pause_us": arguments.pause_us,
        "pinned": arguments.pin, "iterations": all.len(),
        "p50_ns": all.quantile(500), "p99_ns": all.quantile(990), "p999_ns": all.quantile(999),
        "max_ns": all.quantile(1000), "share_under_10_us": rounded(all.share_below(10_000)),
        "limit_p50_ns": median(&limits), "ratio_p50": rounded(median(&ratios)),
        "ratio_p50_of_runs": round_all(&ratios),
    });
    if socket.len() > 0 {
        let ratios: Vec<f64> = runs.iter().map(|run| median(&run.socket_ratios)).collect();
        result["socket_p50_ns"] = socket.quantile(500).into();
        result["socket_p99_ns"] = socket.quantile(990).into();
        result["socket_share_under_10_us"] = rounded(socket.share_below(10_000)).into();
        result["ratio_to_socket"] = rounded(median(&ratios)).into();
        result["ratio_to_socket_of_runs"] = round_all(&ratios).into();
        let ratios: Vec<f64> = runs.iter().map(|run| median(&run.wake_socket_ratios)).collect();
        result["wake_p50_ns"] = wakes.quantile(500).into();
        result["ratio_of_wake_to_socket"] = rounded(median(&ratios)).into();
        result["ratio_of_wake_to_socket_of_runs"] = round_all(&ratios).into();
    }
    result
}

fn round_all(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| rounded(*value)).collect()
}

fn one_run(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let (blocks, per_block) = schedule(arguments);
    // The second process inherits the cores of this one.
    unpin()?;
    let directory = PrivateDirectory::create()?;
    let socket = directory.path().join("rtt.sock");
    let (arena, name) = Arena::create(0)?;
    let mut listener = Listener::builder(&socket)
        .max_ring_bytes(1 << 30)
        .wait_strategy(arguments.mode.strategy())
        .max_message_bytes(1 << 30)
        .bind()?;
    let socket = socket.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let numbers = [arguments.ring, blocks, per_block].map(|number| number.to_string());
    let [ring, block_count, per_block_text] = &numbers;
    let size = arguments.size.to_string();
    let pinned = if arguments.pin { "true" } else { "false" };
    let words = [
        "peer",
        "bench",
        "rtt",
        socket,
        &name,
        &size,
        arguments.mode.name(),
        ring,
        block_count,
        per_block_text,
        pinned,
    ];
    let peer = spawn(words)?;
    let mut stream = listener.accept_timeout(Duration::from_secs(10))?;
    let mut run = Run::default();
    let mut block = Block::new(arguments, per_block);
    for index in 0..blocks {
        block.limit(&arena, index, &mut run)?;
        block.stream(&mut stream, index, &mut run)?;
    }
    drop(stream);
    peer.join()?;
    Ok(run)
}

pub(super) struct Block {
    payload: Vec<u8>,
    echo: Vec<u8>,
    samples: Samples,
    per_block: u32,
    limit_per_block: u32,
    pause: Duration,
    mode: Mode,
    pinned: bool,
}

impl Block {
    pub(super) fn new(arguments: &Arguments, per_block: u32) -> Self {
        Self {
            payload: (0..arguments.size).map(|i| i as u8).collect(),
            echo: Vec::with_capacity(arguments.size),
            samples: Samples::with_capacity(per_block as usize),
            per_block,
            limit_per_block: limit_per_block(per_block),
            pause: Duration::from_micros(arguments.pause_us),
            mode: arguments.mode,
            pinned: arguments.pin,
        }
    }

    pub(super) fn limit(&mut self, arena: &Arena, index: u32, run: &mut Run) -> Result<(), Box<dyn Error>> {
        pin(0)?;
        self.samples.clear();
        if self.mode == Mode::Block {
            futex_block(arena, 1 + index * self.per_block, self.per_block, self.pause, &mut self.samples);
        } else {
            let (mine, theirs) = arena.pair(index);
            line_block(
                mine,
                theirs,
                1 + index * self.limit_per_block,
                self.limit_per_block,
                &mut self.samples,
            );
        }
        if !self.pinned {
            unpin()?;
        }
        run.limits.push(self.samples.quantile(500) as f64);
        Ok(())
    }

    /// A block of bare wake-ups, the `index`th; says their median in nanoseconds.
    pub(super) fn wakes(&mut self, arena: &Arena, index: u32) -> f64 {
        self.samples.clear();
        wake_block(arena, 1 + index * self.per_block, self.per_block, self.pause, &mut self.samples);
        self.samples.quantile(500) as f64
    }

    fn stream(&mut self, stream: &mut Stream, index: u32, run: &mut Run) -> Result<(), Box<dyn Error>> {
        let whole_record = self.payload.len() <= stream.max_record_bytes();
        let p50 = self
            .timed(index, |number, payload, echo| round_trip(stream, number, payload, echo, whole_record))?;
        self.beside_limit(p50, run);
        Ok(())
    }

    /// Sets the last block beside the last one of the limit.
    pub(super) fn beside_limit(&self, p50: f64, run: &mut Run) {
        run.ratios.push(p50 / run.limits.last().copied().unwrap_or(f64::NAN));
        run.samples.extend(&self.samples);
    }

    /// The round trips of the last block.
    pub(super) fn samples(&self) -> &Samples {
        &self.samples
    }

    /// One block of round trips, each with its number; says their median in nanoseconds.
    #[inline(always)]
    pub(super) fn timed(
        &mut self,
        index: u32,
        mut round_trip: impl FnMut(u32, &[u8], &mut Vec<u8>) -> Result<(), Box<dyn Error>>,
    ) -> Result<f64, Box<dyn Error>> {
        self.samples.clear();
        self.echo.clear();
        self.echo.resize(self.payload.len(), 0);
        // The second process may still be pinning itself.
        round_trip(u32::MAX, &self.payload, &mut self.echo)?;
        if self.pause.is_zero() {
            let mut before = Instant::now();
            for i in 0..self.per_block {
                round_trip(i, &self.payload, &mut self.echo)?;
                let now = Instant::now();
                self.samples.push((now - before).as_nanos() as u64);
                before = now;
            }
        } else {
            for i in 0..self.per_block {
                busy_wait(self.pause);
                let started = Instant::now();
                round_trip(i, &self.payload, &mut self.echo)?;
                self.samples.push(started.elapsed().as_nanos() as u64);
            }
        }
        if self.echo != self.payload {
            return Err(format!("block {index}: the echo differs").into());
        }
        Ok(self.samples.quantile(500) as f64)
    }
}

#[inline(always)]
fn round_trip(
    stream: &mut Stream,
    correlation: u32,
    payload: &[u8],
    echo: &mut Vec<u8>,
    whole_record: bool,
) -> Result<(), Box<dyn Error>> {
    stream.send(header(correlation), payload)?;
    if !whole_record {
        stream.receive_into(echo)?;
        return Ok(());
    }
    let message = stream.receive()?;
    message.payload().copy_to(echo);
    if message.header().correlation != u64::from(correlation) {
        return Err("an echo out of order".into());
    }
    Ok(())
}

/// The second process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let arena = Arena::open(&arguments.arena)?;
    pin(1)?;
    let mut stream = Stream::builder(&arguments.socket)
        .ring_bytes(arguments.ring)
        .wait_strategy(arguments.mode.strategy())
        .max_message_bytes(1 << 30)
        .connect()?;
    let mut buffer = vec![0; arguments.size];
    let limit_per_block = limit_per_block(arguments.per_block);
    for index in 0..arguments.blocks {
        if !arguments.pinned {
            pin(1)?;
        }
        if arguments.mode == Mode::Block {
            futex_block_peer(&arena, 1 + index * arguments.per_block, arguments.per_block);
        } else {
            let (theirs, mine) = arena.pair(index);
            line_block_peer(mine, theirs, 1 + index * limit_per_block, limit_per_block);
        }
        if !arguments.pinned {
            unpin()?;
        }
        for _ in 0..=arguments.per_block {
            echo(&mut stream, &mut buffer, arguments.size)?;
        }
    }
    Ok(())
}

#[inline(always)]
fn echo(stream: &mut Stream, buffer: &mut Vec<u8>, size: usize) -> Result<(), Box<dyn Error>> {
    let header = if size <= stream.max_record_bytes() {
        let message = stream.receive()?;
        message.payload().copy_to(buffer);
        message.header()
    } else {
        stream.receive_into(buffer)?
    };
    stream.send(Header::new(Kind::Response, header.message_type, header.correlation), buffer)?;
    Ok(())
}
