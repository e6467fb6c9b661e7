//! Echoes over a Unix socket as a program on `std` does it: a thread for each connection, a buffered reader, and one write
//! for each message.

use std::error::Error;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::load::spawn_all;
use super::transport::{Connection, Plan, Transport};

/// Length of the payload and number of the request, 8 bytes each.
const HEADER_BYTES: usize = 16;
/// Longer messages are a mistake.
const MAX_BYTES: u64 = 1 << 30;

/// The server.
pub struct Plain {
    listener: UnixListener,
}

impl Transport for Plain {
    type Connection = PlainConnection;

    fn listen(_: &Plan, directory: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let path = directory.join("plain.sock");
        let listener = UnixListener::bind(&path)?;
        let address = path.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
        Ok((Self { listener }, address.to_owned()))
    }

    fn serve(self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        spawn_all(plan.connections, plan.placed, |_| {
            let (socket, _) = self.listener.accept()?;
            Ok(move || echo(&socket))
        })
    }

    fn connect(
        plan: &Plan,
        address: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<PlainConnection>, Box<dyn Error>> {
        let connect = |_| {
            let reader = BufReader::new(UnixStream::connect(address)?);
            Ok(PlainConnection { reader, frame: Vec::new(), size: plan.size })
        };
        numbers.map(connect).collect()
    }
}

fn echo(socket: &UnixStream) -> Result<(), Box<dyn Error>> {
    let (mut reader, mut writer, mut frame) = (BufReader::new(socket), socket, Vec::new());
    loop {
        match read_frame(&mut reader, &mut frame) {
            Ok(()) => writer.write_all(&frame)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A whole message, with its header.
fn read_frame(reader: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header)?;
    let length = header.first_chunk().map_or(0, |length| u64::from_ne_bytes(*length));
    if length > MAX_BYTES {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    frame.resize(HEADER_BYTES + length, 0);
    frame[..HEADER_BYTES].copy_from_slice(&header);
    reader.read_exact(&mut frame[HEADER_BYTES..])
}

/// A client's end.
pub struct PlainConnection {
    reader: BufReader<UnixStream>,
    frame: Vec<u8>,
    size: usize,
}

impl Connection for PlainConnection {
    fn limit_waits(&mut self, limit: Duration) -> Result<(), Box<dyn Error>> {
        self.reader.get_ref().set_read_timeout(Some(limit))?;
        self.reader.get_ref().set_write_timeout(Some(limit))?;
        Ok(())
    }

    fn submit(
        &mut self,
        numbers: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<dyn Error>> {
        self.frame.resize(HEADER_BYTES + self.size, 0);
        for number in numbers {
            let (header, payload) = self.frame.split_at_mut(HEADER_BYTES);
            header[..8].copy_from_slice(&(self.size as u64).to_ne_bytes());
            header[8..].copy_from_slice(&number.to_ne_bytes());
            fill(number, payload);
            self.reader.get_mut().write_all(&self.frame)?;
        }
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        loop {
            read_frame(&mut self.reader, &mut self.frame)?;
            let (header, payload) = self.frame.split_at(HEADER_BYTES);
            take(header.last_chunk().map_or(0, |number| u64::from_ne_bytes(*number)), payload);
            // The rest of a message that has begun to arrive comes without waiting for anybody else.
            if self.reader.buffer().is_empty() {
                return Ok(());
            }
        }
    }
}
