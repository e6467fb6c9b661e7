//! [`NamedHeader`]: what the object of a named ring says of itself, and how it is checked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::layout::{LayoutError, is_ring_size};

/// Bytes in front of the data area.
pub(super) const CONTROL_BYTES: usize = 1024;
const MAGIC: [u8; 8] = *b"ringwNRg";
const VERSION: u32 = 1;
/// Objects are a multiple of this; where pages are larger, the last one is partly used.
const PAGE_BYTES: usize = 4096;

/// Which half of a ring somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// The one that sends.
    Writing,
    /// The one that receives.
    Reading,
}

impl Half {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Writing => Self::Reading,
            Self::Reading => Self::Writing,
        }
    }

    /// As an adjective.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Reading => "reading",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Writing => 1,
            Self::Reading => 2,
        }
    }

    const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Writing),
            2 => Some(Self::Reading),
            _ => None,
        }
    }
}

/// The first bytes of a named ring's object. Never changes once the ring is there.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct NamedHeader {
    magic: [u8; 8],
    version: u32,
    control_bytes: u32,
    ring_bytes: u32,
    owner: u32,
    reserved: [u8; 40],
}

const _: () = assert!(size_of::<NamedHeader>() == 64);

/// Why a named ring's memory could not be made or mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NamedError {
    /// A system call failed.
    #[error("{call}")]
    System {
        /// What for.
        call: &'static str,
        /// With what.
        source: io::Error,
    },
    /// The object holds something else.
    #[error("the object begins with {found:02x?}, expected {MAGIC:02x?}: it is not a ring")]
    NotARing {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// Another version of the library made it.
    #[error("the ring has layout {found}, expected {VERSION}: use one version of the library on both sides")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The header contradicts the layout.
    #[error("the ring's header says {what} {found}, expected {expected}")]
    Header {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: u32,
        /// What it may be.
        expected: &'static str,
    },
    /// The size of the ring is none.
    #[error(transparent)]
    RingBytes(#[from] LayoutError),
    /// The object is shorter or longer than its header says.
    #[error("the object has {found} bytes, its header says {expected}")]
    Size {
        /// The size found.
        found: u64,
        /// The size of the layout.
        expected: usize,
    },
}

impl NamedHeader {
    /// The header of a ring of `ring_bytes` whose creator has the half `owner`.
    ///
    /// # Errors
    /// [`NamedError::RingBytes`] unless it is a power of two from 4 KiB to 1 GiB.
    pub fn new(owner: Half, ring_bytes: u32) -> Result<Self, NamedError> {
        if !is_ring_size(ring_bytes) {
            return Err(LayoutError { bytes: ring_bytes }.into());
        }
        let control_bytes = CONTROL_BYTES as u32;
        let owner = owner.code();
        Ok(Self { magic: MAGIC, version: VERSION, control_bytes, ring_bytes, owner, reserved: [0; 40] })
    }

    /// Reads and checks the header of `object`; `None` while there is none.
    ///
    /// # Errors
    /// [`NamedError::NotARing`], [`NamedError::Version`], [`NamedError::Header`], [`NamedError::RingBytes`].
    pub fn read(object: &File) -> Result<Option<Self>, NamedError> {
        let mut header = Self::new_zeroed();
        match object.read_exact_at(header.as_mut_bytes(), 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(NamedError::System { call: "reading the header", source }),
        }
        if header.magic != MAGIC {
            return Err(NamedError::NotARing { found: header.magic });
        }
        if header.version != VERSION {
            return Err(NamedError::Version { found: header.version });
        }
        if header.control_bytes as usize != CONTROL_BYTES {
            let found = header.control_bytes;
            return Err(NamedError::Header { what: "control bytes", found, expected: "1024" });
        }
        if Half::from_code(header.owner).is_none() {
            return Err(NamedError::Header { what: "owner", found: header.owner, expected: "1 or 2" });
        }
        if !is_ring_size(header.ring_bytes) {
            return Err(LayoutError { bytes: header.ring_bytes }.into());
        }
        Ok(Some(header))
    }

    /// The half of who created the ring.
    #[must_use]
    pub fn owner(&self) -> Half {
        Half::from_code(self.owner).unwrap_or(Half::Writing)
    }

    /// Size of the data area in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Size of the whole object in bytes.
    #[must_use]
    pub fn object_bytes(&self) -> usize {
        (CONTROL_BYTES + self.ring_bytes as usize).next_multiple_of(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_checked_field_by_field() {
        let refused = |at: usize, value: u32| {
            let object = tempfile::tempfile().unwrap();
            let mut bytes = [0; 64];
            bytes.copy_from_slice(NamedHeader::new(Half::Reading, 8192).unwrap().as_bytes());
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            object.write_all_at(&bytes, 0).unwrap();
            NamedHeader::read(&object).unwrap_err().to_string()
        };
        assert!(refused(0, 0).contains("not a ring"));
        assert!(refused(8, 2).contains("layout 2, expected 1"));
        assert!(refused(12, 4096).contains("control bytes 4096, expected 1024"));
        assert!(refused(16, 4097).contains("ring of 4097 bytes"));
        assert!(refused(20, 3).contains("owner 3, expected 1 or 2"));
        assert!(NamedHeader::new(Half::Writing, 1 << 31).is_err());
    }
}
