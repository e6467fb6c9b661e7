//! The second process, seen from both sides: how it serves, and how it is reached.

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use ringwire::{Listener, Stream};

use super::ring::{self, RingRoute};
use super::route::Intake;
use super::socket::{self, SocketRoute};
use crate::child::{self, Peer};
use crate::private_directory::PrivateDirectory;

/// The server is there by then, or does not come any more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of each ring: as the buffer of a Unix socket (208 KiB by default), or the comparison would be one of sizes.
const RING_BYTES: u32 = 256 << 10;
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// What the second process is told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    /// Where its sockets go
    directory: PathBuf,
    /// Get one bit wrong by each route: for the test that proves that the demo can fail
    #[arg(long)]
    corrupt_one: bool,
}

fn ring_path(directory: &Path) -> PathBuf {
    directory.join("ring.sock")
}

fn socket_path(directory: &Path) -> PathBuf {
    directory.join("unix.sock")
}

/// Serves one client: first through the ring, then through the socket, each until it closes.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let socket = UnixListener::bind(socket_path(&arguments.directory))?;
    // Last, so that who reaches this one reaches the other.
    let mut listener = Listener::bind(ring_path(&arguments.directory))?;
    let stream = listener.accept_timeout(CONNECT_TIMEOUT)?;
    let (connection, _) = socket.accept()?;
    drop((listener, socket));
    ring::serve(stream, Intake::new(arguments.corrupt_one))?;
    socket::serve(&connection, Intake::new(arguments.corrupt_one))?;
    Ok(())
}

/// A server, and both ways to it.
#[derive(Debug)]
pub struct Server {
    /// Ends by itself when both ways are closed; `None` if somebody else has started it.
    pub process: Option<Peer>,
    /// The way through the ring.
    pub ring: RingRoute,
    /// The way through the socket. The server comes to it when the ring is closed.
    pub socket: SocketRoute,
}

impl Server {
    /// Starts one and connects. Once it is connected nothing is left in the file system, however this process ends.
    pub fn start(corrupt_one: bool) -> Result<Self, Box<dyn Error>> {
        let directory = PrivateDirectory::create().map_err(|error| {
            format!("no private directory in {}: {error}", std::env::temp_dir().display())
        })?;
        let path = directory.path();
        let mut arguments: Vec<OsString> = vec!["peer".into(), "demo".into(), path.into()];
        if corrupt_one {
            arguments.push("--corrupt-one".into());
        }
        let process = child::spawn(arguments).map_err(|error| format!("no second process: {error}"))?;
        Self::connect(path, Some(process))
    }

    /// Connects to one that serves in `directory`, or will soon.
    pub fn reach(directory: &Path) -> Result<Self, Box<dyn Error>> {
        Self::connect(directory, None)
    }

    fn connect(directory: &Path, process: Option<Peer>) -> Result<Self, Box<dyn Error>> {
        let stream = connect(&ring_path(directory), process.as_ref())?;
        let socket = UnixStream::connect(socket_path(directory))?;
        Ok(Self { process, ring: RingRoute::new(stream), socket: SocketRoute::new(socket) })
    }
}

/// A stream to the server, as soon as it listens.
fn connect(path: &Path, server: Option<&Peer>) -> Result<Stream, Box<dyn Error>> {
    let begun = Instant::now();
    loop {
        let left = CONNECT_TIMEOUT.saturating_sub(begun.elapsed());
        let error = match Stream::builder(path).ring_bytes(RING_BYTES).timeout(left).connect() {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let ended = server.map_or(Ok(false), has_ended)?;
        if !error.is_retryable() || left.is_zero() || ended {
            return Err(format!("the second process cannot be reached: {error}").into());
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// Whether the process has ended; it can still be waited for.
fn has_ended(process: &Peer) -> Result<bool, Box<dyn Error>> {
    let id = Id::Pid(Pid::from_raw(process.id().try_into()?));
    let looked = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)?;
    Ok(looked != WaitStatus::StillAlive)
}
