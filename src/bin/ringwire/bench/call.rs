//! `bench rtt --layer call`: what a program sees of a call, with a server in the second process.
//!
//! The connection's own thread plays the other side of the limit, asked to by a message: a thread beside it would have to
//! share its core with one that polls.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use ringwire::client::ECHO;
use ringwire::server::Failure;
use ringwire::{Client, Server};

use super::arena::Arena;
use super::limits::{futex_block_peer, line_block_peer, wake_peer};
use super::machine::{pin, unpin};
use super::mode::Mode;
use super::rtt::{Arguments, Block, Run, limit_per_block, schedule};
use crate::child::spawn;
use crate::private_directory::PrivateDirectory;

/// The message type of "play the other side of the limit's block", whose number is the payload.
const LIMIT: u16 = 1;
/// Beyond this the pool of the server has no buffer.
const MAX_SIZE: usize = 1 << 20;
const MAX_RING_BYTES: u32 = 1 << 30;

/// What the second process is told.
#[derive(Args, Clone, Debug)]
pub struct PeerArguments {
    directory: PathBuf,
    arena: String,
    /// For bare wake-ups.
    waking: String,
    size: usize,
    mode: Mode,
    per_block: u32,
    #[arg(action = clap::ArgAction::Set)]
    pinned: bool,
}

fn server_path(directory: &Path) -> PathBuf {
    directory.join("server.sock")
}

fn socket_path(directory: &Path) -> PathBuf {
    directory.join("unix.sock")
}

/// One pair of processes, seen from the first.
pub(super) fn one_run(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    if !(1..=MAX_SIZE).contains(&arguments.size) {
        return Err(format!("--layer call takes messages of 1 to {MAX_SIZE} bytes").into());
    }
    let (blocks, per_block) = schedule(arguments);
    // The second process inherits the cores of this one.
    unpin()?;
    let directory = PrivateDirectory::create()?;
    let ((arena, name), (waking, waking_name)) = (Arena::create(0)?, Arena::create(0)?);
    let socket_listener = UnixListener::bind(socket_path(directory.path()))?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let [size, per_block_text] = [arguments.size as u64, per_block.into()].map(|number| number.to_string());
    let pinned = if arguments.pin { "true" } else { "false" };
    let mode = arguments.mode.name();
    let words = ["peer", "bench", "call", path, &name, &waking_name, &size, mode, &per_block_text, pinned];
    let peer = spawn(words)?;
    let mut client = Client::builder(server_path(directory.path()))
        .wait_for_server(true)
        .ring_bytes(arguments.ring)
        .strategy(arguments.mode.strategy())
        .connect()?;
    let (mut socket, _) = socket_listener.accept()?;
    if arguments.pin {
        pin(0)?;
    }
    let mut run = Run::default();
    let mut block = Block::new(arguments, per_block);
    for index in 0..blocks {
        client.notify(LIMIT, &index.to_ne_bytes())?;
        block.limit(&arena, index, &mut run)?;
        let p50 = block.timed(index, |_, payload, echo| {
            client.call(ECHO, payload)?.payload().copy_to(echo);
            Ok(())
        })?;
        block.beside_limit(p50, &mut run);
        // Without pauses both sides of the ring are awake, which no socket's are.
        if arguments.pause_us > 0 {
            let socket_p50 = block.timed(index, |_, payload, echo| {
                socket.write_all(payload)?;
                Ok(socket.read_exact(echo)?)
            })?;
            run.socket.extend(block.samples());
            run.socket_ratios.push(p50 / socket_p50);
            let wake_p50 = block.wakes(&waking, index);
            run.wakes.extend(block.samples());
            run.wake_socket_ratios.push(wake_p50 / socket_p50);
        }
    }
    drop((client, socket));
    peer.join()?;
    Ok(run)
}

/// The second process: a server of one client, and an echo over a socket.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let socket = UnixStream::connect(socket_path(&arguments.directory))?;
    let (arena, waking) = (Arena::open(&arguments.arena)?, Arena::open(&arguments.waking)?);
    let told = arguments.clone();
    let server = Server::builder(server_path(&arguments.directory))
        .max_ring_bytes(MAX_RING_BYTES)
        .wait_strategy(arguments.mode.strategy())
        .handle(LIMIT, move |request, reply| {
            let index = request.payload().read_at::<u32>(0);
            let index = index.ok_or_else(|| Failure::invalid_argument("expected the number of a block"))?;
            play_limit(&arena, &told, index)?;
            reply.send(&[])
        })
        .build()?;
    let handle = server.handle();
    let (size, pinned) = (arguments.size, arguments.pinned);
    thread::spawn(move || {
        if !pinned || pin(1).is_ok() {
            wake_peer(&waking);
        }
    });
    let echoing = thread::spawn(move || {
        let echoed = echo(socket, size, pinned);
        // The client has gone: both connections end together.
        handle.stop();
        echoed
    });
    server.serve()?;
    echoing.join().map_err(|_| "the echo panicked")??;
    Ok(())
}

/// On the connection's thread, which is pinned from here on if the measured path is to be.
fn play_limit(arena: &Arena, told: &PeerArguments, index: u32) -> std::io::Result<()> {
    pin(1)?;
    if told.mode == Mode::Block {
        futex_block_peer(arena, 1 + index * told.per_block, told.per_block);
    } else {
        let limit_per_block = limit_per_block(told.per_block);
        let (theirs, mine) = arena.pair(index);
        line_block_peer(mine, theirs, 1 + index * limit_per_block, limit_per_block);
    }
    if told.pinned { Ok(()) } else { unpin() }
}

fn echo(mut socket: UnixStream, size: usize, pinned: bool) -> std::io::Result<()> {
    if pinned {
        pin(1)?;
    }
    let mut buffer = vec![0; size];
    loop {
        match socket.read_exact(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        socket.write_all(&buffer)?;
    }
}
