//! [`Tally`]: what both sides compute over the bytes of a file.

use std::fmt;

use crc32fast::Hasher;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a file amounts to; as 32 bytes, the server's answer.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// All bytes.
    pub bytes: u64,
    /// Line feeds.
    pub lines: u64,
    /// Runs of bytes other than ASCII white space.
    pub words: u64,
    /// CRC-32 (ISO-HDLC, as in gzip); the upper half is 0.
    pub crc32: u64,
}

const _: () = assert!(size_of::<Counts>() == 32);

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, lines, words, crc32 } = self;
        write!(f, "{bytes} bytes, {lines} lines, {words} words, CRC32 {crc32:08x}")
    }
}

/// Counts bytes that come piece by piece, wherever they are cut.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    crc: Hasher,
    bytes: u64,
    lines: u64,
    words: u64,
    in_word: bool,
}

/// So many ones add up in a byte, which lets the compiler count 16 or 32 at once.
const BYTE_SUM: usize = u8::MAX as usize;

impl Tally {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return };
        self.crc.update(piece);
        self.bytes += piece.len() as u64;
        for part in piece.chunks(BYTE_SUM) {
            self.lines += u64::from(part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
        }
        self.words += u64::from(!self.in_word && !is_space(*first));
        for (before, here) in piece.chunks(BYTE_SUM).zip(piece[1..].chunks(BYTE_SUM)) {
            let starts =
                before.iter().zip(here).map(|(before, here)| u8::from(is_space(*before) & !is_space(*here)));
            self.words += u64::from(starts.sum::<u8>());
        }
        self.in_word = !is_space(*last);
    }

    /// What has been taken in.
    pub fn finish(self) -> Counts {
        let Self { crc, bytes, lines, words, .. } = self;
        Counts { bytes, lines, words, crc32: u64::from(crc.finalize()) }
    }
}

/// Space, tab, line feed, vertical tab, form feed, carriage return.
fn is_space(byte: u8) -> bool {
    (byte == b' ') | (byte.wrapping_sub(b'\t') < 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACES: &[u8] = b" \t\n\x0b\x0c\r";

    fn naive(bytes: &[u8]) -> Counts {
        let mut register = u32::MAX;
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = if register & 1 == 1 { register >> 1 ^ 0xEDB8_8320 } else { register >> 1 };
            }
        }
        Counts {
            bytes: bytes.len() as u64,
            lines: bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
            words: bytes.split(|byte| SPACES.contains(byte)).filter(|word| !word.is_empty()).count() as u64,
            crc32: u64::from(!register),
        }
    }

    fn counted<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Counts {
        let mut tally = Tally::default();
        pieces.into_iter().for_each(|piece| tally.update(piece));
        tally.finish()
    }

    /// Words, runs of white space and other bytes in no regular pattern.
    fn mixture(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        (0..bytes)
            .map(|_| if next() % 3 == 0 { SPACES[next() % SPACES.len()] } else { next() as u8 })
            .collect()
    }

    #[test]
    fn the_same_counts_wherever_the_bytes_are_cut() {
        for text in
            [b"".to_vec(), b"x".to_vec(), b"\n".to_vec(), b" two  words\nand\tmore ".to_vec(), mixture(700)]
        {
            let expected = naive(&text);
            for cut in 0..=text.len() {
                let (front, back) = text.split_at(cut);
                assert_eq!(counted([front, back]), expected, "{text:?} cut at {cut}");
                assert_eq!(
                    counted([front, b"", back]),
                    expected,
                    "{text:?} cut at {cut}, with nothing between"
                );
            }
            assert_eq!(counted(text.chunks(1)), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn the_sums_of_bytes_do_not_overflow() {
        for bytes in [BYTE_SUM - 1, BYTE_SUM, BYTE_SUM + 1, 2 * BYTE_SUM, 2 * BYTE_SUM + 1, 70_000] {
            let lines = vec![b'\n'; bytes];
            assert_eq!(counted([&lines[..]]), naive(&lines));
            let words: Vec<u8> = b" a".iter().copied().cycle().take(bytes).collect();
            assert_eq!(counted([&words[..]]), naive(&words));
        }
    }

    #[test]
    fn white_space_is_what_the_oracle_says() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_space(byte), SPACES.contains(&byte), "{byte}");
        }
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(counted([&b"123456789"[..]]).crc32, 0xCBF4_3926);
        let counts = counted([&b"a b\n"[..]]);
        assert_eq!(counts.to_string(), format!("4 bytes, 1 lines, 2 words, CRC32 {:08x}", counts.crc32));
    }
}
