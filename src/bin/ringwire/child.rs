//! The second process.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::{prctl, signal::Signal};
use nix::unistd::mkdtemp;

/// A process of our own, ended and waited for when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
}

/// Starts this same program with `arguments`, to call [`die_with_parent`].
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

/// In the second process: ends with the first, however that ends.
pub fn die_with_parent() -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// A private directory for sockets, removed when this is dropped.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Makes one in the system's directory for temporary files.
    pub fn create() -> io::Result<Self> {
        let template = std::env::temp_dir().join("ringwire-XXXXXX");
        let path = mkdtemp(&template).map_err(|errno| {
            io::Error::other(format!("making a directory like {}: {errno}", template.display()))
        })?;
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
