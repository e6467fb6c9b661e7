//! Both ends of the way over a ringwire stream.

use ringwire::{Error, ErrorKind, Header, Kind, Stream};
use zerocopy::IntoBytes;

use super::route::{ExchangeError, Intake, Route};
use super::source::{PIECE_BYTES, Source};
use super::tally::Counts;

/// The only type of message here: a file as the request, its counts as the response.
const FILE: u16 = 1;

/// The client's end.
#[derive(Debug)]
pub struct RingRoute {
    stream: Stream,
}

impl RingRoute {
    /// Sends through `stream`.
    pub fn new(stream: Stream) -> Self {
        Self { stream }
    }

    fn send(&mut self, header: Header, source: &mut Source<'_>) -> Result<(), ExchangeError> {
        if source.is_last() && source.piece().len() <= self.stream.max_record_bytes() {
            self.stream.send(header, source.piece())?;
            source.count_piece();
            return Ok(());
        }
        // Dropped by an error of the file, it tells the server to forget what came so far.
        let mut writer = self.stream.write_message(header);
        loop {
            writer.write_piece(source.piece())?;
            if source.is_last() {
                break;
            }
            source.count_piece();
            source.advance().map_err(ExchangeError::Read)?;
        }
        writer.finish()?;
        source.count_piece();
        Ok(())
    }

    fn receive_answer(&mut self, index: u64) -> Result<Counts, ExchangeError> {
        let message = self.stream.receive()?;
        let (found, expected) = (message.header(), Header::new(Kind::Response, FILE, index));
        match message.payload().read_at(0) {
            Some(counts) if found == expected && message.payload().len() == size_of::<Counts>() => Ok(counts),
            _ => {
                let bytes = message.payload().len();
                let error = format!(
                    "the server answered {found:?} with {bytes} bytes, expected {expected:?} with 32"
                );
                Err(ExchangeError::Route(error.into()))
            }
        }
    }
}

impl Route for RingRoute {
    fn name(&self) -> &'static str {
        "ringwire"
    }

    fn exchange(&mut self, index: u64, source: &mut Source<'_>) -> Result<Counts, ExchangeError> {
        self.send(Header::new(Kind::Request, FILE, index), source)?;
        self.receive_answer(index)
    }
}

/// The server's end: answers until the client closes.
///
/// # Errors
/// [`ErrorKind::PeerDied`], [`ErrorKind::CorruptPeer`].
pub fn serve(mut stream: Stream, mut intake: Intake) -> Result<(), Error> {
    let mut scratch = vec![0; PIECE_BYTES];
    loop {
        match serve_one(&mut stream, &mut intake, &mut scratch) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Abandoned => _ = intake.finish(),
            Err(error) if error.kind() == ErrorKind::PeerClosed => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn serve_one(stream: &mut Stream, intake: &mut Intake, scratch: &mut [u8]) -> Result<(), Error> {
    let mut message = stream.read_message()?;
    let request = message.header();
    while let Some(piece) = message.next_piece()? {
        let mut taken = 0;
        while taken < piece.len() {
            let count = piece.copy_from(taken, scratch);
            intake.take(&scratch[..count]);
            taken += count;
        }
    }
    drop(message);
    let response = Header::new(Kind::Response, request.message_type, request.correlation);
    stream.send(response, intake.finish().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ringwire::WaitStrategy;

    use super::*;
    use crate::demo::route::tests::check;

    #[test]
    fn every_file_arrives_whole_through_rings_of_any_size() {
        for (ring_bytes, corrupt_one) in [(4 << 10, false), (64 << 10, true), (1 << 20, false)] {
            let (client, server) = Stream::pair_with(ring_bytes, WaitStrategy::default()).unwrap();
            let server = thread::spawn(move || serve(server, Intake::new(corrupt_one)));
            let record_bytes = client.max_record_bytes();
            let mut route = RingRoute::new(client);
            check(&mut route, record_bytes, corrupt_one);
            drop(route);
            server.join().unwrap().unwrap();
        }
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        for (index, bytes) in [(1, 32), (0, 31), (0, 33)] {
            let (client, mut server) = Stream::pair().unwrap();
            server.send(Header::new(Kind::Response, FILE, index), &vec![0; bytes]).unwrap();
            match RingRoute::new(client).receive_answer(0) {
                Err(ExchangeError::Route(error)) => {
                    assert!(error.to_string().contains("expected"), "{error}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
