//! How both sides of a measurement wait.

use clap::ValueEnum;
use ringwire::WaitStrategy;

/// What both sides do while they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Poll; a limit in the same run is the ping-pong of two cache lines
    Spin,
    /// Sleep at once; a limit in the same run is a ping-pong of two futexes
    Block,
    /// Poll for as long as it pays, then sleep; a limit in the same run is the cache lines'
    Adaptive,
}

impl Mode {
    /// What it asks of a stream.
    pub fn strategy(self) -> WaitStrategy {
        match self {
            Self::Spin => WaitStrategy::SpinOnly,
            Self::Block => WaitStrategy::ParkAtOnce,
            Self::Adaptive => WaitStrategy::SpinThenPark,
        }
    }

    /// As it is written as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Block => "block",
            Self::Adaptive => "adaptive",
        }
    }
}
