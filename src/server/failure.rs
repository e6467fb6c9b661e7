//! [`Failure`]: why a handler does not answer with a response.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::io;
use std::time::Duration;

use crate::buffer::PoolError;
use crate::error::{Error, ErrorKind};
use crate::wire::Status;

/// Most errors say no more.
const USUAL_WORDS_BYTES: usize = 120;

/// What a handler answers in place of a response: a status, some words, and perhaps when to try again.
///
/// `?` turns an [`Error`](crate::Error) and an [`io::Error`] into one. The client gets all three, and of the words the
/// first 1,000 bytes.
///
/// ```
/// use ringwire::server::Failure;
/// use ringwire::wire::Status;
/// use std::time::Duration;
/// let failure = Failure::resource_exhausted("100 tasks are queued").retry_after(Duration::from_millis(50));
/// assert_eq!(failure.status(), Status::ResourceExhausted);
/// let missing = Failure::from(std::io::Error::from(std::io::ErrorKind::NotFound));
/// assert_eq!(missing.status(), Status::NotFound);
/// ```
// Boxed: the result of a handler stays one word, and only a failure pays for its words.
pub struct Failure(Box<Detail>);

#[derive(Clone, Debug)]
struct Detail {
    status: Status,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

macro_rules! constructors {
    ($($name:ident => $status:ident),* $(,)?) => {
        $(
            #[doc = concat!("A failure of [`Status::", stringify!($status), "`].")]
            #[must_use]
            pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                Self::new(Status::$status, message)
            }
        )*
    };
}

impl Failure {
    /// A failure of any status; [`Status::Ok`] is none, and becomes [`Status::Unknown`].
    #[cold]
    #[must_use]
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        let status = if status == Status::Ok { Status::Unknown } else { status };
        Self(Box::new(Detail { status, message: message.into(), retry_after: None }))
    }

    constructors! {
        cancelled => Cancelled,
        unknown => Unknown,
        invalid_argument => InvalidArgument,
        deadline_exceeded => DeadlineExceeded,
        not_found => NotFound,
        already_exists => AlreadyExists,
        permission_denied => PermissionDenied,
        resource_exhausted => ResourceExhausted,
        failed_precondition => FailedPrecondition,
        aborted => Aborted,
        out_of_range => OutOfRange,
        unimplemented => Unimplemented,
        internal => Internal,
        unavailable => Unavailable,
        data_loss => DataLoss,
        unauthenticated => Unauthenticated,
        message_too_large => MessageTooLarge,
    }

    /// The same with a hint when to try again, in milliseconds on the wire.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// In words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// When to try again, if that is known.
    #[must_use]
    pub fn retry_hint(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The same under another status.
    pub(super) fn under(mut self, status: Status) -> Self {
        if status != Status::Ok {
            self.0.status = status;
        }
        self
    }
}

fn status_of(error: &Error) -> Status {
    match error.kind() {
        ErrorKind::Status => error.status().unwrap_or(Status::Unknown),
        ErrorKind::NotFound => Status::NotFound,
        ErrorKind::AddressInUse => Status::AlreadyExists,
        ErrorKind::PermissionDenied => Status::PermissionDenied,
        ErrorKind::InvalidInput | ErrorKind::PathTooLong | ErrorKind::NotASocket => Status::InvalidArgument,
        ErrorKind::MessageTooLarge => Status::MessageTooLarge,
        ErrorKind::Abandoned | ErrorKind::Cancelled => Status::Cancelled,
        ErrorKind::TimedOut => Status::DeadlineExceeded,
        ErrorKind::Full | ErrorKind::ResourceExhausted | ErrorKind::TooManyConnections => {
            Status::ResourceExhausted
        }
        ErrorKind::ConnectionRefused | ErrorKind::PeerClosed | ErrorKind::PeerDied | ErrorKind::Stopped => {
            Status::Unavailable
        }
        _ => Status::Internal,
    }
}

/// What `error` says, as a rule in one allocation: a text that grows leaves a piece of each size to its thread's allocator,
/// and that a thousand times where every connection is refused something.
fn words(error: &impl fmt::Display) -> String {
    let mut words = String::with_capacity(USUAL_WORDS_BYTES);
    let _ = write!(words, "{error}");
    words
}

