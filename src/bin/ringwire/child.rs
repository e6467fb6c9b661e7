//! The second process.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::{prctl, signal::Signal};

/// A process of our own, ended and waited for when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// What it says, if that goes to this process.
    said: Option<BufReader<ChildStdout>>,
}

/// Starts this same program with `arguments`, to call [`die_with_parent`].
pub fn spawn<I, S>(arguments: I) -> io::Result<Peer>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    start(arguments, Stdio::inherit())
}

/// As [`spawn`]; what it [`say`]s is for [`Peer::hear`].
pub fn spawn_heard<I, S>(arguments: I) -> io::Result<Peer>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    start(arguments, Stdio::piped())
}

fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, stdout: Stdio) -> io::Result<Peer> {
    let program = std::env::current_exe()?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(stdout).spawn()?;
    let said = child.stdout.take().map(BufReader::new);
    Ok(Peer { child, said })
}

/// In the second process: a line for the first.
pub fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

impl Peer {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it lives.
    pub fn is_alive(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The next line that it says.
    pub fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if let Some(said) = &mut self.said {
            said.read_line(&mut line)?;
        }
        // Why, it has written to the terminal itself.
        if line.is_empty() {
            Err(io::Error::other("the second process ended without a word"))
        } else {
            Ok(line)
        }
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
