//! The public error: opaque, with a [`kind`](Error::kind) to decide by and a message to read.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use crate::wire::Status;

/// What went wrong, as far as a program decides by it. More kinds may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
// As wide as what it shares its place with in the results of the hot path, or those are copied in other pieces than they
// were written in: see `PackedHeader`.
#[repr(u64)]
pub enum ErrorKind {
    /// The socket's path is longer than the 107 bytes that a Unix socket address holds.
    PathTooLong,
    /// A living server has this path.
    AddressInUse,
    /// There is something else than a socket at this path.
    NotASocket,
    /// There is nothing at this path.
    NotFound,
    /// The file system, or the accept policy of one of the sides, does not allow it.
    PermissionDenied,
    /// Nobody listens at this path.
    ConnectionRefused,
    /// The two sides speak no common version.
    VersionMismatch,
    /// The handshake failed in another way; the message says how.
    Handshake,
    /// The server has as many connections as it allows.
    TooManyConnections,
    /// A message is longer than the limit, which the message names.
    MessageTooLarge,
    /// The sender gave up a message half-way; the next one can be received.
    Abandoned,
    /// There is no room in the ring now, and the caller did not want to wait.
    Full,
    /// The deadline came first.
    TimedOut,
    /// The peer closed the connection, and everything that it sent has been received.
    PeerClosed,
    /// The peer's process is gone without closing, and everything that it committed has been received.
    PeerDied,
    /// The peer broke the protocol; the connection is closed.
    CorruptPeer,
    /// A limit of this process or of the machine is reached: memory, descriptors.
    ResourceExhausted,
    /// The server answered with a status: see [`Error::status`].
    Status,
    /// The caller gave the call up.
    Cancelled,
    /// The connection that the request was made on is gone, or there is none for it to be made on:
    /// [`Error::may_have_executed`] says whether the server may have seen it.
    ConnectionLost,
    /// The listener has been told to stop.
    Stopped,
    /// An argument is out of range, or the call makes no sense now.
    InvalidInput,
    /// What was received is not a value of the type that was asked for.
    InvalidData,
    /// Another error of the operating system.
    Io,
}

/// The error of every fallible call of this library.
///
/// ```
/// use ringwire::{ErrorKind, Stream};
/// let error = Stream::connect("/nonexistent/engine.sock").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert!(error.to_string().contains("/nonexistent/engine.sock"));
/// ```
pub struct Error {
    kind: ErrorKind,
    // Boxed and optional: the result of a send stays two words, and `Full` costs no allocation.
    detail: Option<Box<Detail>>,
}

#[derive(Debug)]
struct Detail {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    answer: Option<(Status, Option<Duration>)>,
    may_have_executed: Option<bool>,
}

