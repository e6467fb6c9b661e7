//! `bench tokens`: a streamed response of small items, from the library's server to one client that keeps up.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use ringwire::{Client, Server};
use serde_json::json;

use super::limits::QUICK;
use super::machine::{pin, steal_ticks, unpin};
use super::procfs::Activity;
use super::report::{median, print, rounded};
use crate::child::{Peer, say, spawn_heard};
use crate::private_directory::PrivateDirectory;

/// The message type that answers with a stream.
const TOKENS: u16 = 1;

/// `bench tokens`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Items of a stream
    #[arg(long, default_value_t = 100_000)]
    items: u64,
    /// Bytes of an item, at least 8
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Streams, one after the other, of which the median counts
    #[arg(long, default_value_t = 51)]
    streams: u32,
    /// A hundredth of the items: to try it out, not to quote
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
    items: u64,
    size: usize,
}

/// The client.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.items == 0 || arguments.size < 8 || arguments.streams == 0 {
        return Err("--items and --streams take at least 1, --size at least 8".into());
    }
    let items = if arguments.quick { arguments.items.div_ceil(QUICK.into()) } else { arguments.items };
    // The second process inherits the cores of this one.
    unpin()?;
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let numbers = [items.to_string(), arguments.size.to_string()];
    let mut server = spawn_heard(["peer", "bench", "tokens", path, &numbers[0], &numbers[1]])?;
    let address = server.hear()?;
    let mut client = Client::connect(address.trim_end())?;
    pin(0)?;
    // So that every page is there.
    read_stream(&mut client, arguments.size)?;
    let (stolen_before, switches_before) = (steal_ticks(), switches(&server)?);
    let (mut speeds, mut lost) = (Vec::new(), 0);
    for _ in 0..arguments.streams {
        let started = Instant::now();
        let right = read_stream(&mut client, arguments.size)?;
        speeds.push(right as f64 / started.elapsed().as_secs_f64());
        lost += items - right.min(items);
    }
    let switched = switches(&server)? - switches_before;
    let all = items as f64 * f64::from(arguments.streams);
    let [slowest, fastest] = [f64::min, f64::max].map(|pick| speeds.iter().copied().reduce(pick));
    let result = json!({
        "bench": "tokens", "layer": "call", "items": items, "size": arguments.size, "streams": arguments.streams,
        "lost": lost, "items_per_s": median(&speeds).round(),
        "slowest_items_per_s": slowest.map(f64::round), "fastest_items_per_s": fastest.map(f64::round),
        "waits_per_item": rounded(switched as f64 / all),
        "steal_ticks": steal_ticks() - stolen_before,
    });
    drop(client);
    print(arguments.json, &result)?;
    if lost > 0 { Err(format!("{lost} items lost or out of order").into()) } else { Ok(()) }
}

/// Times that a thread of either process has gone to sleep.
fn switches(server: &Peer) -> Result<u64, Box<dyn Error>> {
    let own = u64::try_from(getrusage(UsageWho::RUSAGE_SELF)?.voluntary_context_switches())?;
    Ok(own + Activity::of(server.id())?.voluntary)
}

/// How many items came that were right and in order.
fn read_stream(client: &mut Client, size: usize) -> Result<u64, Box<dyn Error>> {
    let mut stream = client.call_streaming(TOKENS, &[])?;
    let (mut right, mut next) = (0, 0u64);
    while let Some(item) = stream.next_item()? {
        right += u64::from(item.len() == size && item.payload().read_at(0) == Some(next));
        next += 1;
    }
    Ok(right)
}

/// The server, which the first process ends.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let path = arguments.directory.join("tokens.sock");
    let (items, size) = (arguments.items, arguments.size);
    let server = Server::builder(&path)
        .handle_streaming(TOKENS, move |_, stream| {
            let mut item = vec![0; size];
            for number in 0..items {
                item[..8].copy_from_slice(&number.to_ne_bytes());
                stream.send(&item)?;
            }
            Ok(())
        })
        .build()?;
    pin(1)?;
    say(path.to_str().ok_or("temporary directory with a name that is not UTF-8")?)?;
    Ok(server.serve()?)
}
