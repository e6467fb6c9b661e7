//! Servers for pools: a real one in this process, and other ends that the test holds in its hands.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::client::pool::ClientPoolBuilder;
use ringwire::server::{Server, ServerBuilder, ServerHandle};
use ringwire::{Client, ClientPool, Error, Stream};

/// A server that serves on a thread of its own. Shut down when dropped.
pub(crate) struct Serving {
    pub(crate) handle: ServerHandle,
    pub(crate) path: PathBuf,
    thread: Option<JoinHandle<Result<(), Error>>>,
    _folder: tempfile::TempDir,
}

impl Serving {
    pub(crate) fn start(choose: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let server = choose(Server::builder(&path)).build().unwrap();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.serve()));
        Self { handle, path, thread, _folder: folder }
    }

    pub(crate) fn pool(&self, min: usize, max: usize) -> ClientPoolBuilder {
        ClientPool::builder(&self.path).min_connections(min).max_connections(max)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let in_time = self.handle.shutdown(Duration::from_secs(10));
        let served = self.thread.take().unwrap().join().unwrap();
        if !std::thread::panicking() {
            served.unwrap();
            assert!(in_time, "everything ends in time");
        }
    }
}

/// The other ends of a pool's connections, by their number, and whether further ones can be opened.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    pub(crate) streams: Arc<Mutex<VecDeque<Option<Stream>>>>,
    pub(crate) refusal: Arc<Mutex<Option<ringwire::ErrorKind>>>,
}

impl Ends {
    /// A pool whose connections nobody serves: no pings before they are lent.
    pub(crate) fn pool(&self, min: usize, max: usize) -> ClientPoolBuilder {
        let ends = self.clone();
        let connect = move |_| {
            if let Some(kind) = *ends.refusal.lock().unwrap() {
                return Err(Error::from(kind));
            }
            let (client, server) = Stream::pair()?;
            ends.streams.lock().unwrap().push_back(Some(server));
            Ok(Client::builder("").over(client))
        };
        let pool = ClientPool::over(connect).check_after(Duration::MAX);
        pool.min_connections(min).max_connections(max)
    }

    /// Closes the other end of the connection with this number, from 0.
    pub(crate) fn close(&self, number: usize) {
        drop(self.streams.lock().unwrap()[number].take());
    }

    pub(crate) fn refuse(&self, kind: impl Into<Option<ringwire::ErrorKind>>) {
        *self.refusal.lock().unwrap() = kind.into();
    }
}

/// Size, idle, in use, waiting.
pub(crate) fn figures(pool: &ClientPool) -> (usize, usize, usize, usize) {
    let metrics = pool.metrics();
    (metrics.size, metrics.idle, metrics.in_use, metrics.waiting)
}
