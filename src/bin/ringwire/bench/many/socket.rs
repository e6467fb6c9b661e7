//! Echoes over a Unix socket: a thread for each connection, a read and a write for as many messages as there are.

use std::error::Error;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::load::spawn_all;
use super::transport::{Connection, Plan, Transport};

/// Length of the payload and number of the request, 8 bytes each.
const FRAME_HEADER_BYTES: usize = 16;
/// Room for more than the window: a read that fills its buffer asks again.
const SPARE_BYTES: usize = 4096;

/// Bytes that have been read, and where the next message begins among them.
struct Frames {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Frames {
    /// Room for a window of messages.
    fn new(plan: &Plan) -> Self {
        let bytes = (plan.size + FRAME_HEADER_BYTES) * plan.window + SPARE_BYTES;
        Self { buffer: vec![0; bytes], unread: 0..0 }
    }

    /// Reads what there is; says whether that was anything.
    fn fill(&mut self, socket: &mut UnixStream) -> io::Result<bool> {
        // Only the beginning of a message is ever moved.
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let read = socket.read(&mut self.buffer[self.unread.end..])?;
        self.unread.end += read;
        Ok(read > 0)
    }

    /// The next whole message, with its header.
    fn next(&mut self) -> io::Result<Option<Range<usize>>> {
        let unread = &self.buffer[self.unread.clone()];
        let Some(length) = unread.first_chunk::<8>() else { return Ok(None) };
        let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.buffer.len() - FRAME_HEADER_BYTES {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        if unread.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        let start = self.unread.start;
        self.unread.start += FRAME_HEADER_BYTES + length;
        Ok(Some(start..self.unread.start))
    }
}

/// The server.
pub struct Socket {
    listener: UnixListener,
}

impl Transport for Socket {
    type Connection = SocketConnection;

    fn listen(_: &Plan, directory: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let path = directory.join("unix.sock");
        let listener = UnixListener::bind(&path)?;
        let address = path.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
        Ok((Self { listener }, address.to_owned()))
    }

    fn serve(self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        let plan = *plan;
        spawn_all(plan.connections, plan.placed, |_| {
            let (socket, _) = self.listener.accept()?;
            Ok(move || echo(socket, &plan))
        })
    }

    fn connect(
        plan: &Plan,
        address: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<SocketConnection>, Box<dyn Error>> {
        let connect = |_| {
            let socket = UnixStream::connect(address)?;
            Ok(SocketConnection { socket, frames: Frames::new(plan), requests: Vec::new(), size: plan.size })
        };
        numbers.map(connect).collect()
    }
}

/// Whole messages go back as they came, straight from the buffer: the least that an echo can do.
fn echo(mut socket: UnixStream, plan: &Plan) -> Result<(), Box<dyn Error>> {
    let mut frames = Frames::new(plan);
    while frames.fill(&mut socket)? {
        let start = frames.unread.start;
        while frames.next()?.is_some() {}
        socket.write_all(&frames.buffer[start..frames.unread.start])?;
    }
    Ok(())
}

/// A client's end.
pub struct SocketConnection {
    socket: UnixStream,
    frames: Frames,
    requests: Vec<u8>,
    size: usize,
}

impl Connection for SocketConnection {
    fn limit_waits(&mut self, limit: Duration) -> Result<(), Box<dyn Error>> {
        self.socket.set_read_timeout(Some(limit))?;
        self.socket.set_write_timeout(Some(limit))?;
        Ok(())
    }

    fn submit(
        &mut self,
        numbers: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<dyn Error>> {
        let frame_bytes = FRAME_HEADER_BYTES + self.size;
        let count = usize::try_from(numbers.end - numbers.start)?;
        if self.requests.len() < count * frame_bytes {
            self.requests.resize(count * frame_bytes, 0);
        }
        for (frame, number) in self.requests.chunks_exact_mut(frame_bytes).zip(numbers) {
            let (header, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
            header[..8].copy_from_slice(&(self.size as u64).to_ne_bytes());
            header[8..].copy_from_slice(&number.to_ne_bytes());
            fill(number, payload);
        }
        self.socket.write_all(&self.requests[..count * frame_bytes])?;
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        let mut found = false;
        loop {
            while let Some(frame) = self.frames.next()? {
                let (header, payload) = self.frames.buffer[frame].split_at(FRAME_HEADER_BYTES);
                let number = header.last_chunk().map_or(0, |number| u64::from_ne_bytes(*number));
                take(number, payload);
                found = true;
            }
            if found {
                return Ok(());
            }
            if !self.frames.fill(&mut self.socket)? {
                return Err("the server has closed the socket".into());
            }
        }
    }
}
