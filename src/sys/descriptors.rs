//! Receipt of a descriptor over a Unix socket.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// What one `recvmsg` brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes were put into the buffer; 0 is the end of the stream.
    pub bytes: usize,
    /// The first descriptor that came along. Any further ones have been closed.
    pub descriptor: Option<OwnedFd>,
}

/// Receives bytes and at most one descriptor (close-on-exec), without waiting.
///
/// # Errors
/// As `recvmsg(2)`: `EAGAIN` when nothing is there.
pub fn receive_with_descriptor(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            for fd in raw {
                // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let bytes = message.bytes;
    Ok(Received { bytes, descriptor: descriptors.into_iter().next() })
}
