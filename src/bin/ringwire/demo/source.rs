//! [`Source`]: a file on its way, one piece at a time.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use super::tally::{Counts, Tally};

/// So much of a file is in memory at once, on either side and by either way.
pub const PIECE_BYTES: usize = 64 << 10;

/// A file that is read piece by piece and counted piece by piece; the counts are of the very bytes that were sent.
pub struct Source<'a> {
    reader: &'a mut dyn Read,
    buffer: &'a mut [u8],
    /// The current piece is the front of the buffer.
    piece_bytes: usize,
    ended: bool,
    tally: Tally,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("piece_bytes", &self.piece_bytes).finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// Reads the first piece, of at most the length of `buffer`.
    pub fn begin(reader: &'a mut dyn Read, buffer: &'a mut [u8]) -> io::Result<Self> {
        let mut source = Self { reader, buffer, piece_bytes: 0, ended: false, tally: Tally::default() };
        source.advance()?;
        Ok(source)
    }

    /// The current piece; empty at the end.
    pub fn piece(&self) -> &[u8] {
        &self.buffer[..self.piece_bytes]
    }

    /// Whether the file is known to end with this piece. Only a piece shorter than the buffer can be the last.
    pub fn is_last(&self) -> bool {
        self.ended
    }

    /// Counts the current piece. Best done when it has been sent: the server counts it meanwhile.
    pub fn count_piece(&mut self) {
        self.tally.update(&self.buffer[..self.piece_bytes]);
    }

    /// Reads the next piece.
    pub fn advance(&mut self) -> io::Result<()> {
        self.piece_bytes = 0;
        while self.piece_bytes < self.buffer.len() && !self.ended {
            match self.reader.read(&mut self.buffer[self.piece_bytes..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.piece_bytes += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What has been counted.
    pub fn counts(self) -> Counts {
        self.tally.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and is interrupted before each.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(target.len()).min(1);
            self.0.read(&mut target[..count])
        }
    }

    #[test]
    fn pieces_are_full_except_the_last() -> io::Result<()> {
        for bytes in 0..=9_usize {
            let text = &b"one two 3"[..bytes];
            let (mut reader, mut buffer) = (Trickle(text, false), [0; 4]);
            let mut source = Source::begin(&mut reader, &mut buffer)?;
            let mut read = Vec::new();
            while !source.is_last() {
                assert_eq!(source.piece().len(), 4);
                read.extend_from_slice(source.piece());
                source.count_piece();
                source.advance()?;
            }
            assert_eq!(source.piece().len(), bytes % 4);
            read.extend_from_slice(source.piece());
            source.count_piece();
            assert_eq!((&read[..], source.counts().bytes), (text, bytes as u64));
        }
        Ok(())
    }
}
