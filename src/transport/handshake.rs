//! The two sides of the handshake, as steps that never wait.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, send, sendmsg};
use zerocopy::IntoBytes;

use super::admission::Admission;
use super::credentials::Credentials;
use super::options::{Negotiated, Options};
use crate::error::{Error, ErrorKind};
use crate::shm::{Direction, Layout, Segment, SegmentOptions, ShmError};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sys::receive_with_descriptor;
use crate::wire::{Answer, Features, Hello, MAX_HANDSHAKE_BYTES, Status, VERSION, VERSION_OLDEST};

const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// A refusal: what the server tells the client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// Tells the client, as far as its socket takes it.
    pub(super) fn send(&self, socket: &impl AsRawFd) {
        log::debug!("connection refused: {}", self.reason);
        let answer = Answer::refusal(self.status, &self.reason);
        failpoint(Failpoint::RefusalSending);
        let _ = send(socket.as_raw_fd(), answer.as_bytes(), SEND_FLAGS);
        failpoint(Failpoint::RefusalSent);
    }
}

/// A handshake message that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes in what has come of a `Hello`; `None` while it is not whole.
    pub(super) fn read_hello(&mut self, socket: &impl AsRawFd) -> Result<Option<Hello>, Refusal> {
        let mut buffer = [0; MAX_HANDSHAKE_BYTES];
        loop {
            // No control buffer: the kernel closes descriptors that come along.
            let count = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => {
                    return Err(Refusal::new(Status::Cancelled, "the client hung up during the handshake"));
                }
                Ok(count) => count,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Refusal::new(Status::Cancelled, format!("handshake: {errno}"))),
            };
            self.bytes.extend_from_slice(&buffer[..count]);
            let parsed = Hello::parse(&self.bytes);
            if let Some(hello) =
                parsed.map_err(|error| Refusal::new(Status::InvalidArgument, error.to_string()))?
            {
                return Ok(Some(hello));
            }
        }
    }

    /// Takes in what has come of an `Answer`, with the descriptor that came along.
    pub(super) fn read_answer(
        &mut self,
        socket: BorrowedFd<'_>,
        segment: &mut Option<OwnedFd>,
    ) -> Result<Option<Answer>, Error> {
        let mut buffer = [0; MAX_HANDSHAKE_BYTES];
        loop {
            let received = match receive_with_descriptor(socket, &mut buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                // A server that hangs up with the greeting unread.
                Err(Errno::ECONNRESET) => return Err(hung_up()),
                Err(errno) => return Err(Error::system("receiving the server's answer", errno)),
            };
            if received.bytes == 0 {
                return Err(hung_up());
            }
            *segment = segment.take().or(received.descriptor);
            self.bytes.extend_from_slice(&buffer[..received.bytes]);
            let parsed = Answer::parse(&self.bytes);
            if let Some(answer) =
                parsed.map_err(|error| Error::new(ErrorKind::Handshake, error.to_string()))?
            {
                return Ok(Some(answer));
            }
        }
    }
}

fn hung_up() -> Error {
    Error::new(ErrorKind::PeerClosed, "the server hung up during the handshake")
}

/// What a server allows and wishes for a connection's rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingLimits {
    pub(super) default_bytes: u32,
    pub(super) max_bytes: u32,
}

impl RingLimits {
    /// A client's wish, brought into the range: 0 is the server's own, anything else the next power of two.
    fn grant(&self, wanted: u32) -> u32 {
        let wanted = if wanted == 0 { self.default_bytes } else { wanted };
        wanted
            .clamp(crate::ring::MIN_RING_BYTES, self.max_bytes)
            .checked_next_power_of_two()
            .unwrap_or(self.max_bytes)
    }
}

/// What a finished handshake has settled.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) segment: Arc<Segment>,
    pub(super) negotiated: Negotiated,
}

