//! [`PrivateDirectory`]: a place for sockets that is gone afterwards, however the program ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::{geteuid, mkdtemp};

/// What their names begin with.
const PREFIX: &str = "ringwire.";
/// The file in it that is locked for as long as its process lives.
const LOCK: &str = "lock";
/// Only what is older can have been abandoned: a new one is not locked at once.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// A private directory for sockets, removed when this is dropped.
///
/// Who makes the next one removes those of programs that were killed.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// Makes one in the system's directory for temporary files.
    pub fn create() -> io::Result<Self> {
        Self::create_in(&std::env::temp_dir())
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let template = parent.join(format!("{PREFIX}XXXXXX"));
        let path = mkdtemp(&template).map_err(|errno| {
            io::Error::other(format!("making a directory like {}: {errno}", template.display()))
        })?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// An economy of space: what cannot be removed stays.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            let _ = remove_if_abandoned(&entry.path());
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    // What another user made stays closed: it may hold anything, a pipe that nobody writes for instance.
    let ours = found.is_dir() && found.uid() == geteuid().as_raw();
    let age = SystemTime::now().duration_since(found.modified()?);
    if ours && age.is_ok_and(|age| age >= ABANDONED_AFTER) {
        match File::open(path.join(LOCK)) {
            Ok(lock) => {
                lock.try_lock()?;
                fs::remove_dir_all(path)?;
            }
            // Killed before it had one, or something else: then it is not empty, and stays.
            Err(_) => fs::remove_dir(path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grow_old(path: &Path) {
        let changed = SystemTime::now() - 2 * ABANDONED_AFTER;
        File::open(path).unwrap().set_modified(changed).unwrap();
    }

    #[test]
    fn what_a_killed_program_left_goes_and_what_another_uses_stays() {
        let parent = PrivateDirectory::create().unwrap();
        let used = PrivateDirectory::create_in(parent.path()).unwrap();
        let make = |name: &str, file: Option<&str>| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(file) = file {
                fs::write(path.join(file), "").unwrap();
            }
            path
        };
        let gone = [make("ringwire.killed", Some(LOCK)), make("ringwire.early", None)];
        let left = [make("ringwire.other", Some("file")), make("other", Some(LOCK))];
        for path in gone.iter().chain(&left).map(PathBuf::as_path).chain([used.path()]) {
            grow_old(path);
        }
        let new = make("ringwire.new", Some(LOCK));
        let next = PrivateDirectory::create_in(parent.path()).unwrap();
        assert!(gone.iter().all(|path| !path.exists()));
        assert!(left.iter().chain([&new]).all(|path| path.exists()));
        assert!(used.path().exists() && next.path().exists());
    }
}
