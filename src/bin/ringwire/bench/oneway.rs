//! `bench stream`: messages one way, in blocks that alternate with whole buffers handed across by a flag.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ringwire::{Header, Kind, Listener, Stream};
use serde_json::json;

use super::arena::Arena;
use super::limits::{Bulk, QUICK, gb_per_s};
use super::machine::{pin, steal_ticks, unpin};
use super::report::{median, print, rounded};
use crate::child::spawn;
use crate::private_directory::PrivateDirectory;

const BLOCKS: u32 = 15;
/// A block is about this many bytes, and at most this many messages.
const BLOCK_BYTES: u32 = 128 << 20;
const MAX_BLOCK_MESSAGES: u32 = 1 << 20;
const MIN_RING_BYTES: u32 = 64 << 10;

/// `bench stream`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Bytes of a message, a multiple of 8
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// Size of the ring in bytes; four messages, at least 64 KiB, unless given
    #[arg(long)]
    ring: Option<u32>,
    /// Copy in from, and out to, private memory; else write and read in place
    #[arg(long)]
    copy: bool,
    /// Pairs of processes, one after the other
    #[arg(long, default_value_t = 5)]
    runs: u32,
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
    socket: PathBuf,
    arena: String,
    size: u32,
    ring: u32,
    #[arg(action = clap::ArgAction::Set)]
    copy: bool,
    #[arg(action = clap::ArgAction::Set)]
    quick: bool,
}

struct Plan {
    size: u32,
    messages: u32,
    limit: Bulk,
    copy: bool,
    quick: bool,
}

impl Plan {
    fn new(size: u32, copy: bool, quick: bool) -> Self {
        let messages = (BLOCK_BYTES / size).clamp(64, MAX_BLOCK_MESSAGES);
        let messages = if quick { messages.div_ceil(QUICK) } else { messages };
        Self { size, messages, limit: Bulk { bytes: size, copy: false, count: messages }, copy, quick }
    }

    fn first(&self, block: u32) -> u32 {
        1 + block * self.messages
    }
}

fn ring_for(size: u32) -> Result<u32, Box<dyn Error>> {
    let four = size.checked_mul(4).and_then(u32::checked_next_power_of_two);
    Ok(four.ok_or("--size is too large for a ring of four messages")?.max(MIN_RING_BYTES))
}

/// The first process.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.size == 0 || !arguments.size.is_multiple_of(8) || arguments.runs == 0 {
        return Err("--size takes a multiple of 8 bytes, --runs at least 1".into());
    }
    let ring = arguments.ring.map_or_else(|| ring_for(arguments.size), Ok)?;
    let plan = Plan::new(arguments.size, arguments.copy, arguments.quick);
    let (mut speeds, mut limits, mut ratios, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let stolen_before = steal_ticks();
    for _ in 0..arguments.runs {
        let run = one_run(&plan, ring)?;
        speeds.push(median(&run.speeds));
        limits.push(median(&run.limits));
        let per_block: Vec<f64> =
            run.speeds.iter().zip(&run.limits).map(|(speed, limit)| speed / limit).collect();
        ratios.push(median(&per_block));
        lost += run.lost;
    }
    let gb = median(&speeds);
    let per_message = f64::from(arguments.size) / 1e9;
    let result = json!({
        "bench": "stream", "size": arguments.size, "ring": ring, "copy": arguments.copy,
        "messages": u64::from(plan.messages) * u64::from(BLOCKS) * u64::from(arguments.runs), "lost": lost,
        "msgs_per_s": (gb / per_message).round(), "gb_per_s": rounded(gb), "limit_gb_per_s": rounded(median(&limits)),
        "ratio": rounded(median(&ratios)),
        "msgs_per_s_of_runs": speeds.iter().map(|speed| (speed / per_message).round()).collect::<Vec<_>>(),
        "steal_ticks": steal_ticks() - stolen_before,
    });
    print(arguments.json, &result)?;
    if lost > 0 { Err(format!("{lost} messages lost or out of order").into()) } else { Ok(()) }
}

#[derive(Default)]
struct Run {
    speeds: Vec<f64>,
    limits: Vec<f64>,
    lost: u32,
}

