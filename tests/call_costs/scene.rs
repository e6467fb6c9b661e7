//! A server, in this process or in a second one, with 64 handlers of its own.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::server::{Server, ServerHandle};
use ringwire::{Client, Error, WaitStrategy};

use super::allocations;
use super::common::{Second, say, scene::strategy, second, setting, told};

/// Answers with the payload: in the middle of the others.
pub(crate) const ECHO: u16 = 40;
/// Answers with how often the process has allocated, and has the connection's thread counted from here on.
pub(crate) const ALLOCATIONS: u16 = 100;
/// Streams as many items of 32 bytes as the payload says.
pub(crate) const ITEMS: u16 = 101;
/// Has the connection's thread traced by the parent process; answers with the thread's id.
pub(crate) const TRACE: u16 = 102;
/// Stops the connection's thread for the tracer.
pub(crate) const STOP: u16 = 103;
/// Takes messages that nobody answers.
pub(crate) const NOTE: u16 = 104;

pub(crate) fn server(path: &Path, waiting: WaitStrategy) -> Server {
    let mut builder = Server::builder(path).wait_strategy(waiting);
    for message_type in 0..64 {
        builder = builder.handle(message_type, |request, reply| reply.send_payload(request.payload()));
    }
    builder = builder
        .handle(ALLOCATIONS, |_, reply| reply.send(&allocations::begin().to_ne_bytes()))
        .handle(NOTE, |_, reply| reply.send(&[]))
        .handle_streaming(ITEMS, |mut request, items| {
            let mut count = [0; 8];
            std::io::Read::read_exact(&mut request, &mut count)?;
            (0..u64::from_ne_bytes(count)).try_for_each(|_| items.send(&[7; 32]))
        });
    #[cfg(target_arch = "x86_64")]
    {
        use super::traced;
        builder = builder.handle(TRACE, |_, reply| reply.send(&traced::trace_me().to_ne_bytes())).handle(
            STOP,
            |_, reply| {
                traced::breakpoint();
                reply.send(&[])
            },
        );
    }
    builder.build().unwrap()
}

/// The second process: serves until it is told to end.
pub(crate) fn serving() {
    let server = server(Path::new(&setting("SOCKET")), strategy(&setting("WAITING")));
    let handle = server.handle();
    let thread = std::thread::spawn(move || server.serve());
    say("serving");
    told();
    assert!(handle.shutdown(Duration::from_secs(10)));
    thread.join().unwrap().unwrap();
}

/// Starts it.
pub(crate) fn second_server(path: &Path, waiting: &str) -> Second {
    let mut second = second("serving", &[("SOCKET", path.to_str().unwrap()), ("WAITING", waiting)]);
    second.hear();
    second
}

pub(crate) fn connect(path: &Path, waiting: &str) -> Client {
    Client::builder(path).strategy(strategy(waiting)).connect().unwrap()
}

/// A server on a thread of this process. Shut down when dropped.
pub(crate) struct Here {
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<(), Error>>>,
    pub(crate) path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Here {
    pub(crate) fn start(waiting: &str) -> Self {
        let (directory, path) = super::common::scene::place();
        let server = server(&path, strategy(waiting));
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.serve()));
        Self { handle, thread, path, _directory: directory }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let in_time = self.handle.shutdown(Duration::from_secs(10));
        let served = self.thread.take().unwrap().join().unwrap();
        if !std::thread::panicking() {
            assert!(in_time);
            served.unwrap();
        }
    }
}
