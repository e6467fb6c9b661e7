//! Client and server in different pid, ipc, mount and user namespaces, like those of containers: what they share is the
//! directory of the socket, and each has it at another path.
//!
//! As root with and without user namespaces, as anybody else with. Where the machine does not allow that, a test says so
//! on standard error, and looks at what it can without namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod credentials;
#[cfg(feature = "cli")]
mod demo;
mod traffic;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::namespaces::{Plan, are_forbidden, born_by};
use common::scene::event;
use common::{Second, comes_true, say, second, second_command};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

#[test]
fn child_entry() {
    common::child_entry(&[
        ("client", traffic::client),
        ("server", traffic::server),
        ("patient client", traffic::patient_client),
        ("patient server", traffic::patient_server),
        ("victim", traffic::victim),
        ("picky server", credentials::picky_server),
        ("picky client", credentials::picky_client),
    ]);
}

const KINDS: [&str; 4] = ["pid", "ipc", "mnt", "user"];

/// What a container's processes see beside their own: a directory in a directory with something secret.
struct Host {
    base: TempDir,
}

impl Host {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("shared")).unwrap();
        fs::write(base.path().join("secret"), b"").unwrap();
        // For other users too, where there are some.
        for path in [base.path().to_owned(), base.path().join("shared")] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        Self { base }
    }

    fn shared(&self) -> PathBuf {
        self.base.path().join("shared")
    }

    fn socket(&self) -> PathBuf {
        self.shared().join("s.sock")
    }

    /// Namespaces of all kinds but the user's, with nothing of this host in sight but the directory; and where that is.
    fn container(&self) -> (Plan, PathBuf) {
        let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS;
        let plan = Plan::new(flags).with_tmpfs("/dev/shm", "size=64k");
        plan.with_only(self.base.path(), &self.shared())
    }

    /// The Unix socket that the demo compares with: std's, which leaves it behind.
    #[cfg(feature = "cli")]
    fn remove_plain_socket(&self) {
        fs::remove_file(self.shared().join("unix.sock")).unwrap();
    }

    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.shared()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The containers that this user can have: their names, and whether they have a user namespace.
fn kinds_of_containers() -> Vec<(&'static str, bool)> {
    if geteuid().is_root() {
        vec![("without a user namespace", false), ("with a user namespace", true)]
    } else {
        vec![("with a user namespace", true)]
    }
}

/// Role `role`, as the first process of a container, or, where the machine allows none, outside of any.
fn contained(host: &Host, role: &str, in_user_namespace: bool) -> (Second, Pid) {
    let (mut plan, inside) = host.container();
    if in_user_namespace {
        plan = plan.in_user_namespace(Some(0));
    }
    if let Some(mut second) = start_inside(host, plan, role, &inside) {
        let pid = whereabouts(&mut second, in_user_namespace);
        return (second, pid);
    }
    let second = outside(host, role);
    let pid = i32::try_from(second.id()).unwrap();
    (second, Pid::from_raw(pid))
}

/// Role `role` in no container.
fn outside(host: &Host, role: &str) -> Second {
    second(role, &[("SOCKET", host.socket().to_str().unwrap())])
}

/// Role `role` under `plan`, if the machine allows that.
fn start_inside(host: &Host, plan: Plan, role: &str, inside: &Path) -> Option<Second> {
    let (socket, secret) = (inside.join("s.sock"), host.base.path().join("secret"));
    let settings = [("SOCKET", socket.to_str().unwrap()), (SECRET, secret.to_str().unwrap())];
    let mut command = second_command(role, &settings);
    plan.apply(&mut command);
    match Second::start(&mut command) {
        Ok(second) => Some(second),
        Err(error) if are_forbidden(&error) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What cannot be seen in a container. Set only there.
const SECRET: &str = "SECRET";

fn is_inside() -> bool {
    env::var_os(SECRET).is_some()
}

/// In the process inside: says where it is, for `whereabouts`.
fn arrive() {
    if is_inside() {
        assert_eq!(std::process::id(), 1, "the first of its pid namespace");
        let links = KINDS.map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
        say(&links.map(|link| link.display().to_string()).join(" "));
    }
}

/// Hears where the process inside is; checks that it is elsewhere, and says which one it is.
fn whereabouts(second: &mut Second, in_user_namespace: bool) -> Pid {
    for (kind, theirs) in KINDS.iter().zip(second.hear().split(' ')) {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let differs = *kind != "user" || in_user_namespace;
        assert_eq!(ours.to_str().unwrap() != theirs, differs, "{kind} namespace: {theirs}");
    }
    born_by(second.id())
}

/// SIGKILL to the process inside, and waits until it is gone.
fn kill_inside(second: Second, pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
    let gone = || !Path::new(&format!("/proc/{pid}/fd/0")).exists();
    assert!(comes_true(Duration::from_secs(30), gone));
    drop(second);
}
