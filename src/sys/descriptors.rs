//! Receipt of a descriptor over a Unix socket.

use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// What one `recvmsg` brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes were put into the buffer; 0 is the end of the stream.
    pub bytes: usize,
    /// The first descriptor that came along. Any further ones have been closed.
    pub descriptor: Option<OwnedFd>,
}

/// Room for a header and four descriptors; what does not fit, the kernel closes. In words, for a header's alignment.
type Control = [u64; 4];

/// Receives bytes and at most one descriptor (close-on-exec), without waiting.
///
/// Not through `nix`, which hands out no descriptor, and so closes none, when some did not fit.
///
/// # Errors
/// As `recvmsg(2)`: `EAGAIN` when nothing is there. `EMFILE` if this process has no room for the descriptor.
pub fn receive_with_descriptor(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut control: Control = [0; 4];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a message without address, data and control.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let bytes = loop {
        // SAFETY: the kernel writes into the two buffers, which outlive the call, and no more than their lengths.
        let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    // SAFETY: recvmsg() has just filled it in, and `control` is alive.
    let descriptor = unsafe { take_descriptors(&message) }.into_iter().next();
    if descriptor.is_none() && message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::EMFILE);
    }
    // Not negative: that would have been an error.
    Ok(Received { bytes: usize::try_from(bytes).unwrap_or(0), descriptor })
}

/// The descriptors that `message` has brought; each has an owner from here on.
///
/// # Safety
/// `message` is as `recvmsg` left it, its control buffer is alive, and this is the only call for it.
unsafe fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the caller's contract.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(ptr::from_ref(message)) };
    while !header.is_null() {
        // SAFETY: the kernel has written a whole header wherever the macros find one.
        let found = unsafe { header.read() };
        if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(header) };
            let bytes = found.cmsg_len as usize - (data.addr() - header.addr());
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: inside the data whose length the header says.
                let raw = unsafe { data.cast::<RawFd>().add(index) };
                // SAFETY: as above.
                let raw = unsafe { raw.read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: `header` is one of this message's.
        header = unsafe { libc::CMSG_NXTHDR(ptr::from_ref(message), header) };
    }
    descriptors
}
