//! [`Route`]: a way to the server; and [`Intake`], what waits at its end.

use std::error::Error;
use std::io;

use super::source::Source;
use super::tally::{Counts, Tally};

/// A way to send files to the server.
pub trait Route {
    /// For the table.
    fn name(&self) -> &'static str;

    /// Sends the source, which stands at its first piece, and waits for the server's answer.
    ///
    /// # Errors
    /// [`ExchangeError::Read`] leaves the route in order: the server knows that this file was given up.
    fn exchange(&mut self, index: u64, source: &mut Source<'_>) -> Result<Counts, ExchangeError>;
}

/// Why a file did not arrive.
#[derive(Debug)]
pub enum ExchangeError {
    /// The file could not be read to its end.
    Read(io::Error),
    /// The server cannot be reached any more, or does not keep to the protocol.
    Route(Box<dyn Error>),
}

impl From<ringwire::Error> for ExchangeError {
    fn from(error: ringwire::Error) -> Self {
        Self::Route(error.into())
    }
}

/// What the server does with the bytes that arrive, by whatever way.
#[derive(Debug, Default)]
pub struct Intake {
    tally: Tally,
    corrupt_next: bool,
}

impl Intake {
    /// Counts what arrives; if `corrupt_one`, it gets one bit of the first bytes wrong.
    pub fn new(corrupt_one: bool) -> Self {
        Self { tally: Tally::default(), corrupt_next: corrupt_one }
    }

    /// Takes in a piece of a file.
    pub fn take(&mut self, piece: &[u8]) {
        if self.corrupt_next && !piece.is_empty() {
            self.corrupt_next = false;
            let mut wrong = piece.to_vec();
            wrong[piece.len() / 2] ^= 1;
            self.tally.update(&wrong);
        } else {
            self.tally.update(piece);
        }
    }

    /// The counts of the file that ends here; the next one begins.
    pub fn finish(&mut self) -> Counts {
        std::mem::take(&mut self.tally).finish()
    }
}

/// One suite for every route.
#[cfg(test)]
pub mod tests {
    use std::io::{Cursor, Read};

    use super::*;
    use crate::demo::source::PIECE_BYTES;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn send(route: &mut dyn Route, index: u64, reader: &mut dyn Read) -> Result<[Counts; 2], ExchangeError> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut source = Source::begin(reader, &mut buffer).unwrap();
        let answer = route.exchange(index, &mut source)?;
        Ok([answer, source.counts()])
    }

    /// Files of every length that matters, then one that breaks off half-way, then another good one. The server may be
    /// one that gets the first byte wrong.
    pub fn check(route: &mut dyn Route, record_bytes: usize, corrupt_one: bool) {
        let mut lengths = vec![0, 1];
        for limit in [record_bytes, PIECE_BYTES, 2 * PIECE_BYTES] {
            lengths.extend([limit - 1, limit, limit + 1]);
        }
        lengths.push(20 * PIECE_BYTES + 5);
        for (index, length) in (0..).zip(lengths) {
            let [answer, sent] = send(route, index, &mut Cursor::new(bytes(length))).unwrap();
            assert_eq!(sent.bytes, length as u64);
            assert_eq!(answer.bytes, sent.bytes);
            assert_eq!(answer == sent, !corrupt_one || length != 1, "{length}: {answer:?} for {sent:?}");
        }
        for length in [PIECE_BYTES, 5 * PIECE_BYTES] {
            let mut broken = Cursor::new(bytes(length)).chain(Broken);
            match send(route, 100, &mut broken) {
                Err(ExchangeError::Read(error)) => assert_eq!(error.to_string(), "broken"),
                other => panic!("{other:?}"),
            }
            let [answer, sent] = send(route, 101, &mut Cursor::new(bytes(length))).unwrap();
            assert_eq!(answer, sent);
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn a_corrupt_intake_is_wrong_once() {
        let mut intake = Intake::new(true);
        let mut counts = Vec::new();
        for piece in [b"", b"a", b"a"] as [&[u8]; 3] {
            intake.take(piece);
            counts.push(intake.finish());
        }
        assert_eq!(counts[0], Counts::default());
        assert_eq!(counts[1].bytes, counts[2].bytes);
        assert_ne!(counts[1].crc32, counts[2].crc32);
    }
}
