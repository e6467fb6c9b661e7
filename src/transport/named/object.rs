//! A named ring's object: its name, its locks, and who may have which half.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use crate::error::{Error, ErrorKind};
use crate::shm::{Half, NamedError, NamedHeader, NamedMemory};
use crate::transport::credentials::is_own_user;

/// The longest name, its slash included, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// One side of a named ring.
#[derive(Debug)]
pub(super) struct NamedObject {
    held: Held,
    memory: Arc<NamedMemory>,
    half: Half,
}

/// An object with our locks on it, held until this is dropped. The creator's name goes with it.
#[derive(Debug)]
struct Held {
    name: String,
    file: File,
    is_owner: bool,
    made_by: u32,
}

impl Held {
    fn new(name: &str, file: File, is_owner: bool) -> Self {
        Self { name: name.to_owned(), file, is_owner, made_by: std::process::id() }
    }

    fn is_ours(&self) -> bool {
        std::process::id() == self.made_by
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Under our `flock`, so that nobody else can have put another there meanwhile.
        if self.is_owner && self.is_ours() && matches!(is_at(&self.file, &self.name), Ok(true)) {
            let _ = shm_unlink(self.name.as_str());
        }
    }
}

impl NamedObject {
    /// Makes the ring and takes one half of it.
    pub(super) fn create(name: &str, half: Half, ring_bytes: u32) -> Result<Self, Error> {
        check_name(name)?;
        let header = NamedHeader::new(half, ring_bytes).map_err(|error| {
            Error::with_source(ErrorKind::InvalidInput, format!("creating {name}"), error)
        })?;
        let held = Held::new(name, claim(name)?, true);
        let file = &held.file;
        fchmod(file, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed("fchmod of", name, errno))?;
        let memory = NamedMemory::create(file, &header).map_err(|error| refused("creating", name, error))?;
        // Last: whoever sees this lock sees a ring that is ready.
        lock_half(file, name, half)?;
        Ok(Self { held, memory, half })
    }

    /// Takes the half of an existing ring that its creator has not.
    pub(super) fn open(name: &str, half: Half) -> Result<Self, Error> {
        check_name(name)?;
        let file = open_object(name).map_err(|errno| {
            let doing = if errno == Errno::ENOENT { "nobody has created the ring" } else { "opening" };
            failed(doing, name, errno)
        })?;
        check_owner(&file, name)?;
        let not_ready = || unready(name, "its creator is gone, or still at it");
        let header = NamedHeader::read(&file).map_err(|error| refused("opening", name, error))?;
        let header = header.ok_or_else(not_ready)?;
        if header.owner() == half {
            let (taken, other) = (half.name(), half.opposite().name());
            let message = format!("the creator of {name} has the {taken} half; open the {other} half");
            return Err(Error::new(ErrorKind::AddressInUse, message));
        }
        if !is_locked(&file, half.opposite()) {
            return Err(not_ready());
        }
        lock_half(&file, name, half)?;
        let memory = NamedMemory::open(&file, &header).map_err(|error| refused("opening", name, error))?;
        if memory.is_taken() {
            return Err(unready(name, "it has been used, and whoever opened it has gone"));
        }
        memory.take();
        Ok(Self { held: Held::new(name, file, false), memory, half })
    }

    pub(super) fn name(&self) -> &str {
        &self.held.name
    }

    pub(super) fn memory(&self) -> &Arc<NamedMemory> {
        &self.memory
    }

    /// Whether the other side lives.
    pub(super) fn peer_is_there(&self) -> bool {
        is_locked(&self.held.file, self.half.opposite())
    }

    /// Whether the other side is gone for good. One that has not come yet is not.
    pub(super) fn peer_is_gone(&self) -> bool {
        (!self.held.is_owner || self.memory.is_taken()) && !self.peer_is_there()
    }

