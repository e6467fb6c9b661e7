//! Limits of the process that a server runs into.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Held by a listener while it gives up its spare descriptor to refuse a client, and by whoever opens one that the library
/// can do without: else that one could take the place of the spare, and the next client would get no answer.
pub(super) fn last_descriptor() -> MutexGuard<'static, ()> {
    static LAST: Mutex<()> = Mutex::new(());
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lifts this process's soft limit of open descriptors (`RLIMIT_NOFILE`) to the hard one. Answers with the soft limit
/// before and now, in descriptors.
///
/// A connection takes one descriptor (two where other threads wake it), and most systems set the soft limit to 1,024. It
/// is that low for programs that use `select(2)`, which cannot name a descriptor above 1,023: call this if nothing in
/// the process does. Processes that are started later inherit the new limit. Needs no privilege; the hard limit stays.
///
/// # Errors
/// `EPERM` if the hard limit is above `/proc/sys/fs/nr_open`, which has been lowered since: nothing is changed then.
///
/// # Examples
/// ```
/// let (before, now) = ringwire::transport::raise_fd_limit()?;
/// assert!(now >= before);
/// println!("room for about {now} connections, {before} before");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn raise_fd_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok((soft, hard.max(soft)))
}
