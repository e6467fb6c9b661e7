//! `ringwire stress`: suites that try to break a server and its clients, each with bars that they must keep.
//!
//! Everything that a suite starts is a process or a thread of its own, and ended with it. Bars on time are judged in
//! release builds alone.

mod chaos;
mod connections;
mod latency;
mod leak;
mod memory;
mod payload;
mod random;
mod server;
mod session;
mod verdict;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// What to put under stress.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Many connections at once, each as fast as it can
    Connections(Options),
    /// All buffers lent, hundreds of connections: what the server's memory comes to
    Memory(Options),
    /// One connection of the latency class beside hundreds that give no pause
    Latency(Options),
    /// Waves of connections, and what is left when each has gone
    Leak(Options),
    /// Kills, corruption, stalls, floods and restarts, and a client that goes on through all of it
    Chaos(chaos::Arguments),
    /// An editor's day: completions, chats, files, three windows at once
    Session(session::Arguments),
}

/// What all suites know.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The whole of it: minutes, up to half an hour
    #[arg(long)]
    full: bool,
    /// A few seconds: for the tests
    #[arg(long, conflicts_with = "full")]
    short: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Repeats the run that printed it, as far as machines repeat themselves
    #[arg(long)]
    seed: Option<u64>,
}

/// How much of a suite is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For the tests.
    Short,
    /// Up to 30 s.
    Normal,
    /// As the bars have it.
    Full,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }

    /// One of three.
    fn choose<T>(self, short: T, normal: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Normal => normal,
            Self::Full => full,
        }
    }
}

impl Options {
    fn form(&self) -> Form {
        match (self.full, self.short) {
            (true, _) => Form::Full,
            (_, true) => Form::Short,
            _ => Form::Normal,
        }
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(random::any_seed)
    }
}

/// The other processes of a suite.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Answers
    Server(server::PeerArguments),
    /// Asks until it is killed
    Client(chaos::ClientArguments),
    /// Takes memory until it is killed
    Balloon(chaos::BalloonArguments),
    /// The latency suite as a user without privileges
    Latency(latency::PeerArguments),
}

/// Runs a suite; the exit code says whether it has kept its bars.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    crate::bench::machine::raise_descriptor_limit()?;
    match command {
        Command::Connections(options) => connections::run(options),
        Command::Memory(options) => memory::run(options),
        Command::Latency(options) => latency::run(options),
        Command::Leak(options) => leak::run(options),
        Command::Chaos(arguments) => chaos::run(arguments),
        Command::Session(arguments) => session::run(arguments),
    }
}

/// Runs another process of a suite.
pub fn run_peer(command: &PeerCommand) -> Result<(), Box<dyn Error>> {
    match command {
        PeerCommand::Server(arguments) => server::run_peer(arguments),
        PeerCommand::Client(arguments) => chaos::run_client(arguments),
        PeerCommand::Balloon(arguments) => chaos::run_balloon(arguments),
        PeerCommand::Latency(arguments) => latency::run_peer(arguments),
    }
}