    /// Whether this is the process that made this value: a forked child has a copy of it, without the memory.
    pub(super) fn is_ours(&self) -> bool {
        self.held.is_ours()
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let wrong = |what: &str| {
        let message =
            format!("{name:?} cannot be a ring's name: {what} (expected something like \"/prices\")");
        Err(Error::new(ErrorKind::InvalidInput, message))
    };
    let Some(rest) = name.strip_prefix('/') else { return wrong("it does not begin with a slash") };
    if name.len() > MAX_NAME_BYTES {
        let what = format!("it has {} bytes, at most {MAX_NAME_BYTES} are possible", name.len());
        return wrong(&what);
    }
    match rest {
        "" | "." | ".." => wrong("there is no name behind its slash"),
        _ if rest.contains('/') => wrong("it has a second slash"),
        _ if rest.contains('\0') => wrong("there is a NUL in it"),
        _ => Ok(()),
    }
}

/// An empty object at `name` whose `flock` is ours: a new one, or one that a dead creator left empty.
fn claim(name: &str) -> Result<File, Error> {
    loop {
        let file = match make_object(name) {
            Err(Errno::EEXIST) => match open_object(name) {
                // Removed meanwhile.
                Err(Errno::ENOENT) => continue,
                other => other,
            },
            other => other,
        }
        .map_err(|errno| failed("creating", name, errno))?;
        if let Some(file) = take(file, name)? {
            return Ok(file);
        }
    }
}

/// Takes the `flock` of what stood at `name` a moment ago. `None`: something has changed, look again.
fn take(file: File, name: &str) -> Result<Option<File>, Error> {
    check_owner(&file, name)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(name, "a living process has created it")),
        Err(TryLockError::Error(error)) => return Err(Error::system(format!("locking {name}"), error)),
    }
    // Its creator may have removed it between our open and our lock: then we hold the lock of nothing.
    if !is_at(&file, name)? {
        return Ok(None);
    }
    let metadata = file.metadata().map_err(|error| Error::system(format!("fstat of {name}"), error))?;
    if metadata.len() == 0 {
        return Ok(Some(file));
    }
    remove_stale(&file, name)?;
    Ok(None)
}

/// Removes a dead creator's ring. The other side may still be reading it, so its memory is left alone.
fn remove_stale(file: &File, name: &str) -> Result<(), Error> {
    match NamedHeader::read(file) {
        // Of another version, or spoilt, but a ring.
        Ok(Some(_))
        | Err(NamedError::Version { .. } | NamedError::Header { .. } | NamedError::RingBytes(_)) => {}
        Ok(None) => return Err(in_use(name, "by something that is not a ring")),
        Err(error) => {
            let message = format!("{name} is in use; choose another name, or remove what is there");
            return Err(Error::with_source(ErrorKind::AddressInUse, message, error));
        }
    }
    log::info!("replacing the ring of a dead process at {name}");
    shm_unlink(name).map_err(|errno| failed("removing", name, errno))
}

fn make_object(name: &str) -> nix::Result<File> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    shm_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn open_object(name: &str) -> nix::Result<File> {
    shm_open(name, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty()).map(File::from)
}

fn is_at(file: &File, name: &str) -> Result<bool, Error> {
    let stat = |file: &File| {
        let found = file.metadata().map_err(|error| Error::system(format!("fstat of {name}"), error))?;
        Ok::<_, Error>((found.dev(), found.ino()))
    };
    match shm_open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()) {
        Ok(found) => Ok(stat(file)? == stat(&found.into())?),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(failed("opening", name, errno)),
    }
}

/// Anybody may put an object into the directory of shared memory objects, under any name.
fn check_owner(file: &File, name: &str) -> Result<(), Error> {
    let found = file.metadata().map_err(|error| Error::system(format!("fstat of {name}"), error))?;
    if !is_own_user(found.uid()) {
        let own = geteuid();
        let message = format!("{name} belongs to uid {}, expected {own}; choose another name", found.uid());
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    if !found.is_file() {
        return Err(in_use(name, "by something that is not a shared memory object"));
    }
    Ok(())
}

/// The byte of the object that stands for a half.
fn lock_of(half: Half) -> libc::flock {
    let start = match half {
        Half::Writing => 0,
        Half::Reading => 1,
    };
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    }
}

