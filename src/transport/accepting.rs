//! How clients come in: they are taken from the backlog, heard, and welcomed or refused.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Admit;
use super::connection::{Connection, LiveGuard};
use super::credentials::Credentials;
use super::handshake::{Incoming as IncomingHandshake, Refusal, welcome};
use super::limits::last_descriptor;
use super::listener::{Listener, watch};
use super::stream::Stream;
use crate::error::Error;
use crate::shm::Direction;
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::wait::Deadline;
use crate::wire::Status;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// Unfinished handshakes at once; beyond that the oldest is dropped for the newest.
const MAX_PENDING: usize = 128;

/// A client whose `Hello` is on its way.
#[derive(Debug)]
pub(super) struct Pending {
    socket: UnixStream,
    peer: Credentials,
    incoming: IncomingHandshake,
    pub(super) deadline: Deadline,
}

impl Listener {
    fn take_pending(&mut self, index: usize) -> Pending {
        let pending = self.pending.remove(index);
        // It has been added; and its end ends the watch too.
        let _ = self.watch.delete(&pending.socket);
        pending
    }

    /// Takes in as many as there are places, or one: so each has been listened to before it can be dropped as the oldest,
    /// and clients that keep coming do not hold up those that are there.
    pub(super) fn accept_waiting_clients(&mut self) -> Result<(), Error> {
        if self.spare.is_none() {
            self.spare = open_spare();
        }
        let places = MAX_PENDING.saturating_sub(self.pending.len());
        for _ in 0..places.max(1) {
            match self.socket.accept() {
                Ok((socket, _)) => self.admit(socket),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(()),
                    Some(libc::EMFILE | libc::ENFILE) => return self.refuse_for_want_of_descriptors(&error),
                    Some(libc::ECONNABORTED | libc::EINTR) => {}
                    _ => return Err(Error::system(format!("accepting at {}", self.path().display()), error)),
                },
            }
        }
        Ok(())
    }

    fn admit(&mut self, socket: UnixStream) {
        failpoint(Failpoint::AcceptTaken);
        let peer = match Credentials::of_peer(&socket) {
            Ok(peer) => peer,
            Err(errno) => return log::debug!("client without credentials: {errno}"),
        };
        if !self.policy.allows(&peer) {
            let reason = format!("{peer} is not allowed to connect to this server");
            return Refusal::new(Status::PermissionDenied, reason).send(&socket);
        }
        if self.pending.len() >= MAX_PENDING {
            let oldest = self.take_pending(0);
            Refusal::new(Status::ResourceExhausted, "too many unfinished handshakes").send(&oldest.socket);
        }
        if let Err(errno) = watch(&self.watch, &socket) {
            let reason = format!("the server cannot wait for another handshake: {errno}");
            return Refusal::new(Status::ResourceExhausted, reason).send(&socket);
        }
        let deadline = Deadline::after(HANDSHAKE_TIMEOUT);
        self.pending.push(Pending { socket, peer, incoming: IncomingHandshake::default(), deadline });
        failpoint(Failpoint::AcceptAdmitted);
    }

    /// Out of descriptors: gives up the spare one for as long as it takes to say so to the next client.
    fn refuse_for_want_of_descriptors(&mut self, cause: &io::Error) -> Result<(), Error> {
        let Some(spare) = self.spare.take() else {
            // Nothing to refuse with: leave the client in the backlog and do not spin on it.
            std::thread::sleep(Duration::from_millis(10));
            return Ok(());
        };
        let _turn = last_descriptor();
        drop(spare);
        if let Ok((socket, _)) = self.socket.accept() {
            log::warn!("client refused: {cause}");
            Refusal::new(Status::ResourceExhausted, format!("the server is out of descriptors: {cause}"))
                .send(&socket);
        }
        self.spare = open_spare();
        Ok(())
    }

    /// Takes in what clients have said; the first whose handshake is finished becomes a stream.
    pub(super) fn advance_handshakes(&mut self, admit: &mut Admit<'_>) -> Option<Stream> {
        let mut index = 0;
        while index < self.pending.len() {
            let pending = &mut self.pending[index];
            match pending.incoming.read_hello(&pending.socket) {
                Ok(None) if !pending.deadline.has_passed() => index += 1,
                Ok(None) => {
                    let pending = self.take_pending(index);
                    let reason = format!("no complete handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
                    Refusal::new(Status::DeadlineExceeded, reason).send(&pending.socket);
                }
                Ok(Some(hello)) => {
                    failpoint(Failpoint::HelloRead);
                    let pending = self.take_pending(index);
                    match self.establish(pending, &hello, admit) {
                        Ok(stream) => return Some(stream),
                        Err((socket, refusal)) => refusal.send(&socket),
                    }
                }
                Err(refusal) => refusal.send(&self.take_pending(index).socket),
            }
        }
        None
    }

    fn establish(
        &self,
        pending: Pending,
        hello: &crate::wire::Hello,
        admit: &mut Admit<'_>,
    ) -> Result<Stream, (UnixStream, Refusal)> {
        let limit = self.max_connections as u64;
        if !self.live.add_below(limit) {
            let reason = format!("the server allows {limit} connections, and has as many");
            return Err((pending.socket, Refusal::new(Status::TooManyConnections, reason)));
        }
        let live = LiveGuard(Arc::clone(&self.live));
        failpoint(Failpoint::AcceptCounted);
        let options = self.options;
        let socket = pending.socket;
        let admission = match admit(&pending.peer, hello.wanted_latency_core()) {
            Ok(admission) => admission,
            Err((status, reason)) => return Err((socket, Refusal::new(status, reason))),
        };
        match welcome(&socket, hello, self.rings, admission, &options) {
            Err(refusal) => Err((socket, refusal)),
            Ok(settled) => {
                let lifeline = OwnedFd::from(socket);
                let (segment, negotiated) = (settled.segment, settled.negotiated);
                let connection = Connection::new(lifeline, segment, pending.peer, negotiated, Some(live));
                Ok(Stream::assemble(connection, Direction::ToClient, options))
            }
        }
    }
}

/// A descriptor kept back, so that a client can be refused when there are no others.
pub(super) fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}
