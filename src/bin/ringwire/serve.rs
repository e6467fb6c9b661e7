//! `ringwire serve`: a server with the library's own message types, until a signal ends it.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use ringwire::server::{Placement, ServerBuilder};
use ringwire::transport::raise_fd_limit;
use ringwire::{PeerPolicy, Server, ServerHandle};

use crate::bench::Mode;

/// Serves echo, ping, stats and server-info at a path until SIGTERM or SIGINT
///
/// Says `serving PATH` when clients may connect. The first signal drains: nobody new comes in, what was asked is answered,
/// and the exit code is 0. A second one ends the process at once.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the socket is made
    path: PathBuf,
    /// Clients at a time; further ones are refused
    #[arg(long, default_value_t = 1000)]
    max_connections: usize,
    /// Size of each ring where the client does not ask for one: a power of two from 4 KiB to 1 GiB
    #[arg(long)]
    ring_bytes: Option<u32>,
    /// The largest ring that a client is given
    #[arg(long)]
    max_ring_bytes: Option<u32>,
    /// The longest request that is put together whole
    #[arg(long)]
    max_message_bytes: Option<usize>,
    /// Permissions of the socket file, in octal; wider ones also need --allow-uid or --allow-gid
    #[arg(long, value_parser = octal, default_value = "600")]
    mode: u32,
    /// Users who may connect besides the server's own
    #[arg(long, value_delimiter = ',', value_name = "UID")]
    allow_uid: Vec<u32>,
    /// Groups who may connect
    #[arg(long, value_delimiter = ',', value_name = "GID")]
    allow_gid: Vec<u32>,
    /// What connections' threads do while they wait
    #[arg(long, value_enum, default_value_t = Mode::Adaptive)]
    waiting: Mode,
    /// Cores that connections' threads run on, each connection on one of them in turn
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    pin: Vec<u32>,
    /// Cores that clients of the latency class may share with their connection's thread
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    latency_core: Vec<u32>,
    /// Such a thread keeps its core, polling, for this long behind each request
    #[arg(long, default_value_t = 0)]
    latency_busy_poll_ms: u64,
    /// Close connections that ask nothing for this long
    #[arg(long)]
    idle_timeout_ms: Option<u64>,
    /// What is in flight at the signal has this long
    #[arg(long, default_value_t = 10_000)]
    drain_ms: u64,
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected permissions in octal, such as 600 or 660".into()),
    }
}

/// Serves until a signal.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    // Blocked before there are threads, which inherit that: only the one that waits for signals gets them.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    if let Err(error) = raise_fd_limit() {
        log::warn!("the limit of descriptors stays: {error}");
    }
    let server = builder(arguments).build()?;
    let handle = server.handle();
    thread::Builder::new().name("signals".into()).spawn({
        let handle = handle.clone();
        move || stop_at(signals, &handle)
    })?;
    announce(&format!("serving {}\n", arguments.path.display()))?;
    server.serve()?;
    let stats = handle.stats();
    announce(&format!(
        "served {} requests on {} connections, {} answered with a status\n",
        stats.requests, stats.accepted, stats.failures
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn builder(arguments: &Arguments) -> ServerBuilder {
    let mut builder = Server::builder(&arguments.path)
        .max_connections(arguments.max_connections)
        .mode(arguments.mode)
        .wait_strategy(arguments.waiting.strategy())
        .idle_timeout(arguments.idle_timeout_ms.map(Duration::from_millis))
        .drain_timeout(Duration::from_millis(arguments.drain_ms));
    if let Some(bytes) = arguments.ring_bytes {
        builder = builder.ring_bytes(bytes);
    }
    if let Some(bytes) = arguments.max_ring_bytes {
        builder = builder.max_ring_bytes(bytes);
    }
    if let Some(bytes) = arguments.max_message_bytes {
        builder = builder.max_message_bytes(bytes);
    }
    if !arguments.pin.is_empty() {
        builder = builder.placement(Placement::Cores(arguments.pin.clone()));
    }
    if !arguments.allow_uid.is_empty() || !arguments.allow_gid.is_empty() {
        let mut uids = arguments.allow_uid.clone();
        uids.push(nix::unistd::geteuid().as_raw());
        builder = builder.accept_from(PeerPolicy::Allow { uids, gids: arguments.allow_gid.clone() });
    }
    let builder = builder.latency_busy_poll(Duration::from_millis(arguments.latency_busy_poll_ms));
    arguments.latency_core.iter().fold(builder, |builder, core| builder.latency_class(*core))
}

fn stop_at(signals: SigSet, handle: &ServerHandle) {
    match signals.wait() {
        Ok(signal) => log::info!("{signal}: no further clients, and an end to those that are there"),
        Err(errno) => log::error!("waiting for signals: {errno}"),
    }
    handle.stop();
    if let Ok(signal) = signals.wait() {
        // As if it had not been blocked.
        process::exit(128 + signal as i32);
    }
}

/// Whoever started the server may not want to read.
fn announce(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
