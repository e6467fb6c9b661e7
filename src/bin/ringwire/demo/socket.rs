//! Both ends of the way over a Unix socket, which the ring is compared with.
//!
//! A file is a row of chunks, each behind its length (32 bits, little-endian); length 0 ends it, [`ABANDONED`] gives it up.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;

use zerocopy::{FromZeros, IntoBytes};

use super::route::{ExchangeError, Intake, Route};
use super::source::{PIECE_BYTES, Source};
use super::tally::Counts;

/// In place of a length: the client could not read on.
const ABANDONED: u32 = u32::MAX;
const END: [u8; 4] = [0; 4];
/// A chunk with its length and the end behind it comes in with one call.
const READ_BYTES: usize = PIECE_BYTES + 8;

/// The client's end.
#[derive(Debug)]
pub struct SocketRoute {
    socket: UnixStream,
}

impl SocketRoute {
    /// Sends through `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    fn send(&mut self, source: &mut Source<'_>) -> Result<(), ExchangeError> {
        loop {
            let piece = source.piece();
            let length =
                u32::try_from(piece.len()).map_err(|error| ExchangeError::Route(error.into()))?.to_le_bytes();
            let last = source.is_last();
            let chunk = if piece.is_empty() { &[] } else { &length[..] };
            let end = if last { &END[..] } else { &[] };
            self.write(&mut [IoSlice::new(chunk), IoSlice::new(piece), IoSlice::new(end)])?;
            source.count_piece();
            if last {
                return Ok(());
            }
            if let Err(error) = source.advance() {
                self.write(&mut [IoSlice::new(&ABANDONED.to_le_bytes())])?;
                return Err(ExchangeError::Read(error));
            }
        }
    }

    fn write(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), ExchangeError> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.socket.write_vectored(parts) {
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(server_is_gone(&error)),
            }
        }
        Ok(())
    }
}

impl Route for SocketRoute {
    fn name(&self) -> &'static str {
        "Unix socket"
    }

    fn exchange(&mut self, _: u64, source: &mut Source<'_>) -> Result<Counts, ExchangeError> {
        self.send(source)?;
        let mut counts = Counts::new_zeroed();
        self.socket.read_exact(counts.as_mut_bytes()).map_err(|error| server_is_gone(&error))?;
        Ok(counts)
    }
}

fn server_is_gone(error: &io::Error) -> ExchangeError {
    ExchangeError::Route(format!("the server left the socket: {error}").into())
}

/// The server's end: answers until the client closes.
pub fn serve(socket: &UnixStream, mut intake: Intake) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BYTES, socket);
    while !reader.fill_buf()?.is_empty() {
        if take_file(&mut reader, &mut intake)? {
            (&mut &*socket).write_all(intake.finish().as_bytes())?;
        } else {
            intake.finish();
        }
    }
    Ok(())
}

/// Takes in one file; says whether it came to its end.
fn take_file(reader: &mut impl BufRead, intake: &mut Intake) -> io::Result<bool> {
    loop {
        let mut length = END;
        reader.read_exact(&mut length)?;
        let mut left = match u32::from_le_bytes(length) {
            0 => return Ok(true),
            ABANDONED => return Ok(false),
            length => length as usize,
        };
        while left > 0 {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = bytes.len().min(left);
            intake.take(&bytes[..count]);
            reader.consume(count);
            left -= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::demo::route::tests::check;

    #[test]
    fn every_file_arrives_whole() {
        for corrupt_one in [false, true] {
            let (client, server) = UnixStream::pair().unwrap();
            let server = thread::spawn(move || serve(&server, Intake::new(corrupt_one)));
            let mut route = SocketRoute::new(client);
            check(&mut route, PIECE_BYTES, corrupt_one);
            drop(route);
            server.join().unwrap().unwrap();
        }
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        for cut in [&[5, 0][..], &[5, 0, 0, 0, b'x'], &[1, 0, 0, 0, b'x']] {
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(cut).unwrap();
            drop(client);
            let error = serve(&server, Intake::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_server_that_leaves_is_an_error() {
        let (client, server) = UnixStream::pair().unwrap();
        drop(server);
        let (mut text, mut buffer) = (&b"text"[..], [0; 8]);
        let mut source = Source::begin(&mut text, &mut buffer).unwrap();
        assert!(matches!(SocketRoute::new(client).exchange(0, &mut source), Err(ExchangeError::Route(_))));
    }
}
