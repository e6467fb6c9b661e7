//! Second processes in namespaces of their own, like those of a container.

use std::ffi::{CStr, CString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, fork, getegid, geteuid, mkdir, setgroups, setresgid, setresuid, write,
};

/// What a process does with itself between fork and exec.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Becomes this user first; only root can.
    user: Option<u32>,
    flags: CloneFlags,
    /// The user id that it has in its user namespace, if it makes one; without, it has none there.
    inner_uid: Option<u32>,
    mounts: Vec<Mounted>,
}

#[derive(Clone, Debug)]
enum Mounted {
    Tmpfs {
        at: CString,
        options: CString,
    },
    /// A tmpfs over `over`, with nothing in it but the directory `shared`, at `at`.
    Only {
        shared: CString,
        over: CString,
        at: CString,
    },
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

impl Plan {
    /// Namespaces of these kinds. For anybody but root a user namespace comes along, in which it is root: nothing else
    /// would be allowed.
    pub(crate) fn new(flags: CloneFlags) -> Self {
        let user = if geteuid().is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
        Self { user: None, flags: flags | user, inner_uid: Some(0), mounts: Vec::new() }
    }

    /// As user `uid`, which root alone can become.
    pub(crate) fn with_user(self, uid: u32) -> Self {
        Self { user: Some(uid), flags: self.flags | CloneFlags::CLONE_NEWUSER, ..self }
    }

    /// In a user namespace where its one user is `inner_uid`, or has no id at all.
    pub(crate) fn in_user_namespace(self, inner_uid: Option<u32>) -> Self {
        Self { inner_uid, flags: self.flags | CloneFlags::CLONE_NEWUSER, ..self }
    }

    pub(crate) fn with_tmpfs(mut self, at: &str, options: &str) -> Self {
        let (at, options) = (CString::new(at).unwrap(), CString::new(options).unwrap());
        self.mounts.push(Mounted::Tmpfs { at, options });
        self
    }

    /// Sees of `over` nothing but its directory `shared`, and that by another path, which this returns.
    pub(crate) fn with_only(mut self, over: &Path, shared: &Path) -> (Self, PathBuf) {
        let inside = over.join("inside");
        let [shared, over, at] = [shared, over, &inside].map(c_string);
        self.mounts.push(Mounted::Only { shared, over, at });
        (self, inside)
    }

    /// Lets `command` go there before it runs its program.
    pub(crate) fn apply(self, command: &mut Command) {
        let outer = self.user.map_or((geteuid().as_raw(), getegid().as_raw()), |uid| (uid, uid));
        // Made before the fork: the child allocates nothing.
        let maps = self.inner_uid.map(|inner| {
            [
                (c"/proc/self/setgroups", "deny".to_owned()),
                (c"/proc/self/uid_map", format!("{inner} {} 1", outer.0)),
                (c"/proc/self/gid_map", format!("{inner} {} 1", outer.1)),
            ]
        });
        let enter = move || self.enter(maps.as_ref()).map_err(io::Error::from);
        // SAFETY: between fork and exec it makes system calls alone, with what was made before.
        unsafe { command.pre_exec(enter) };
    }

    fn enter(&self, maps: Option<&[(&CStr, String); 3]>) -> nix::Result<()> {
        if let Some(uid) = self.user {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            // Its own maps would be root's otherwise.
            set_dumpable(true)?;
        }
        unshare(self.flags)?;
        if self.flags.contains(CloneFlags::CLONE_NEWUSER) {
            for (path, text) in maps.into_iter().flatten() {
                let file = open(*path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                write(&file, text.as_bytes())?;
            }
        }
        let none = None::<&CStr>;
        if !self.mounts.is_empty() {
            mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        }
        self.mounts.iter().try_for_each(Mounted::mount)?;
        // After the change of user, which would undo it.
        set_pdeathsig(Signal::SIGKILL)?;
        if self.flags.contains(CloneFlags::CLONE_NEWPID) { be_born_inside() } else { Ok(()) }
    }
}

impl Mounted {
    fn mount(&self) -> nix::Result<()> {
        let none = None::<&CStr>;
        let tmpfs = Some(c"tmpfs");
        match self {
            Self::Tmpfs { at, options } => {
                mount(tmpfs, at.as_c_str(), tmpfs, MsFlags::empty(), Some(options.as_c_str()))
            }
            Self::Only { shared, over, at } => {
                // The working directory stays what it is when the tmpfs hides it.
                chdir(shared.as_c_str())?;
                mount(tmpfs, over.as_c_str(), tmpfs, MsFlags::empty(), Some(c"mode=0755"))?;
                mkdir(at.as_c_str(), Mode::S_IRWXU)?;
                mount(Some(c"."), at.as_c_str(), none, MsFlags::MS_BIND, none)?;
                chdir(c"/")
            }
        }
    }
}

/// A pid namespace is entered by being born in it. So this process stays outside, waits for one that goes on inside, and
/// ends as that one ends.
fn be_born_inside() -> nix::Result<()> {
    // SAFETY: this process has one thread, being itself between fork and exec.
    let ForkResult::Parent { child } = (unsafe { fork() })? else {
        // Ends with the one outside, as that one with its parent.
        return set_pdeathsig(Signal::SIGKILL);
    };
    // Among them the pipe by which the parent waits for exec.
    // SAFETY: nothing here uses a descriptor any more.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let code = loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, code)) => break code,
            _ => break 1,
        }
    };
    // SAFETY: ends the process without a look at what it has copied from its parent.
    unsafe { libc::_exit(code) }
}

/// The process born inside by the one with id `outside`.
pub(crate) fn born_by(outside: u32) -> Pid {
    let children = fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap())
}

/// Whether the machine, and not the test, is why namespaces could not be made; says so.
pub(crate) fn are_forbidden(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    // ENOSPC: as many as allowed, or none at all.
    let forbidden = matches!(
        errno,
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS | Errno::EINVAL | Errno::ENOSYS
    );
    if forbidden {
        eprintln!("this machine allows no such namespaces ({error}): not tested in full");
    }
    forbidden
}
