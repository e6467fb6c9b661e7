//! [`ByteStream`]: a connection as a stream of bytes.

mod patience;
mod reading;
mod turns;
mod writing;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::patience::{Patience, Settings};
use self::reading::{Reading, Taken};
use self::turns::Turns;
use self::writing::Writing;
use super::connection::RingKernel;
use super::credentials::Credentials;
use super::sender::Meanwhile;
use super::stream::Stream;
use crate::error::{Error, ErrorKind};
use crate::wait::WaitStrategy;
use crate::wire::{Header, Kind};

/// Size of each ring of a stream that is made here, in bytes: the order of what a Unix socket holds. Quiet streams touch
/// no more than the first page or two of it.
const RING_BYTES: u32 = 512 << 10;
/// Every record of a byte stream begins like this.
const BYTES: Header = Header::new(Kind::StreamItem, 0, 0);

#[inline]
fn is_bytes(header: Header) -> bool {
    header == BYTES
}

/// A connection that carries bytes, with the habits of [`UnixStream`](std::os::unix::net::UnixStream): code written for
/// a Unix socket runs over it unchanged.
///
/// Both sides must be byte streams. One is made by [`ByteStream::connect`], or from a [`Stream`] that was built with
/// other options, or accepted: [`From<Stream>`](#impl-From<Stream>-for-ByteStream). Wait strategy and size of the rings are the
/// `Stream`'s.
///
/// [`Read`] and [`Write`] are there for `&ByteStream` too. [`ByteStream::try_clone`] gives another handle on the same
/// stream; handles, and threads that share one, take turns in each direction. As with a socket, timeouts and the
/// nonblocking mode belong to the stream and not to the handle, and dropping the last handle closes it.
///
/// | when | what a call gives |
/// |---|---|
/// | the peer has closed or shut down its writing side, and everything is read | `Ok(0)` |
/// | the peer's process has died, and everything is read | [`ConnectionReset`](io::ErrorKind::ConnectionReset) |
/// | writing where the peer has closed, shut down its reading side, or died | [`BrokenPipe`](io::ErrorKind::BrokenPipe) |
/// | reading after [`Shutdown::Read`] | what was there already, then `Ok(0)` |
/// | writing after [`Shutdown::Write`] | [`BrokenPipe`](io::ErrorKind::BrokenPipe) |
/// | nothing to read, or no room, until the timeout, or at all in nonblocking mode | [`WouldBlock`](io::ErrorKind::WouldBlock) |
/// | a read of what is not a byte stream's, or of nonsense | [`InvalidData`](io::ErrorKind::InvalidData) |
///
/// A blocking write returns when all its bytes are in the ring, which is the buffer between the two sides: two that both
/// write much and read nothing wait for each other, as on a socket. A write that runs into its timeout, or is nonblocking, says how many bytes it has taken. A write that finds
/// room may not notice at once that the peer has died (a close it does notice): the next read, or wait, does.
///
/// ```
/// use std::io::{Read, Write};
/// use ringwire::ByteStream;
/// let (mut editor, mut engine) = ByteStream::pair()?;
/// editor.write_all(b"fn main() {")?;
/// drop(editor);
/// let mut text = String::new();
/// engine.read_to_string(&mut text)?;
/// assert_eq!(text, "fn main() {");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ByteStream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reading: Turns<Reading>,
    writing: Turns<Writing>,
    settings: Mutex<Settings>,
    incoming: RingKernel,
    outgoing: RingKernel,
}

impl ByteStream {
    /// Connects to the server at `path`, which makes byte streams of what it accepts. Asks for rings of 512 KiB.
    ///
    /// # Errors
    /// As [`Connector::connect`](super::Connector::connect), as an [`io::Error`] around the [`Error`].
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use ringwire::{ByteStream, Listener};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("echo.sock");
    /// let mut listener = Listener::bind(&path)?;
    /// let server = std::thread::spawn(move || -> std::io::Result<()> {
    ///     let mut stream = ByteStream::from(listener.accept()?);
    ///     let mut request = [0; 5];
    ///     stream.read_exact(&mut request)?;
    ///     stream.write_all(&request)
    /// });
    /// let mut client = ByteStream::connect(&path)?;
    /// client.write_all(b"hello")?;
    /// let mut answer = Vec::new();
    /// client.read_to_end(&mut answer)?;
    /// assert_eq!(answer, b"hello");
    /// server.join().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::from(Stream::builder(path).ring_bytes(RING_BYTES).connect()?))
    }

    /// Two connected streams in this process, with rings of 512 KiB.
    ///
    /// # Errors
    /// As [`Stream::pair`].
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Stream::pair_with(RING_BYTES, WaitStrategy::default())?;
        Ok((Self::from(one), Self::from(other)))
    }

    /// Another handle on the same stream: what one reads, the other does not.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { shared: Arc::clone(&self.shared) })
    }

    /// How long a read may wait; for ever with `None`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.settings().read_timeout = timeout;
        Ok(())
    }

    /// How long a write may wait; for ever with `None`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.settings().write_timeout = timeout;
        Ok(())
    }

    /// What [`ByteStream::set_read_timeout`] has set.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.settings().read_timeout)
    }

    /// What [`ByteStream::set_write_timeout`] has set.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.settings().write_timeout)
    }

    /// Whether reads and writes fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.settings().nonblocking = nonblocking;
        Ok(())
    }

    /// Shuts down one direction or both, for all handles.
    ///
    /// The peer reads what was written, then the end; or its writes fail. A thread of this process that waits in a read or
    /// write of a direction that is shut down returns within about 10 ms, and so does this call.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let shared = &*self.shared;
        let (read, write) =
            (matches!(how, Shutdown::Read | Shutdown::Both), matches!(how, Shutdown::Write | Shutdown::Both));
        // Whoever waits in a direction has its turn, and gives it up when it sees this.
        if read {
            shared.incoming.cut_off_listening();
        }
        if write {
            shared.outgoing.cut_off();
            shared.writing.enter().sender.end();
        }
        if read {
            shared.reading.enter().receiver.end();
        }
        Ok(())
    }

    /// Who is on the other side, as the kernel vouches for it.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn peer_cred(&self) -> io::Result<Credentials> {
        Ok(self.shared.incoming.connection().peer())
    }

    /// Always `None`: errors are returned by the call that meets them, and none is kept for later.
    ///
    /// # Errors
    /// None at present; the signature is the socket's.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_timeout(timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        let message = "timeout of zero, expected a longer one, None to wait for ever, or set_nonblocking";
        return Err(Error::new(ErrorKind::InvalidInput, message).into());
    }
    Ok(())
}

