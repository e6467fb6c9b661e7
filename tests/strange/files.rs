//! Directories that cannot be written to, and files that somebody removes under a serving listener.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{io, ptr, thread};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use ringwire::{Error, ErrorKind, Listener, Stream};

use super::common::{Watchdog, say, second, setting};
use super::limits::become_another_user;
use super::{is_a, place, round_trip, send_back, socket};

/// Mounts `directory` over itself, read-only, for this process alone.
fn make_read_only(directory: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let place = CString::new(directory.as_os_str().as_bytes())?;
    let mount = |source: &CString, target: &CString, flags| {
        // SAFETY: the kernel reads two strings, which outlive the call.
        let result =
            unsafe { libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), flags, ptr::null()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // Nothing of this goes back to where the mounts came from.
    mount(&c"none".to_owned(), &c"/".to_owned(), libc::MS_REC | libc::MS_PRIVATE)?;
    mount(&place, &place, libc::MS_BIND)?;
    mount(&place, &place, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY)
}

/// The second process: sees its parent's directory through a read-only mount.
pub(crate) fn read_only() {
    let (path, fresh) = (socket(), PathBuf::from(setting("FRESH")));
    if let Err(error) = make_read_only(path.parent().unwrap()) {
        return say(&format!("left out: no private mount here: {error}"));
    }
    for path in [&path, &fresh] {
        let error = Listener::bind(path).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    // A socket is no file that is written to.
    round_trip(&mut Stream::connect(&path).unwrap(), 1);
    say("refused, and connected");
}

#[test]
fn a_read_only_file_system_is_named_by_bind_and_no_obstacle_to_connect() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut listener = Listener::bind(&path).unwrap();
    let fresh = path.with_extension("fresh");
    let settings = [("SOCKET", path.to_str().unwrap()), ("FRESH", fresh.to_str().unwrap())];
    let mut child = second("read-only", &settings);
    let server = thread::spawn(move || {
        if let Ok(stream) = listener.accept_timeout(std::time::Duration::from_secs(5)) {
            send_back(stream);
        }
    });
    let said = child.hear();
    if said != "refused, and connected" {
        eprintln!("{said}");
    }
    child.join();
    server.join().unwrap();
}

/// The second process: a user who may not write in the directory, or not even look into it.
pub(crate) fn unprivileged() {
    become_another_user();
    let path = socket();
    let said = is_a(ErrorKind::PermissionDenied, Listener::bind(&path));
    assert!(said.contains(path.to_str().unwrap()) && said.contains("Permission denied"), "{said}");
    let said = is_a(ErrorKind::PermissionDenied, Stream::connect(setting("SERVED")));
    assert!(said.contains(&setting("SERVED")) && said.contains("Permission denied"), "{said}");
    say("refused");
}

#[test]
fn a_directory_without_permission_is_named() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    let served = path.with_extension("served");
    // Without a single permission, its own user does not get in either.
    let _listener = Listener::builder(&served).mode(0).bind().unwrap();
    for mode in [0o555, 0o000] {
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let settings = [("SOCKET", path.to_str().unwrap()), ("SERVED", served.to_str().unwrap())];
        let mut child = second("unprivileged", &settings);
        assert_eq!(child.hear(), "refused");
        child.join();
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the served one's alone");
}

fn lock_of(path: &Path) -> PathBuf {
    path.with_extension("sock.lock")
}

/// Serves `count` clients of `listener`, and then gives it back.
fn serve(mut listener: Listener, count: usize) -> thread::JoinHandle<Listener> {
    thread::spawn(move || {
        let echoing: Vec<_> =
            (0..count).map(|_| listener.accept().unwrap()).map(|s| thread::spawn(|| send_back(s))).collect();
        echoing.into_iter().for_each(|thread| thread.join().unwrap());
        listener
    })
}

fn connect_to(path: &Path) -> Result<Stream, Error> {
    Stream::connect(path)
}

#[test]
fn a_socket_deleted_under_its_server_takes_no_client_away_and_lets_none_in() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    let first = serve(Listener::bind(&path).unwrap(), 1);
    let mut client = connect_to(&path).unwrap();
    fs::remove_file(&path).unwrap();
    round_trip(&mut client, 1);
    let said = is_a(ErrorKind::NotFound, connect_to(&path));
    assert!(said.contains("is the server running?"), "{said}");
    // It lives, and has the lock.
    let said = is_a(ErrorKind::AddressInUse, Listener::bind(&path));
    assert!(said.contains("its lock is held"), "{said}");
    drop(client);
    drop(first.join().unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    drop(Listener::bind(&path).unwrap());
}

#[test]
fn both_files_deleted_let_a_second_server_in_and_each_keeps_its_own_clients() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    let first = serve(Listener::bind(&path).unwrap(), 1);
    let mut of_first = connect_to(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(lock_of(&path)).unwrap();
    let second = serve(Listener::bind(&path).unwrap(), 2);
    let mut of_second = connect_to(&path).unwrap();
    round_trip(&mut of_first, 1);
    round_trip(&mut of_second, 2);
    drop(of_first);
    drop(first.join().unwrap());
    assert!(path.exists() && lock_of(&path).exists(), "the second one's are not the first one's to remove");
    round_trip(&mut connect_to(&path).unwrap(), 3);
    round_trip(&mut of_second, 4);
    is_a(ErrorKind::AddressInUse, Listener::bind(&path));
    drop(of_second);
    drop(second.join().unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