fn one_run(plan: &Plan, ring: u32) -> Result<Run, Box<dyn Error>> {
    // The second process inherits the cores of this one.
    unpin()?;
    let directory = PrivateDirectory::create()?;
    let socket = directory.path().join("stream.sock");
    let (arena, name) = Arena::create(Bulk::arena_bytes(plan.size))?;
    let mut listener = Listener::builder(&socket).max_ring_bytes(1 << 30).bind()?;
    let socket = socket.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let numbers = [plan.size, ring].map(|number| number.to_string());
    let switches = [plan.copy, plan.quick].map(|switch| switch.to_string());
    let peer = spawn([
        "peer",
        "bench",
        "stream",
        socket,
        &name,
        &numbers[0],
        &numbers[1],
        &switches[0],
        &switches[1],
    ])?;
    let mut stream = listener.accept_timeout(Duration::from_secs(10))?;
    if plan.size as usize > stream.max_record_bytes() {
        return Err(
            format!("a ring of {ring} bytes takes records of {} bytes", stream.max_record_bytes()).into()
        );
    }
    pin(0)?;
    let mut private = vec![7; plan.size as usize];
    let mut run = Run::default();
    let bytes = u64::from(plan.size) * u64::from(plan.messages);
    for block in 0..BLOCKS {
        let from = plan.first(block);
        run.limits.push(plan.limit.timed_block(&arena, from, &private));
        let started = Instant::now();
        send_block(plan, &mut stream, from, &mut private)?;
        let received = stream.receive()?.header().correlation;
        run.speeds.push(gb_per_s(bytes, started.elapsed()));
        run.lost += plan.messages - u32::try_from(received)?;
    }
    drop(stream);
    peer.join()?;
    Ok(run)
}

/// Every byte of every message is written: in place by words that count on from the message's number, or by a copy whose
/// first word is that number.
#[inline(never)]
fn send_block(plan: &Plan, stream: &mut Stream, from: u32, private: &mut [u8]) -> Result<(), Box<dyn Error>> {
    for message in from..from + plan.messages {
        let header = Header::new(Kind::Event, 1, u64::from(message));
        if plan.copy {
            private[..8].copy_from_slice(&u64::from(message).to_ne_bytes());
            stream.send(header, private)?;
        } else {
            let mut value = u64::from(message);
            let mut slot = stream.reserve(header, plan.size as usize)?;
            slot.write_words(plan.size as usize / 8, || {
                value += 1;
                value
            });
            slot.commit();
        }
    }
    Ok(())
}

/// The second process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let plan = Plan::new(arguments.size, arguments.copy, arguments.quick);
    let arena = Arena::open(&arguments.arena)?;
    let mut stream = Stream::builder(&arguments.socket).ring_bytes_each(4096, arguments.ring).connect()?;
    pin(1)?;
    let mut private = vec![0; plan.size as usize];
    let mut sum = 0u64;
    for block in 0..BLOCKS {
        let from = plan.first(block);
        sum = sum.wrapping_add(plan.limit.receive_block(&arena, from, &mut private));
        let received = receive_block(&plan, &mut stream, from, &mut private)?;
        stream.send(Header::new(Kind::Event, 2, u64::from(received)), &[])?;
    }
    std::hint::black_box(sum);
    Ok(())
}

/// Reads every byte of every message, and counts those that are in order and right.
#[inline(never)]
fn receive_block(
    plan: &Plan,
    stream: &mut Stream,
    from: u32,
    private: &mut [u8],
) -> Result<u32, Box<dyn Error>> {
    let words = u64::from(plan.size / 8);
    let mut right = 0;
    for message in from..from + plan.messages {
        let received = stream.receive()?;
        let payload = received.payload();
        let number = u64::from(message);
        let intact = if plan.copy {
            payload.copy_to(private) == private.len()
                && private[..8] == number.to_ne_bytes()
                && ends_right(private)
        } else {
            let mut sum = 0u64;
            payload.take_words(|word| sum = sum.wrapping_add(word));
            sum == words * number + words * (words + 1) / 2
        };
        right += u32::from(intact && received.header().correlation == number);
    }
    Ok(right)
}

/// What a copied message ends with, if it is longer than its number.
fn ends_right(private: &[u8]) -> bool {
    private[8..].last().is_none_or(|last| *last == 7)
}
