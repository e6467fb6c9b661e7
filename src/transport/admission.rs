//! Who comes in: the last word on a client before it is welcomed, and the end of accepting.

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::credentials::Credentials;
use super::listener::{Listener, watch};
use super::stream::Stream;
use crate::error::{Error, ErrorKind};
use crate::sync::Signal;
use crate::wait::Deadline;
use crate::wire::Status;

/// What an admitted client gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The latency class, if it asked for it.
    pub latency_class: bool,
}

/// Judges a client by who it is, and the core of the latency class if it asks for that. A refusal's status and words are
/// the client's error.
pub type Admit<'a> = dyn FnMut(&Credentials, Option<u32>) -> Result<Admission, (Status, String)> + 'a;

pub(super) fn admit_all(_: &Credentials, _: Option<u32>) -> Result<Admission, (Status, String)> {
    Ok(Admission::default())
}

impl Listener {
    /// Waits for a client that `admit` lets in: asked behind the handshake's checks and before the welcome.
    ///
    /// What serving the client needs (a thread, say) is best reserved there: the answer is then a refusal, and not a broken
    /// connection.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn accept_admitting(&mut self, admit: &mut Admit<'_>) -> Result<Stream, Error> {
        self.accept_until(Deadline::NEVER, admit)
    }

    /// For another thread, to end this listener's accepting.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceExhausted`] without a descriptor.
    pub fn stopper(&mut self) -> Result<Stopper, Error> {
        if self.stop.0.bell.get().is_none() {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let made = EventFd::from_value_and_flags(0, flags);
            let bell = made.map_err(|errno| Error::system("eventfd", errno))?;
            watch(&self.watch, bell.as_fd()).map_err(|errno| Error::system("epoll", errno))?;
            self.stop.0.bell.get_or_init(|| bell);
        }
        Ok(Stopper(Arc::clone(&self.stop.0)))
    }
}

#[derive(Debug, Default)]
struct Stopping {
    stopped: Signal,
    bell: OnceLock<EventFd>,
}

/// The listener's side of a [`Stopper`].
#[derive(Debug, Default)]
pub(super) struct Stop(Arc<Stopping>);

impl Stop {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.0.stopped.is_raised() { Err(ErrorKind::Stopped.into()) } else { Ok(()) }
    }
}

/// Ends the accepting of a [`Listener`], from any thread: made by [`Listener::stopper`].
///
/// ```
/// use ringwire::{ErrorKind, Listener};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("engine.sock");
/// let mut listener = Listener::bind(path)?;
/// let stopper = listener.stopper()?;
/// let other = std::thread::spawn(move || stopper.stop());
/// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::Stopped);
/// # other.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Stopping>);

impl Stopper {
    /// From now on every accept ends with [`ErrorKind::Stopped`], also one that waits.
    pub fn stop(&self) {
        self.0.stopped.raise();
        if let Some(bell) = self.0.bell.get() {
            // Full: it is readable for ever.
            let _ = bell.write(1);
        }
    }
}
