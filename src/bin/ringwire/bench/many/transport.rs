//! What `bench many` asks of a way to answer requests.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::super::mode::Mode;

/// What both processes know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Plan {
    /// Clients, each on a thread and a connection of its own
    pub connections: u32,
    /// Requests on each connection
    pub messages: u64,
    /// Bytes of a request, and of its answer
    pub size: usize,
    /// Requests under way on a connection at the most
    pub window: usize,
    /// What a ring's ends do while they wait
    pub mode: Mode,
    /// Both threads of a connection are bound to one core
    #[arg(action = clap::ArgAction::Set)]
    pub placed: bool,
}

impl Plan {
    /// Requests on each connection, with the one before the measurement.
    pub fn requests(&self) -> u64 {
        1 + self.messages
    }

    /// As the second process takes it.
    pub fn to_arguments(self) -> [String; 6] {
        let Self { connections, messages, size, window, mode, placed } = self;
        [
            connections.to_string(),
            messages.to_string(),
            size.to_string(),
            window.to_string(),
            mode.name().into(),
            placed.to_string(),
        ]
    }
}

/// The server's side, which also knows how its clients connect.
pub trait Transport: Sized {
    /// A client's end.
    type Connection: Connection;

    /// In the server process: makes ready, and says by which address clients find it. Files go into `directory`.
    fn listen(plan: &Plan, directory: &Path) -> Result<(Self, String), Box<dyn Error>>;

    /// Echoes, with a thread for each connection, until all clients have gone.
    fn serve(self, plan: &Plan) -> Result<(), Box<dyn Error>>;

    /// In the client process: the connections of these clients, of which each has a thread.
    fn connect(
        plan: &Plan,
        address: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<Self::Connection>, Box<dyn Error>>;
}

/// A client's end of a connection.
pub trait Connection: Send + 'static {
    /// How long a wait may last before it is an error; for ever if never called.
    fn limit_waits(&mut self, limit: Duration) -> Result<(), Box<dyn Error>>;

    /// Sends these requests, each with the payload that `fill` writes.
    fn submit(&mut self, numbers: Range<u64>, fill: impl FnMut(u64, &mut [u8]))
    -> Result<(), Box<dyn Error>>;

    /// Waits for an answer; gives it, and all others that have come with it, to `take`.
    fn collect(&mut self, take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>>;
}