/// Made from a stream on which nothing is under way, on both sides at the same place of their conversation; best before
/// anything is sent. Timeouts and backpressure of the `Stream` are left behind.
impl From<Stream> for ByteStream {
    fn from(stream: Stream) -> Self {
        let (sender, receiver) = stream.split();
        let (outgoing, incoming) = (sender.kernel().clone(), receiver.kernel().clone());
        let shared = Shared {
            reading: Turns::new(Reading::new(receiver)),
            writing: Turns::new(Writing::new(sender)),
            settings: Mutex::default(),
            incoming,
            outgoing,
        };
        Self { shared: Arc::new(shared) }
    }
}

/// What a writer does while it waits for room: looks whether its side has been shut down, and keeps back nothing of what
/// this side has consumed. It reads nothing: the peer's room is not ours to fill.
impl Meanwhile for &Shared {
    fn take_in(&mut self) -> Result<(), Error> {
        if self.outgoing.is_cut_off() {
            return Err(ErrorKind::PeerClosed.into());
        }
        // Whoever reads just now publishes by itself before it waits.
        if let Some(mut reading) = self.reading.try_enter() {
            reading.receiver.publish_consumed();
        }
        Ok(())
    }
}

impl Shared {
    #[inline]
    fn read(&self, mut take: impl FnMut(&mut Reading) -> Result<Taken, Error>) -> io::Result<usize> {
        let mut patience = Patience::to_read(&self.settings);
        let mut reading = self.reading.enter_within(&mut patience).ok_or(io::ErrorKind::WouldBlock)?;
        loop {
            match take(&mut reading) {
                Ok(Taken::Bytes(count)) => return Ok(count),
                Ok(Taken::End) => return Ok(0),
                Ok(Taken::Nothing) => {}
                Err(error) => return self.end_of_reading(error),
            }
            if self.incoming.is_cut_off() {
                return Ok(0);
            }
            let waited = match patience.deadline() {
                None => reading.receiver.check_peer().and(Err(ErrorKind::Full.into())),
                Some(deadline) => reading.receiver.wait_until(deadline, || self.before_idling()),
            };
            if let Err(error) = waited {
                return self.end_of_reading(error);
            }
        }
    }

    /// Before a reader goes to sleep for long: what the writing half no longer needs is given back.
    fn before_idling(&self) {
        if let Some(mut writing) = self.writing.try_enter() {
            writing.sender.trim_idle();
        }
    }

    #[cold]
    fn end_of_reading(&self, error: Error) -> io::Result<usize> {
        match error.kind() {
            ErrorKind::PeerDied if self.incoming.is_cut_off() => Ok(0),
            ErrorKind::TimedOut | ErrorKind::Full => Err(io::ErrorKind::WouldBlock.into()),
            _ => Err(error.into()),
        }
    }

    #[inline]
    fn write(
        &self,
        put: impl FnOnce(&mut Writing, &mut Patience<'_>, &mut &Self) -> Result<usize, Error>,
    ) -> io::Result<usize> {
        let mut patience = Patience::to_write(&self.settings);
        let mut writing = self.writing.enter_within(&mut patience).ok_or(io::ErrorKind::WouldBlock)?;
        // The ring takes bytes as long as there is room; a socket whose peer has closed does not.
        let checked = writing.sender.check_reader();
        checked.and_then(|()| put(&mut writing, &mut patience, &mut &*self)).map_err(end_of_writing)
    }
}

#[cold]
fn end_of_writing(error: Error) -> io::Error {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::Full => io::ErrorKind::WouldBlock.into(),
        ErrorKind::PeerClosed | ErrorKind::PeerDied => io::Error::new(io::ErrorKind::BrokenPipe, error),
        _ => error.into(),
    }
}

impl Read for &ByteStream {
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        self.shared.read(|reading| reading.take(target))
    }

    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if targets.iter().all(|target| target.is_empty()) {
            return Ok(0);
        }
        self.shared.read(|reading| reading.take_vectored(targets))
    }
}

impl Write for &ByteStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.shared.write(|writing, patience, between| writing.put(bytes, patience, between))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(0);
        }
        self.shared.write(|writing, patience, between| writing.put_vectored(parts, patience, between))
    }

    /// Does nothing: what is written can be read at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ByteStream {
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        (&*self).read(target)
    }

    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(targets)
    }
}

impl Write for ByteStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
