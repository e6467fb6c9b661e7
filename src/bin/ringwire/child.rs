//! The second process.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process of our own, ended and waited for when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
}

/// Starts this same program with `arguments`; it dies with this process.
pub fn spawn<I, S>(arguments: I) -> io::Result<Peer>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let child = Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::null()).spawn()?;
    Ok(Peer { child })
}

impl Peer {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself; an exit code other than 0 is an error.
    pub fn join(mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the second process ended with {status}")))
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // After join() both find nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private directory for sockets, removed when this is dropped.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Makes one in the system's directory for temporary files.
    pub fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringwire-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
