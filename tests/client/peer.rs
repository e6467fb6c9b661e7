//! A server that does as the test says: one end of a connection, and the answers of which a proper server gives one each.

use std::thread;

use ringwire::wire::Status;
use ringwire::wire::call::StatusPayload;
use ringwire::{Client, ClientBuilder, Error, ErrorKind, Header, Kind, Listener, Stream, WaitStrategy};

use crate::common::Watchdog;

pub(crate) struct Peer {
    pub(crate) stream: Stream,
    buffer: Vec<u8>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) header: Header,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn try_next(&mut self) -> Result<Asked, Error> {
        let header = self.stream.receive_into(&mut self.buffer)?;
        let (deadline_ns, payload) = if header.is_extended() {
            let (deadline, payload) = self.buffer.split_first_chunk().unwrap();
            (Some(u64::from_ne_bytes(*deadline)), payload)
        } else {
            (None, &self.buffer[..])
        };
        Ok(Asked { header, deadline_ns, payload: payload.to_vec() })
    }

    /// The next message, whatever it is.
    pub(crate) fn next(&mut self) -> Asked {
        self.try_next().unwrap()
    }

    /// Waits for the client to go.
    pub(crate) fn see_end(&mut self) {
        assert_eq!(self.try_next().unwrap_err().kind(), ErrorKind::PeerClosed);
    }

    /// Says anything, with the type and the correlation of `asked`.
    pub(crate) fn say(&mut self, kind: Kind, asked: &Asked, payload: &[u8]) {
        let header = Header::new(kind, asked.header.message_type, asked.header.correlation);
        self.stream.send(header, payload).unwrap();
    }

    pub(crate) fn respond(&mut self, asked: &Asked, payload: &[u8]) {
        self.say(Kind::Response, asked, payload);
    }

    pub(crate) fn item(&mut self, asked: &Asked, payload: &[u8]) {
        self.say(Kind::StreamItem, asked, payload);
    }

    pub(crate) fn fail(&mut self, asked: &Asked, status: Status, text: &str) {
        self.say(Kind::Error, asked, &status_bytes(status, text));
    }

    pub(crate) fn end(&mut self, asked: &Asked, status: Status) {
        self.say(Kind::StreamEnd, asked, &status_bytes(status, "the stream's end"));
    }

    pub(crate) fn event(&mut self, message_type: u16, payload: &[u8]) {
        self.stream.send(Header::new(Kind::Event, message_type, 0), payload).unwrap();
    }

    pub(crate) fn goodbye(&mut self) {
        let bytes = status_bytes(Status::Unavailable, "shutting down");
        self.stream.send(Header::new(Kind::Goodbye, 0, 0), &bytes).unwrap();
    }

    /// Says anything as a server's loop does: it takes nothing in while it waits for room.
    pub(crate) fn say_strictly(&mut self, kind: Kind, asked: &Asked, payload: &[u8]) {
        let header = Header::new(kind, asked.header.message_type, asked.header.correlation);
        let (sender, _) = self.stream.halves();
        sender.send(header, payload).unwrap();
    }

    /// Answers everything with what was asked, until the client goes.
    pub(crate) fn echo(mut self) {
        while let Ok(asked) = self.try_next() {
            match asked.header.kind {
                Kind::Request => self.say_strictly(Kind::Response, &asked, &asked.payload),
                Kind::Ping => self.say(Kind::Pong, &asked, &asked.payload),
                _ => {}
            }
        }
    }
}

pub(crate) fn status_bytes(status: Status, text: &str) -> Vec<u8> {
    StatusPayload::encode(status, None, text)
}

/// A pair in this process, with rings of this size.
pub(crate) fn pair(ring_bytes: u32) -> (Stream, Peer) {
    let (client, server) = Stream::pair_with(ring_bytes, WaitStrategy::SpinThenPark).unwrap();
    (client, Peer::new(server))
}

/// A client as `builder` says, over one end of a fresh pair.
pub(crate) fn client_and_peer(builder: ClientBuilder) -> (Client, Peer) {
    let (stream, peer) = pair(64 << 10);
    (builder.over(stream), peer)
}

pub(crate) fn any() -> ClientBuilder {
    Client::builder("")
}

/// Runs both sides, over a pair and over a path.
pub(crate) fn both_ways(
    builder: impl Fn(ClientBuilder) -> ClientBuilder + Sync,
    server: impl Fn(Peer) + Sync,
    client: impl Fn(Client),
) {
    let _watchdog = Watchdog::start();
    let (one, peer) = client_and_peer(builder(any()));
    run(one, peer, &server, &client);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener = Listener::bind(&path).unwrap();
    thread::scope(|scope| {
        let connecting = scope.spawn(|| builder(Client::builder(&path)).connect().unwrap());
        let peer = Peer::new(listener.accept().unwrap());
        run(connecting.join().unwrap(), peer, &server, &client);
    });
}

fn run(one: Client, peer: Peer, server: &(impl Fn(Peer) + Sync), client: &impl Fn(Client)) {
    thread::scope(|scope| {
        let serving = scope.spawn(|| server(peer));
        client(one);
        serving.join().unwrap();
    });
}

/// Runs both sides once.
pub(crate) fn once(
    (one, peer): (Client, Peer),
    server: impl FnOnce(Peer) + Send,
    client: impl FnOnce(Client),
) {
    let _watchdog = Watchdog::start();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server(peer));
        client(one);
        serving.join().unwrap();
    });
}
