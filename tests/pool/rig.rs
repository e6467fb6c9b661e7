//! Servers for pools: a real one in this process, and other ends that the test holds in its hands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::client::pool::ClientPoolBuilder;
use ringwire::server::{Server, ServerBuilder, ServerHandle};
use ringwire::sync::Counter;
use ringwire::{Client, ClientPool, Error, ErrorKind, Header, Kind, Stream};

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

/// The other ends of a pool's connections, and whether further ones can be opened.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    /// Those that have not seen the end, by the number of the connection, from 0.
    streams: Arc<Mutex<BTreeMap<usize, Stream>>>,
    opened: Arc<Counter>,
    refusal: Arc<Mutex<Option<ErrorKind>>>,
}

impl Ends {
    /// A pool whose connections nobody serves: no pings before they are lent.
    pub(crate) fn pool(&self, min: usize, max: usize) -> ClientPoolBuilder {
        let ends = self.clone();
        let connect = move |_| match *ends.refusal.lock().unwrap() {
            Some(kind) => Err(Error::from(kind)),
            None => ends.open(),
        };
        let pool = ClientPool::over(connect).check_after(Duration::MAX);
        pool.min_connections(min).max_connections(max)
    }

    fn open(&self) -> Result<Client, Error> {
        let (client, server) = Stream::pair()?;
        let mut streams = self.streams.lock().unwrap();
        streams.retain(|_, stream| {
            loop {
                match stream.try_receive() {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        });
        streams.insert(usize::try_from(self.opened.add(1)).unwrap(), server);
        Ok(Client::builder("").over(client))
    }

    /// Closes the other end of the connection with this number.
    pub(crate) fn close(&self, number: usize) {
        drop(self.streams.lock().unwrap().remove(&number));
    }

    /// Sends so many events to the client of the connection with this number.
    pub(crate) fn tell(&self, number: usize, events: u64) {
        let mut streams = self.streams.lock().unwrap();
        for event in 0..events {
            let header = Header::new(Kind::Event, 3, 0);
            streams.get_mut(&number).unwrap().send(header, &event.to_ne_bytes()).unwrap();
        }
    }

    pub(crate) fn refuse(&self, kind: impl Into<Option<ErrorKind>>) {
        *self.refusal.lock().unwrap() = kind.into();
    }
}

/// Size, idle, in use, waiting.
pub(crate) fn figures(pool: &ClientPool) -> (usize, usize, usize, usize) {
    let metrics = pool.metrics();
    (metrics.size, metrics.idle, metrics.in_use, metrics.waiting)
}