impl Detail {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, answer: None, may_have_executed: None }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, detail: Some(Box::new(Detail::new(message))) }
    }

    /// What a server answered instead of a response.
    pub(crate) fn answered(
        status: Status,
        message: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        let detail = Detail { answer: Some((status, retry_after)), ..Detail::new(message) };
        Self { kind: ErrorKind::Status, detail: Some(Box::new(detail)) }
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let detail = Detail { source: Some(source.into()), ..Detail::new(message) };
        Self { kind, detail: Some(Box::new(detail)) }
    }

    /// Says whether the request that failed may have been executed.
    pub(crate) fn executed(mut self, may_have_executed: bool) -> Self {
        let kind = self.kind;
        let detail = self.detail.get_or_insert_with(|| Box::new(Detail::new(kind.describe())));
        detail.may_have_executed = Some(may_have_executed);
        self
    }

    /// An error of the operating system, with its own kind where there is one.
    pub(crate) fn system(doing: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::ConnectionRefused => ErrorKind::ConnectionRefused,
            io::ErrorKind::AddrInUse => ErrorKind::AddressInUse,
            io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::ResourceExhausted
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::TimedOut,
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)) => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Io,
        };
        Self::with_source(kind, doing, error)
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status that the server answered with, where that is what went wrong ([`ErrorKind::Status`]).
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.detail.as_ref()?.answer.map(|(status, _)| status)
    }

    /// When to try again, where the server has said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.detail.as_ref()?.answer?.1
    }

    /// Whether the server may have executed the request: `Some(false)` if it never left this process, or not whole;
    /// `Some(true)` if the server may have it, and no answer came. `None` where the question does not arise (the server
    /// answered), or nobody knows: only a [`ReconnectingClient`](crate::ReconnectingClient) keeps account.
    #[must_use]
    pub fn may_have_executed(&self) -> Option<bool> {
        self.detail.as_ref()?.may_have_executed
    }

    /// Whether the same call may succeed later, with nothing changed on this side.
    ///
    /// [`ErrorKind::ConnectionLost`] is where the request has not been executed.
    /// [`ErrorKind::PeerClosed`] and [`ErrorKind::PeerDied`] are not: they need a new connection first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let busy = matches!(self.status(), Some(Status::Unavailable | Status::ResourceExhausted));
        let unsent = self.kind == ErrorKind::ConnectionLost && self.may_have_executed() == Some(false);
        busy || unsent
            || matches!(
                self.kind,
                ErrorKind::NotFound
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::TooManyConnections
                    | ErrorKind::Full
                    | ErrorKind::TimedOut
                    | ErrorKind::ResourceExhausted
            )
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, detail: None }
    }
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::PathTooLong => "path too long for a Unix socket",
            Self::AddressInUse => "address in use by a living server",
            Self::NotASocket => "not a socket",
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::ConnectionRefused => "connection refused",
            Self::VersionMismatch => "no common protocol version",
            Self::Handshake => "handshake failed",
            Self::TooManyConnections => "too many connections",
            Self::MessageTooLarge => "message too large",
            Self::Abandoned => "the sender abandoned the message",
            Self::Full => "ring full",
            Self::TimedOut => "timed out",
            Self::PeerClosed => "the peer closed the connection",
            Self::PeerDied => "the peer died",
            Self::CorruptPeer => "the peer broke the protocol",
            Self::ResourceExhausted => "resource exhausted",
            Self::Status => "the server answered with an error",
            Self::Cancelled => "the call was cancelled",
            Self::ConnectionLost => "the connection was lost",
            Self::Stopped => "the listener was stopped",
            Self::InvalidInput => "invalid argument",
            Self::InvalidData => "not a value of the expected type",
            Self::Io => "input/output error",
        }
    }

    fn io_kind(self) -> io::ErrorKind {
        match self {
            Self::PathTooLong | Self::InvalidInput | Self::MessageTooLarge => io::ErrorKind::InvalidInput,
            Self::AddressInUse => io::ErrorKind::AddrInUse,
            Self::NotASocket => io::ErrorKind::AlreadyExists,
            Self::NotFound => io::ErrorKind::NotFound,
            Self::PermissionDenied => io::ErrorKind::PermissionDenied,
            Self::ConnectionRefused | Self::TooManyConnections => io::ErrorKind::ConnectionRefused,
            Self::VersionMismatch | Self::Handshake | Self::CorruptPeer | Self::InvalidData => {
                io::ErrorKind::InvalidData
            }
            Self::Abandoned | Self::Stopped => io::ErrorKind::ConnectionAborted,
            Self::Cancelled => io::ErrorKind::Interrupted,
            Self::Full => io::ErrorKind::WouldBlock,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::PeerClosed => io::ErrorKind::UnexpectedEof,
            Self::PeerDied | Self::ConnectionLost => io::ErrorKind::ConnectionReset,
            Self::ResourceExhausted => io::ErrorKind::OutOfMemory,
            Self::Status | Self::Io => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(detail) = &self.detail else { return self.kind.fmt(f) };
        f.write_str(&detail.message)?;
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.kind).field("message", &self.to_string()).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.detail.as_ref()?.source.as_ref()?;
        Some(source.as_ref())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind.io_kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_happened_and_keeps_its_cause() {
        let error = Error::system("binding /run/x.sock", io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("binding /run/x.sock: Permission denied"), "{error}");
        assert!(error.source().is_some());
        assert!(format!("{error:?}").contains("PermissionDenied"));
        let io = io::Error::from(error);
        assert_eq!(io.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn system_errors_get_their_kinds() {
        for (errno, kind) in [
            (libc::ENOENT, ErrorKind::NotFound),
            (libc::EROFS, ErrorKind::PermissionDenied),
            (libc::ECONNREFUSED, ErrorKind::ConnectionRefused),
            (libc::EADDRINUSE, ErrorKind::AddressInUse),
            (libc::ENOSPC, ErrorKind::ResourceExhausted),
            (libc::EMFILE, ErrorKind::ResourceExhausted),
            (libc::EAGAIN, ErrorKind::TimedOut),
            (libc::EIO, ErrorKind::Io),
        ] {
            assert_eq!(Error::system("x", io::Error::from_raw_os_error(errno)).kind(), kind);
        }
    }

    #[test]
    fn every_kind_has_words_a_std_kind_and_an_answer_to_whether_to_retry() {
        use ErrorKind::*;
        let kinds = [
            PathTooLong,
            AddressInUse,
            NotASocket,
            NotFound,
            PermissionDenied,
            ConnectionRefused,
            VersionMismatch,
            Handshake,
            TooManyConnections,
            MessageTooLarge,
            Abandoned,
            Full,
            TimedOut,
            PeerClosed,
            PeerDied,
            CorruptPeer,
            ResourceExhausted,
            Status,
            Cancelled,
            Stopped,
            InvalidInput,
            InvalidData,
            Io,
        ];
        let mut words: Vec<String> = kinds.iter().map(|kind| Error::from(*kind).to_string()).collect();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), kinds.len());
        let retryable = kinds.into_iter().filter(|kind| Error::from(*kind).is_retryable());
        assert!(retryable.eq([
            NotFound,
            ConnectionRefused,
            TooManyConnections,
            Full,
            TimedOut,
            ResourceExhausted
        ]));
        assert_eq!(io::Error::from(Error::from(Full)).kind(), io::ErrorKind::WouldBlock);
        assert_eq!(io::Error::from(Error::from(PeerDied)).kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_answer_says_its_status_and_when_to_try_again() {
        let after = Duration::from_millis(20);
        let busy = Error::answered(Status::ResourceExhausted, "too many requests", Some(after));
        assert_eq!((busy.kind(), busy.status()), (ErrorKind::Status, Some(Status::ResourceExhausted)));
        assert_eq!(busy.retry_after(), Some(after));
        assert!(busy.is_retryable());
        let wrong = Error::answered(Status::InvalidArgument, "no such file", None);
        assert!(!wrong.is_retryable() && wrong.retry_after().is_none());
        assert_eq!(wrong.to_string(), "no such file");
        assert_eq!(Error::from(ErrorKind::Full).status(), None);
    }

    #[test]
    fn a_result_stays_two_words() {
        assert_eq!(size_of::<Result<(), Error>>(), 16);
    }
}
