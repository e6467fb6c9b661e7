//! A server's path: the lock that makes it ours, the socket in it, and what a dead server left there.
//!
//! `path.lock` is held (`flock`) for as long as the server lives; the kernel drops it when the process ends. Whoever holds
//! it may replace the socket. Nothing but a socket is ever unlinked.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use crate::error::{Error, ErrorKind};
use crate::sync::failpoint::{Failpoint, failpoint};

/// The longest path that a Unix socket address holds, in bytes.
pub(super) const MAX_PATH_BYTES: usize = 107;
const PRIVATE_MODE: u32 = 0o600;

/// The address of `path`, checked.
pub(super) fn address(path: &Path) -> Result<UnixAddr, Error> {
    let bytes = path.as_os_str().len();
    if bytes > MAX_PATH_BYTES {
        let message = format!(
            "path of {bytes} bytes, a Unix socket takes {MAX_PATH_BYTES} (use a shorter one, such as /run/...): {}",
            path.display()
        );
        return Err(Error::new(ErrorKind::PathTooLong, message));
    }
    if bytes == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "empty socket path"));
    }
    UnixAddr::new(path).map_err(|errno| {
        let message = format!("{:?} cannot be a socket's path (is there a NUL in it?)", path.as_os_str());
        Error::with_source(ErrorKind::InvalidInput, message, errno)
    })
}

pub(super) fn stream_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// A bound path: removed on drop, by the process that bound it and if it is still the same.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    socket: FileId,
    lock: PathLock,
}

/// The lock beside a path, held until it is dropped. A plain descriptor: the kernel gives the lock up with the last copy
/// of it, so a forked child that closes its own takes nothing away.
#[derive(Debug)]
struct PathLock {
    path: PathBuf,
    file: File,
    owner_pid: u32,
}

impl PathLock {
    /// Whether this is the process that took it: a forked child has a copy of the value, but the path is its parent's.
    fn is_ours(&self) -> bool {
        std::process::id() == self.owner_pid
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // While it is still held: who waits for it looks again whether its file is still the one at the path.
        if self.is_ours() && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
            failpoint(Failpoint::UnbindLockRemoved);
        }
    }
}

/// Device and inode.
type FileId = (u64, u64);

impl BoundPath {
    /// Binds `path` and listens there, with `mode` as its permissions.
    pub(super) fn bind(path: &Path, mode: u32, backlog: i32) -> Result<(Self, UnixListener), Error> {
        let address = address(path)?;
        let lock = take_lock(path)?;
        failpoint(Failpoint::BindLocked);
        remove_stale_socket(path, &address)?;
        failpoint(Failpoint::BindCleared);
        let doing = |what: &str| format!("{what} {}", path.display());
        let socket = stream_socket().map_err(|errno| Error::system(doing("socket for"), errno))?;
        // Before bind, so that the file has these permissions from its first instant.
        fchmod(&socket, Mode::from_bits_truncate(PRIVATE_MODE))
            .map_err(|errno| Error::system(doing("fchmod"), errno))?;
        failpoint(Failpoint::BindSocketMade);
        bind(socket.as_raw_fd(), &address).map_err(|errno| Error::system(doing("binding"), errno))?;
        failpoint(Failpoint::BindBound);
        let metadata = fs::symlink_metadata(path).map_err(|error| Error::system(doing("stat of"), error))?;
        let bound = Self { path: path.into(), socket: file_id(&metadata), lock };
        if mode != PRIVATE_MODE {
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(|error| Error::system(doing("chmod"), error))?;
        }
        let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXCONN);
        listen(&socket, backlog).map_err(|errno| Error::system(doing("listening at"), errno))?;
        failpoint(Failpoint::BindListening);
        Ok((bound, UnixListener::from(socket)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // Before the lock is dropped, so that nobody else can have put a socket there meanwhile.
        let is_same = |found: fs::Metadata| file_id(&found) == self.socket;
        if self.lock.is_ours() && fs::symlink_metadata(&self.path).is_ok_and(is_same) {
            failpoint(Failpoint::UnbindBegun);
            let _ = fs::remove_file(&self.path);
            failpoint(Failpoint::UnbindSocketRemoved);
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn file_id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => file_id(&held) == file_id(&found),
        _ => false,
    }
}

fn take_lock(path: &Path) -> Result<PathLock, Error> {
    let lock_path = lock_path(path);
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_MODE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock_path)
            .map_err(|error| Error::system(format!("opening {}", lock_path.display()), error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path, "its lock is held")),
            Err(TryLockError::Error(error)) => {
                return Err(Error::system(format!("locking {}", lock_path.display()), error));
            }
        }
        // Its holder may have removed the file between our open and our lock: then we hold the lock of nothing.
        if is_at(&file, &lock_path) {
            return Ok(PathLock { path: lock_path, file, owner_pid: std::process::id() });
        }
    }
}

fn in_use(path: &Path, evidence: &str) -> Error {
    Error::new(ErrorKind::AddressInUse, format!("a living server has {} ({evidence})", path.display()))
}

/// Removes what a dead server left. Under the lock.
fn remove_stale_socket(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::system(format!("stat of {}", path.display()), error)),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        let message =
            format!("{} exists and is not a socket; move it away or choose another path", path.display());
        return Err(Error::new(ErrorKind::NotASocket, message));
    }
    // It must not wait for a place in a living server's backlog.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|errno| Error::system("socket for a probe", errno))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
            return Err(Error::system(format!("probing {}", path.display()), errno));
        }
        Ok(()) | Err(_) => return Err(in_use(path, "it accepts connections")),
    }
    log::info!("replacing the socket of a dead server at {}", path.display());
    fs::remove_file(path).map_err(|error| Error::system(format!("removing {}", path.display()), error))
}
