//! A server in this process, and a client by hand that sees everything that comes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::server::{Server, ServerBuilder, ServerHandle};
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::{SLOTS, StatusPayload, correlation};
use ringwire::{Error, ErrorKind, Header, Kind, Stream};

/// A server that serves on a thread of its own. Shut down when dropped.
pub(crate) struct Serving {
    pub(crate) handle: ServerHandle,
    pub(crate) path: PathBuf,
    thread: Option<JoinHandle<Result<(), Error>>>,
    _directory: tempfile::TempDir,
}

impl Serving {
    pub(crate) fn start(choose: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.sock");
        let server = choose(Server::builder(&path)).build().unwrap();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.serve()));
        Self { handle, path, thread, _directory: directory }
    }

    pub(crate) fn caller(&self) -> Caller {
        self.try_caller().unwrap()
    }

    pub(crate) fn try_caller(&self) -> Result<Caller, Error> {
        Stream::connect(&self.path).map(Caller::new)
    }

    /// Waits for the end of `serve`, and says how it ended.
    pub(crate) fn join(mut self) -> Result<(), Error> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn shut_down(self) {
        assert!(self.handle.shutdown(Duration::from_secs(10)), "everything ends in time");
        self.join().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let in_time = self.handle.shutdown(Duration::from_secs(10));
            let served = thread.join().unwrap();
            if !std::thread::panicking() {
                served.unwrap();
                assert!(in_time, "everything ends in time");
            }
        }
    }
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

impl Came {
    pub(crate) fn status(&self) -> StatusPayload {
        StatusPayload::parse(&self.payload)
    }
}

/// A client by hand.
pub(crate) struct Caller {
    pub(crate) stream: Stream,
    sequence: u64,
    pub(crate) events: VecDeque<Came>,
    pub(crate) goodbye: Option<StatusPayload>,
    buffer: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, sequence: 0, events: VecDeque::new(), goodbye: None, buffer: Vec::new() }
    }

    /// Sends a request and says its correlation: slots in turn.
    pub(crate) fn ask(&mut self, message_type: u16, payload: &[u8]) -> u64 {
        self.try_ask(message_type, payload).unwrap()
    }

    pub(crate) fn try_ask(&mut self, message_type: u16, payload: &[u8]) -> Result<u64, Error> {
        self.sequence += 1;
        let slot = usize::try_from(self.sequence).unwrap() % SLOTS;
        let number = correlation(self.sequence, slot);
        self.stream.send(Header::new(Kind::Request, message_type, number), payload)?;
        Ok(number)
    }

    /// As `ask`, with a deadline that travels along.
    pub(crate) fn ask_until(&mut self, message_type: u16, payload: &[u8], deadline: Deadline) -> u64 {
        self.sequence += 1;
        let slot = usize::try_from(self.sequence).unwrap() % SLOTS;
        let number = correlation(self.sequence, slot);
        let mut bytes = deadline.as_ns().to_ne_bytes().to_vec();
        bytes.extend_from_slice(payload);
        let header = Header::new(Kind::Request, message_type, number).extended();
        self.stream.send(header, &bytes).unwrap();
        number
    }

    pub(crate) fn notify(&mut self, message_type: u16, payload: &[u8]) {
        self.stream.send(Header::new(Kind::Event, message_type, 0), payload).unwrap();
    }

    /// The next message, whatever it is.
    pub(crate) fn next(&mut self) -> Result<Came, Error> {
        let header = self.stream.receive_into(&mut self.buffer)?;
        Ok(Came { header, payload: self.buffer.clone() })
    }

    /// The next message that is no event and no goodbye.
    pub(crate) fn answer(&mut self) -> Result<Came, Error> {
        loop {
            let came = self.next()?;
            match came.header.kind {
                Kind::Event => self.events.push_back(came),
                Kind::Goodbye => self.goodbye = Some(came.status()),
                _ => return Ok(came),
            }
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Came {
        match self.events.pop_front() {
            Some(event) => event,
            None => {
                let came = self.next().unwrap();
                assert_eq!(came.header.kind, Kind::Event, "{came:?}");
                came
            }
        }
    }

    /// Asks, and waits for the answer to just that.
    pub(crate) fn call(&mut self, message_type: u16, payload: &[u8]) -> Result<Vec<u8>, StatusPayload> {
        let number = self.ask(message_type, payload);
        let came = self.answer().unwrap();
        assert_eq!(came.header.correlation, number, "the answer to something else: {came:?}");
        assert_eq!(came.header.message_type, message_type);
        match came.header.kind {
            Kind::Response => Ok(came.payload),
            Kind::Error => Err(came.status()),
            other => panic!("answered with {other:?}"),
        }
    }

    /// As `call`, for a status.
    pub(crate) fn refused(&mut self, message_type: u16, payload: &[u8]) -> (Status, String) {
        let status = self.call(message_type, payload).unwrap_err();
        (status.status, status.message)
    }

    /// Receives until the server has closed the connection.
    pub(crate) fn until_closed(&mut self) -> Vec<Came> {
        let mut rest = Vec::new();
        loop {
            match self.answer() {
                Ok(came) => rest.push(came),
                Err(error) => {
                    let ended = matches!(error.kind(), ErrorKind::PeerClosed | ErrorKind::PeerDied);
                    assert!(ended, "{error}");
                    return rest;
                }
            }
        }
    }
}