/// The server's half: judges the `Hello`, makes the segment, sends it.
pub(super) fn welcome(
    socket: &impl AsRawFd,
    hello: &Hello,
    rings: RingLimits,
    admission: Admission,
    choices: &Options,
) -> Result<Settled, Refusal> {
    let Some(version) = hello.common_version() else {
        let (oldest, newest) = (hello.version_oldest, hello.version);
        let reason = format!(
            "the client speaks protocol versions {oldest} to {newest}, this server {VERSION_OLDEST} to {VERSION}; update the older side"
        );
        return Err(Refusal::new(Status::VersionMismatch, reason));
    };
    let sizes = [rings.grant(hello.to_server_bytes), rings.grant(hello.to_client_bytes)];
    let layout =
        Layout::new(sizes[0], sizes[1]).map_err(|error| Refusal::new(Status::Internal, error.to_string()))?;
    let exhausted = |error: ShmError| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Refusal::new(
            Status::ResourceExhausted,
            format!("no shared memory for the connection: {error}: {source}"),
        )
    };
    let (segment, descriptor) = Segment::create(layout, choices.segment).map_err(exhausted)?;
    failpoint(Failpoint::SegmentMade);
    let latency_core = hello.wanted_latency_core().filter(|_| admission.latency_class);
    let mut features = Features(hello.features).common(Features::SUPPORTED);
    if latency_core.is_none() {
        features = features.without(Features::LATENCY_CLASS);
    }
    let answer = Answer::welcome(version, features, sizes, choices.max_message_bytes as u64);
    let raw = [descriptor.as_raw_fd()];
    let parts = [std::io::IoSlice::new(answer.as_bytes())];
    sendmsg::<()>(socket.as_raw_fd(), &parts, &[ControlMessage::ScmRights(&raw)], SEND_FLAGS, None)
        .map_err(|errno| Refusal::new(Status::Cancelled, format!("sending the welcome: {errno}")))?;
    failpoint(Failpoint::WelcomeSent);
    let negotiated = negotiated(&answer, latency_core, hello.max_message_bytes);
    Ok(Settled { segment, negotiated })
}

fn negotiated(answer: &Answer, latency_core: Option<u32>, peer_max_message_bytes: u64) -> Negotiated {
    Negotiated {
        version: answer.version,
        features: Features(answer.features),
        to_server_bytes: answer.to_server_bytes,
        to_client_bytes: answer.to_client_bytes,
        latency_core,
        peer_max_message_bytes,
    }
}

/// The client's half: what the server's answer to `asked` means.
pub(super) fn settle(
    answer: &Answer,
    asked: &Hello,
    segment: Option<OwnedFd>,
    server: Credentials,
    options: SegmentOptions,
) -> Result<Settled, Error> {
    if answer.status() != Status::Ok {
        return Err(refusal_error(answer, server));
    }
    let broken = |what: String| Error::new(ErrorKind::Handshake, format!("{server} sent a welcome {what}"));
    if !(VERSION_OLDEST..=VERSION).contains(&answer.version) {
        return Err(broken(format!(
            "in protocol version {}, this client speaks {VERSION_OLDEST} to {VERSION}",
            answer.version
        )));
    }
    let segment = segment.ok_or_else(|| broken("without a segment".into()))?;
    let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes)
        .map_err(|error| broken(format!("with a {error}")))?;
    let segment = Segment::open(segment.as_fd(), layout, options).map_err(|error| {
        let kind = match &error {
            // Not the server's fault.
            ShmError::Map { source, .. } if source.raw_os_error() == Some(libc::ENOMEM) => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Handshake,
        };
        Error::with_source(kind, format!("{server} sent a segment that cannot be used"), error)
    })?;
    debug_assert_eq!(segment.layout().ring_bytes(Direction::ToServer), answer.to_server_bytes);
    let granted = Features(answer.features).contains(Features::LATENCY_CLASS);
    let latency_core = asked.wanted_latency_core().filter(|_| granted);
    Ok(Settled { segment, negotiated: negotiated(answer, latency_core, answer.max_message_bytes) })
}

fn refusal_error(answer: &Answer, server: Credentials) -> Error {
    let status = answer.status();
    let kind = match status {
        Status::VersionMismatch => ErrorKind::VersionMismatch,
        Status::TooManyConnections => ErrorKind::TooManyConnections,
        Status::PermissionDenied => ErrorKind::PermissionDenied,
        Status::ResourceExhausted => ErrorKind::ResourceExhausted,
        Status::DeadlineExceeded => ErrorKind::TimedOut,
        _ => ErrorKind::Handshake,
    };
    Error::new(kind, format!("{server} refused the connection: {}", answer.reason()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_brought_into_the_range() {
        let limits = RingLimits { default_bytes: 65536, max_bytes: 1 << 20 };
        for (wanted, granted) in [
            (0, 65536),
            (1, 4096),
            (4096, 4096),
            (5000, 8192),
            (1 << 20, 1 << 20),
            (1 << 30, 1 << 20),
            (u32::MAX, 1 << 20),
        ] {
            assert_eq!(limits.grant(wanted), granted, "{wanted}");
        }
        let limits = RingLimits { default_bytes: 65536, max_bytes: 1 << 30 };
        assert_eq!(limits.grant((1 << 29) + 1), 1 << 30);
    }
}