/// Takes the lock of a half: it ends with the last copy of this descriptor.
fn lock_half(file: &File, name: &str, half: Half) -> Result<(), Error> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock_of(half))) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            Err(in_use(name, &format!("another process has its {} half", half.name())))
        }
        Err(errno) => Err(failed("locking", name, errno)),
    }
}

/// Whether anybody else holds the lock of `half`. Only asks.
fn is_locked(file: &File, half: Half) -> bool {
    let mut lock = lock_of(half);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock));
    // It cannot fail for a lock like ours; if it did, nobody would be declared dead.
    asked.is_err() || i32::from(lock.l_type) != libc::F_UNLCK
}

fn in_use(name: &str, evidence: &str) -> Error {
    Error::new(ErrorKind::AddressInUse, format!("{name} is in use ({evidence}); choose another name"))
}

fn unready(name: &str, why: &str) -> Error {
    let message = format!("the ring {name} cannot be opened: {why}; try again once it has been created");
    Error::new(ErrorKind::ConnectionRefused, message)
}

fn failed(doing: &str, name: &str, errno: Errno) -> Error {
    Error::system(format!("{doing} {name}"), errno)
}

fn refused(doing: &str, name: &str, error: NamedError) -> Error {
    let kind = match error {
        NamedError::System { call, source } => {
            return Error::system(format!("{doing} {name}: {call}"), source);
        }
        NamedError::Version { .. } => ErrorKind::VersionMismatch,
        _ => ErrorKind::Handshake,
    };
    Error::with_source(kind, format!("{doing} {name}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_slash_and_something_without_one() {
        let longest = format!("/{}", "x".repeat(254));
        for name in ["/a", "/a b.c-d", "/...", "/\u{e9}", &longest] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let too_long = format!("/{}", "x".repeat(255));
        for (name, what) in [
            ("", "does not begin with a slash"),
            ("a", "does not begin with a slash"),
            ("a/b", "does not begin with a slash"),
            ("/", "no name behind"),
            ("/.", "no name behind"),
            ("/..", "no name behind"),
            ("//a", "a second slash"),
            ("/a/", "a second slash"),
            ("/../etc/passwd", "a second slash"),
            ("/a\0b", "a NUL"),
            (&too_long, "has 256 bytes, at most 255"),
        ] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn a_lock_is_seen_by_others_and_ends_with_its_descriptor() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(path.path()).unwrap();
        let (one, two) = (open(), open());
        lock_half(&one, "/x", Half::Writing).unwrap();
        assert!(is_locked(&two, Half::Writing) && !is_locked(&two, Half::Reading));
        assert!(!is_locked(&one, Half::Writing), "one's own lock is no answer");
        assert_eq!(lock_half(&two, "/x", Half::Writing).unwrap_err().kind(), ErrorKind::AddressInUse);
        lock_half(&two, "/x", Half::Reading).unwrap();
        let copy = one.try_clone().unwrap();
        drop(one);
        assert!(is_locked(&two, Half::Writing), "a copy keeps it");
        drop(copy);
        assert!(!is_locked(&two, Half::Writing));
    }
    #[test]
    fn the_lock_of_what_no_longer_has_the_name_takes_nothing() {
        let name = format!("/ringwire-test-{}-late", std::process::id());
        let old = NamedObject::create(&name, Half::Writing, 4096).unwrap();
        let late = open_object(&name).unwrap();
        drop(old);
        let new = NamedObject::create(&name, Half::Writing, 4096).unwrap();
        assert!(take(late, &name).unwrap().is_none());
        assert!(is_at(&new.held.file, &name).unwrap(), "the new one keeps its name");
    }

    #[test]
    fn an_owner_whose_name_has_been_given_away_leaves_it_alone() {
        let name = format!("/ringwire-test-{}-given", std::process::id());
        let first = NamedObject::create(&name, Half::Writing, 4096).unwrap();
        shm_unlink(name.as_str()).unwrap();
        let second = NamedObject::create(&name, Half::Writing, 4096).unwrap();
        drop(first);
        assert!(is_at(&second.held.file, &name).unwrap());
        drop(second);
        assert_eq!(open_object(&name).unwrap_err(), Errno::ENOENT);
    }
}
