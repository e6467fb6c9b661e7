//! `ringwire bench`: every figure as a ratio against something that the same run measures on the same machine.
//!
//! Two processes. Blocks of the measured path alternate with blocks of its limit, so that a machine whose speed drifts
//! drifts for both.

mod arena;
mod bytes;
mod call;
mod limits;
mod machine;
mod mode;
mod oneway;
mod report;
mod rtt;

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
}

/// Runs the first process.
pub fn run(command: &Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Limits(arguments) => limits::run(arguments),
        Command::Rtt(arguments) => rtt::run(arguments),
        Command::Stream(arguments) => oneway::run(arguments),
        Command::Bytes(arguments) => bytes::run(arguments),
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
    }
}
