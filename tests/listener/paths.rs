//! The socket's file, and the lock beside it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use ringwire::{ErrorKind, Listener, Stream};
use std::os::fd::AsRawFd;

use super::common::{Watchdog, say, second, setting, told};
use super::{directory, works};

fn lock_of(path: &Path) -> std::path::PathBuf {
    path.with_extension("sock.lock")
}

#[test]
fn a_path_that_is_too_long_is_refused_with_the_limit() {
    let directory = tempfile::Builder::new().prefix("r").tempdir().unwrap();
    let length = |total: usize| {
        let name = "x".repeat(total - directory.path().as_os_str().len() - 1);
        directory.path().join(name)
    };
    drop(Listener::bind(length(107)).unwrap());
    for total in [108, 109, 150] {
        for error in [Listener::bind(length(total)).unwrap_err(), Stream::connect(length(total)).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::PathTooLong);
            assert!(
                error.to_string().starts_with(&format!("path of {total} bytes, a Unix socket takes 107")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_path_that_is_none_is_refused() {
    for path in ["", "\0abstract", "nul\0inside"] {
        for error in [Listener::bind(path).unwrap_err(), Stream::connect(path).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
        }
    }
}

#[test]
fn a_missing_directory_is_not_found() {
    let (_directory, path) = directory();
    let error = Listener::bind(path.join("missing.sock")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("missing.sock"), "{error}");
}

#[test]
fn a_living_server_s_path_is_in_use() {
    let (_directory, path) = directory();
    let mut first = Listener::bind(&path).unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.to_string().contains("a living server has"), "{error}");
    // And the first is unharmed.
    let client = std::thread::spawn(move || Stream::connect(path).unwrap());
    let mut stream = first.accept().unwrap();
    works(&mut stream, &mut client.join().unwrap());
}

#[test]
fn a_living_server_in_another_process_is_in_use_and_a_killed_one_is_replaced() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut child = second("server", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "bound");
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), ErrorKind::AddressInUse);
    child.kill();
    assert!(path.exists() && lock_of(&path).exists(), "a killed server leaves its files");
    let mut listener = Listener::bind(&path).unwrap();
    let client = std::thread::spawn(move || Stream::connect(path).unwrap());
    works(&mut listener.accept().unwrap(), &mut client.join().unwrap());
}

#[test]
fn what_is_not_a_socket_is_refused_and_stays_and_nothing_is_left_beside_it() {
    let (directory, path) = directory();
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    let make: [fn(&Path, &Path); 4] = [
        |path, _| fs::write(path, "precious").unwrap(),
        |path, _| fs::create_dir(path).unwrap(),
        |path, target| symlink(target, path).unwrap(),
        |path, _| symlink("nowhere", path).unwrap(),
    ];
    for make in make {
        make(&path, &target);
        let before = fs::symlink_metadata(&path).unwrap().file_type();
        let error = Listener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotASocket);
        assert!(error.to_string().contains("is not a socket; move it away"), "{error}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before);
        assert!(!lock_of(&path).exists(), "a lock without a server");
        if before.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}

#[test]
fn the_socket_is_private_unless_asked_otherwise() {
    let (directory, path) = directory();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let listener = Listener::bind(&path).unwrap();
    assert_eq!((mode(&path), mode(&lock_of(&path))), (0o600, 0o600));
    drop(listener);
    let _listener = Listener::builder(&path).mode(0o660).bind().unwrap();
    assert_eq!((mode(&path), mode(&lock_of(&path))), (0o660, 0o600));
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let other = directory.path().join("t.sock");
    let _other = Listener::builder(&other).mode(0o777).bind().unwrap();
    assert_eq!(mode(&other), 0o777);
}

#[test]
fn a_dropped_listener_leaves_no_file_and_its_streams_live_on() {
    let (directory, path) = directory();
    let mut listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    let client = std::thread::spawn({
        let path = path.clone();
        move || Stream::connect(path).unwrap()
    });
    let mut stream = listener.accept().unwrap();
    let mut client = client.join().unwrap();
    drop(listener);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    works(&mut stream, &mut client);
    drop(Listener::bind(&path).unwrap());
}

#[test]
fn a_socket_that_somebody_else_put_there_is_not_removed() {
    let (_directory, path) = directory();
    let listener = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[test]
fn a_lock_removed_underneath_does_not_let_a_second_server_in() {
    let (_directory, path) = directory();
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(lock_of(&path)).unwrap();
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), ErrorKind::AddressInUse);
    assert!(!lock_of(&path).exists(), "the one that was refused leaves nothing");
    drop(first);
    assert!(!path.exists());
    drop(Listener::bind(&path).unwrap());
}

#[test]
fn a_lock_that_was_replaced_is_not_removed() {
    let (_directory, path) = directory();
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(lock_of(&path)).unwrap();
    fs::write(lock_of(&path), "").unwrap();
    drop(first);
    assert!(lock_of(&path).exists());
    drop(Listener::bind(&path).unwrap());
}

#[test]
fn another_program_that_listens_there_is_a_living_server_also_when_its_backlog_is_full() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let make = || {
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
            .unwrap()
    };
    let address = UnixAddr::new(&path).unwrap();
    let other = make();
    bind(other.as_raw_fd(), &address).unwrap();
    listen(&other, Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = make();
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(errno) => break assert_eq!(errno, nix::errno::Errno::EAGAIN),
        }
    }
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), ErrorKind::AddressInUse);
    let error = Stream::builder(&path).timeout(Duration::from_millis(100)).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("has no place in its backlog within 100ms"), "{error}");
    assert!(path.exists());
}

/// The second process: forks without exec, and the child lets go of its copy of the listener.
pub(crate) fn fork_and_leave() {
    let listener = Listener::bind(setting("SOCKET")).unwrap();
    // SAFETY: the child only drops a value and leaves; nothing in that needs another thread.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(listener);
            // SAFETY: ends the child without the rest of the test harness.
            unsafe { nix::libc::_exit(0) };
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
            say("forked");
            told();
            drop(listener);
        }
    }
}

#[test]
fn a_forked_child_that_drops_its_copy_leaves_the_server_its_path_and_its_lock() {
    let _watchdog = Watchdog::start();
    let (directory, path) = directory();
    let mut child = second("fork", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "forked");
    assert!(path.exists() && lock_of(&path).exists());
    let error = Listener::bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.to_string().contains("its lock is held"), "{error}");
    child.tell("end");
    child.join();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
