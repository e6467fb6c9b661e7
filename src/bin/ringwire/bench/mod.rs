//! `ringwire bench`: every figure as a ratio against something that the same run measures on the same machine.
//!
//! Two processes. Blocks of the measured path alternate with blocks of its limit, so that a machine whose speed drifts
//! drifts for both.

mod arena;
mod bare;
mod bytes;
mod call;
mod churn;
mod idle;
pub mod latency;
mod limits;
pub mod machine;
pub mod many;
mod memory;
pub mod mode;
mod oneway;
pub mod procfs;
pub mod report;
mod rtt;
mod tokens;

use std::error::Error;

use clap::Subcommand;

pub use mode::Mode;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the machine itself can do: cache lines, futexes, whole buffers handed across
    Limits(limits::Arguments),
    /// Round trips of a message and its echo
    Rtt(rtt::Arguments),
    /// Messages one way
    Stream(oneway::Arguments),
    /// Round trips of bytes, beside the same over a Unix socket
    Bytes(bytes::Arguments),
    /// Requests on many connections at once, beside the same over Unix sockets and bare futexes
    Many(many::Arguments),
    /// Memory of a server, and of each further connection
    Memory(memory::Arguments),
    /// Wake-ups and processor time of connections on which nothing happens
    Idle(idle::Arguments),
    /// A streamed response of many small items
    Tokens(tokens::Arguments),
    /// One connection of the latency class beside many busy ones
    Latency(latency::Arguments),
}

/// The second process of a measurement.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// The other end of the limits
    Limits(limits::PeerArguments),
    /// Echoes
    Rtt(rtt::PeerArguments),
    /// Answers calls
    Call(call::PeerArguments),
    /// Receives
    Stream(oneway::PeerArguments),
    /// Echoes over both
    Bytes(bytes::PeerArguments),
    /// Answers on many connections
    Many(many::PeerArguments),
    /// Answers, and is looked at
    Memory(memory::PeerArguments),
    /// Waits
    Idle(idle::PeerArguments),
    /// Streams
    Tokens(tokens::PeerArguments),
    /// Answers one of many first
    Latency(latency::PeerArguments),
}

/// Runs the first process.
pub fn run(command: &Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Limits(arguments) => limits::run(arguments),
        Command::Rtt(arguments) => rtt::run(arguments),
        Command::Stream(arguments) => oneway::run(arguments),
        Command::Bytes(arguments) => bytes::run(arguments),
        Command::Many(arguments) => many::run(arguments),
        Command::Memory(arguments) => memory::run(arguments),
        Command::Idle(arguments) => idle::run(arguments),
        Command::Tokens(arguments) => tokens::run(arguments),
        Command::Latency(arguments) => latency::run(arguments),
    }
}

/// Runs the second process.
pub fn run_peer(command: &PeerCommand) -> Result<(), Box<dyn Error>> {
    match command {
        PeerCommand::Limits(arguments) => limits::run_peer(arguments),
        PeerCommand::Rtt(arguments) => rtt::run_peer(arguments),
        PeerCommand::Call(arguments) => call::run_peer(arguments),
        PeerCommand::Stream(arguments) => oneway::run_peer(arguments),
        PeerCommand::Bytes(arguments) => bytes::run_peer(arguments),
        PeerCommand::Many(arguments) => many::run_peer(arguments),
        PeerCommand::Memory(arguments) => memory::run_peer(arguments),
        PeerCommand::Idle(arguments) => idle::run_peer(arguments),
        PeerCommand::Tokens(arguments) => tokens::run_peer(arguments),
        PeerCommand::Latency(arguments) => latency::run_peer(arguments),
    }
}
