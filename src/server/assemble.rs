//! Requests in fragments, put together for handlers that want them whole.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::Failure;
use crate::buffer::{Buffer, Pool, PoolError};
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, MessageReader};

/// How long a request without a deadline waits for a buffer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first buffer of a message that does not say how long it is: what comes in fragments is longer than half a ring, and
/// rings are 64 KiB as a rule.
const FIRST_BYTES: usize = 64 << 10;

/// Puts the rest of a message into a buffer of the pool, and says how long it is.
///
/// A message that outgrows its buffer (it did not say how long it is, or not the truth) goes on in one of the next tier,
/// waiting for that with the first in hand: nobody who has a large one waits for a small one. At `deadline` the buffer goes
/// back, however much has come.
#[cold]
#[inline(never)]
pub(super) fn assemble(
    pool: &Pool,
    reader: &mut MessageReader<'_>,
    limit_bytes: usize,
    deadline: Deadline,
) -> Result<(Buffer, usize), Failure> {
    let limit_bytes = limit_bytes.min(pool.max_buffer_bytes());
    let patience = deadline.left().map_or(PATIENCE, |left| left.min(PATIENCE));
    let until = Instant::now().checked_add(patience);
    let first_bytes = reader.at_most_bytes().unwrap_or(FIRST_BYTES).min(limit_bytes);
    let mut buffer = pool.acquire(first_bytes, until).map_err(not_lent)?;
    let mut bytes = 0;
    reader.read_until(deadline);
    loop {
        let room = buffer.len().min(limit_bytes);
        match reader.read(&mut buffer[bytes..room]).map_err(failed)? {
            0 if bytes < room => return Ok((buffer, bytes)),
            0 => {}
            count => {
                bytes += count;
                continue;
            }
        }
        // Full: the end of the message, or more of it.
        let mut next = [0];
        if reader.read(&mut next).map_err(failed)? == 0 {
            return Ok((buffer, bytes));
        }
        if bytes >= limit_bytes {
            return Err(too_large(limit_bytes));
        }
        let mut larger = pool.acquire(bytes + 1, until).map_err(not_lent)?;
        larger[..bytes].copy_from_slice(&buffer[..bytes]);
        larger[bytes] = next[0];
        bytes += 1;
        buffer = larger;
    }
}

/// What it means for a request in fragments that reading it failed.
#[cold]
pub(super) fn failed(error: io::Error) -> Failure {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if own.is_some_and(|own| own.kind() == ErrorKind::TimedOut) {
        return Failure::deadline_exceeded(
            "the request did not come to its end in time; send it without pauses",
        );
    }
    error.into()
}

#[cold]
#[inline(never)]
fn not_lent(error: PoolError) -> Failure {
    match error {
        PoolError::TooLarge { limit_bytes, .. } => too_large(limit_bytes),
        other => other.into(),
    }
}

#[cold]
fn too_large(limit_bytes: usize) -> Failure {
    Failure::message_too_large(format!(
        "message too large: this server puts together at most {limit_bytes} bytes for a handler that wants them whole"
    ))
}