impl From<PoolError> for Failure {
    #[cold]
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Exhausted { .. } => Self::resource_exhausted(words(&error)),
            other => Error::from(other).into(),
        }
    }
}

impl From<Error> for Failure {
    #[cold]
    fn from(error: Error) -> Self {
        let failure = Self::new(status_of(&error), words(&error));
        match error.retry_after() {
            Some(after) => failure.retry_after(after),
            None => failure,
        }
    }
}

impl From<io::Error> for Failure {
    #[cold]
    fn from(error: io::Error) -> Self {
        if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return Self::new(status_of(own), words(own));
        }
        let status = match error.kind() {
            io::ErrorKind::NotFound => Status::NotFound,
            io::ErrorKind::PermissionDenied => Status::PermissionDenied,
            io::ErrorKind::AlreadyExists => Status::AlreadyExists,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Status::InvalidArgument
            }
            io::ErrorKind::TimedOut => Status::DeadlineExceeded,
            io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Status::ResourceExhausted
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Status::Unavailable,
            _ => Status::Internal,
        };
        Self::new(status, words(&error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.status, self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("status", &self.0.status)
            .field("message", &self.0.message)
            .field("retry_after", &self.0.retry_after)
            .finish()
    }
}

impl StdError for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_word_and_never_ok() {
        assert_eq!(size_of::<Result<(), Failure>>(), 8);
        assert_eq!(Failure::new(Status::Ok, "x").status(), Status::Unknown);
        assert_eq!(Failure::internal("x").under(Status::Ok).status(), Status::Internal);
        assert_eq!(Failure::internal("x").under(Status::Aborted).status(), Status::Aborted);
    }

    #[test]
    fn errors_keep_their_status_also_through_io() {
        let busy = Error::answered(Status::FailedPrecondition, "not open", Some(Duration::from_millis(5)));
        let failure = Failure::from(busy);
        assert_eq!((failure.status(), failure.message()), (Status::FailedPrecondition, "not open"));
        assert_eq!(failure.retry_hint(), Some(Duration::from_millis(5)));
        let abandoned = io::Error::from(Error::from(ErrorKind::Abandoned));
        assert_eq!(Failure::from(abandoned).status(), Status::Cancelled);
        for (kind, status) in [
            (ErrorKind::NotFound, Status::NotFound),
            (ErrorKind::AddressInUse, Status::AlreadyExists),
            (ErrorKind::PermissionDenied, Status::PermissionDenied),
            (ErrorKind::PathTooLong, Status::InvalidArgument),
            (ErrorKind::Full, Status::ResourceExhausted),
            (ErrorKind::PeerDied, Status::Unavailable),
            (ErrorKind::TimedOut, Status::DeadlineExceeded),
            (ErrorKind::CorruptPeer, Status::Internal),
        ] {
            assert_eq!(Failure::from(Error::from(kind)).status(), status, "{kind:?}");
        }
    }

    #[test]
    fn the_systems_errors_become_the_status_that_is_nearest() {
        for (kind, status) in [
            (io::ErrorKind::NotFound, Status::NotFound),
            (io::ErrorKind::PermissionDenied, Status::PermissionDenied),
            (io::ErrorKind::AlreadyExists, Status::AlreadyExists),
            (io::ErrorKind::UnexpectedEof, Status::InvalidArgument),
            (io::ErrorKind::TimedOut, Status::DeadlineExceeded),
            (io::ErrorKind::StorageFull, Status::ResourceExhausted),
            (io::ErrorKind::ConnectionReset, Status::Unavailable),
            (io::ErrorKind::Other, Status::Internal),
        ] {
            let failure = Failure::from(io::Error::new(kind, "why"));
            assert_eq!((failure.status(), failure.message()), (status, "why"), "{kind:?}");
            assert_eq!(
                format!("{failure:?}"),
                format!("Failure {{ status: {status:?}, message: \"why\", retry_after: None }}")
            );
        }
    }
}
