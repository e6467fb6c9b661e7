//! [`PoolError`]: why no buffer was lent.

use std::io;

use thiserror::Error;

use crate::error::{Error, ErrorKind};

/// Why [`Pool::acquire`](super::Pool::acquire) lent no buffer. As an [`Error`](crate::Error) it is
/// [`ErrorKind::MessageTooLarge`] or [`ErrorKind::ResourceExhausted`].
///
/// ```
/// use ringwire::buffer::{Pool, PoolConfig, PoolError};
/// use ringwire::{Error, ErrorKind};
///
/// let pool = Pool::new(PoolConfig::default())?;
/// let error = pool.try_acquire(2 << 20).unwrap_err();
/// assert!(matches!(error, PoolError::TooLarge { bytes: 2_097_152, limit_bytes: 1_048_576 }));
/// assert_eq!(Error::from(error).kind(), ErrorKind::MessageTooLarge);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No tier has buffers of this size, now or later.
    #[error(
        "{bytes} bytes are more than the largest pool buffer holds, {limit_bytes} bytes: \
         take the message in piece by piece, or configure larger buffers"
    )]
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// The size of the largest tier's buffers.
        limit_bytes: usize,
    },
    /// All buffers of the tier are lent, and none came back in time.
    #[error(
        "pool exhausted: {count} of {count} buffers of {buffer_bytes} bytes are lent; try again later, or raise the count"
    )]
    Exhausted {
        /// The size of the tier's buffers.
        buffer_bytes: usize,
        /// How many it has.
        count: usize,
    },
    /// The system has no memory left for a buffer that the pool may still take.
    #[error("mapping a pool buffer of {buffer_bytes} bytes")]
    OutOfMemory {
        /// The size of the buffer.
        buffer_bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        let message = error.to_string();
        match error {
            PoolError::TooLarge { .. } => Self::new(ErrorKind::MessageTooLarge, message),
            PoolError::Exhausted { .. } => Self::new(ErrorKind::ResourceExhausted, message),
            PoolError::OutOfMemory { source, .. } => {
                Self::with_source(ErrorKind::ResourceExhausted, message, source)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_kind_and_its_figures() {
        let source = io::Error::from_raw_os_error(libc::ENOMEM);
        for (error, kind, words) in [
            (
                PoolError::TooLarge { bytes: 70_000, limit_bytes: 65_536 },
                ErrorKind::MessageTooLarge,
                ["70000", "65536"],
            ),
            (
                PoolError::Exhausted { buffer_bytes: 65_536, count: 6 },
                ErrorKind::ResourceExhausted,
                ["6 of 6", "65536"],
            ),
            (
                PoolError::OutOfMemory { buffer_bytes: 4096, source },
                ErrorKind::ResourceExhausted,
                ["4096", "memory"],
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.kind(), kind);
            for word in words {
                assert!(error.to_string().contains(word), "{error} lacks {word}");
            }
        }
    }
}
