//! The `ringwire` command: a server and calls for use by hand and in scripts, a demonstration on real files, the
//! benchmarks behind every figure in the README, and what the library stands up to.
#![forbid(unsafe_code)]

mod bench;
mod call;
mod child;
mod criteria;
mod demo;
mod private_directory;
mod serve;
mod stress;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringwire::transport::limit_malloc_arenas;

/// Of the allocator: enough for a program that allocates little once it runs.
const ARENAS: u32 = 2;

/// Blocking inter-process communication over shared memory.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends every file of a directory to a second process and checks what comes back
    Demo(demo::Arguments),
    /// Measures latency and throughput between two processes, beside the machine's own limits
    #[command(subcommand)]
    Bench(bench::Command),
    /// Tries to break a server, and says what it held against: exits with 1 if less than it promises
    #[command(subcommand)]
    Stress(stress::Command),
    /// Serves echo, ping, stats and server-info at a path until SIGTERM or SIGINT
    Serve(serve::Arguments),
    /// Asks the server at a path, and prints its answer
    Call(call::Arguments),
    /// Measures what was promised, and judges each figure
    Criteria(criteria::Arguments),
    /// The second process of the other commands
    #[command(subcommand, hide = true)]
    Peer(PeerCommand),
}

/// What the second process does. Started by [`child::spawn`].
#[derive(Debug, Subcommand)]
enum PeerCommand {
    /// Counts what it receives
    Demo(demo::PeerArguments),
    /// Answers, or takes in, what a benchmark sends
    #[command(subcommand)]
    Bench(bench::PeerCommand),
    /// Serves, asks, or misbehaves
    #[command(subcommand)]
    Stress(stress::PeerCommand),
}

fn run_peer(command: &PeerCommand) -> Result<(), Box<dyn Error>> {
    child::die_with_parent()?;
    match command {
        PeerCommand::Demo(arguments) => demo::run_peer(arguments),
        PeerCommand::Bench(command) => bench::run_peer(command),
        PeerCommand::Stress(command) => stress::run_peer(command),
    }
}

fn main() -> ExitCode {
    // First of all: not once there are threads. Without it (or with another C library) all works, with more memory.
    let arenas = limit_malloc_arenas(ARENAS);
    let command = Arguments::parse().command;
    // What is done to a server under stress is no news.
    let is_stressed = matches!(command, Command::Peer(PeerCommand::Stress(_)));
    let level = if is_stressed { "error" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    if let Err(error) = arenas {
        log::debug!("the allocator keeps to its own choice: {error}");
    }
    let done = match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(command) => bench::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Stress(command) => stress::run(&command),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Call(arguments) => call::run(&arguments),
        Command::Criteria(arguments) => criteria::run(&arguments),
        Command::Peer(command) => run_peer(&command).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        let cause = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if cause == Some(io::ErrorKind::BrokenPipe) {
            // Whoever reads the output has seen enough.
            return ExitCode::SUCCESS;
        }
        eprintln!("ringwire: {error}");
        ExitCode::from(2)
    })
}
