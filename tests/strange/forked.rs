//! A child forked without exec: it has the values, but not the rings.

use std::time::Duration;
use std::{process, ptr, thread};

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use ringwire::{ErrorKind, Listener, Stream};

use super::common::{Second, Watchdog, bytes, comes_true, say, second, segments, setting, told};
use super::{
    STRATEGIES, accept_from, connect, event, is_a, listen, pause_ms, place, receives, round_trip, socket,
    state,
};

/// Runs `child` in a forked child, which then ends without the rest of the test harness.
fn in_a_fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the child runs what is given, which takes no lock that another thread may have had, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
    }
}

fn ends_well(child: Pid) {
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}

/// Where the segment lies in this process.
fn segment_range() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/memfd:ringwire")).unwrap();
    let (from, behind) = line.split_once('-').unwrap();
    let (to, _) = behind.split_once(' ').unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    (number(from), number(to))
}

/// Takes the place that the rings had, as any later mapping of the child may, and fills it.
fn occupy((from, to): (usize, usize)) -> &'static [u8] {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let at = ptr::without_provenance_mut::<libc::c_void>(from);
    // SAFETY: a fixed mapping that replaces nothing.
    let found = unsafe { libc::mmap(at, to - from, protection, flags | libc::MAP_FIXED_NOREPLACE, -1, 0) };
    assert_eq!(found.addr(), from, "{}", std::io::Error::last_os_error());
    // SAFETY: just mapped, and this process's own.
    unsafe { ptr::write_bytes(found.cast::<u8>(), 0xa5, to - from) };
    // SAFETY: as above; nothing unmaps it or writes to it, which is what the test is about.
    unsafe { std::slice::from_raw_parts(found.cast::<u8>(), to - from) }
}

/// The second process: forks while it is connected. What the child does, the parent's environment says.
pub(crate) fn forking() {
    // A core dump would be a file left behind.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    let mut stream = connect();
    round_trip(&mut stream, 0);
    // Something under way in both directions.
    stream.send(event(1), &bytes(1, 100)).unwrap();
    let range = segment_range();
    let mut staying = None;
    match setting("CHILD").as_str() {
        "drops" => ends_well(in_a_fork(|| drop(unsafe_copy(&stream)))),
        "drops halves" => ends_well(in_a_fork(|| {
            let (sender, receiver) = unsafe_copy(&stream).split();
            receiver.close();
            sender.close();
        })),
        "drops, with other memory in the rings' place" => ends_well(in_a_fork(|| {
            assert_eq!(segments(process::id()), 0, "the rings are not inherited");
            let memory = occupy(range);
            drop(unsafe_copy(&stream));
            assert!(memory.iter().all(|byte| *byte == 0xa5), "something was stored");
        })),
        "receives" => ends_by_fault(in_a_fork(|| _ = unsafe_copy(&stream).try_receive())),
        "sends" => ends_by_fault(in_a_fork(|| _ = unsafe_copy(&stream).send(event(9), b"from a child"))),
        "connects anew" => ends_well(in_a_fork(|| {
            // A connection of its own, over rings that it has made itself.
            let (mut one, mut two) = Stream::pair().unwrap();
            one.send(event(3), b"mine").unwrap();
            assert_eq!(two.receive().unwrap().payload().to_vec(), b"mine");
            drop((one, two, unsafe_copy(&stream)));
        })),
        "stays" => {
            let child = in_a_fork(|| pause_ms(60_000));
            say(&child.to_string());
            told();
            staying = Some(child);
        }
        other => panic!("{other}"),
    }
    receives(&mut stream, 1);
    for number in 2..50 {
        round_trip(&mut stream, number);
        pause_ms(number % 15);
    }
    drop(stream);
    say("went on, and closed");
    told();
    if let Some(child) = staying {
        kill(child, Signal::SIGKILL).unwrap();
        waitpid(child, None).unwrap();
    }
}

/// The value that a forked child inherits: a copy of the bytes, as fork itself makes it.
fn unsafe_copy(stream: &Stream) -> Stream {
    // SAFETY: in a forked child, where the original is never used or dropped: the child ends by `_exit`.
    unsafe { ptr::read(stream) }
}

/// Not silently: the kernel ends a process that uses rings which it does not have.
fn ends_by_fault(child: Pid) {
    match waitpid(child, None).unwrap() {
        WaitStatus::Signaled(found, Signal::SIGSEGV, _) => assert_eq!(found, child),
        other => panic!("{other:?}"),
    }
}

/// A client that forks, and a thread that sends back what it says.
fn with_forking_client(name: &str, child: &str, then: impl FnOnce(&mut Second, Stream)) {
    let (_directory, mut listener) = listen();
    let (mut stream, mut second) = accept_from(&mut listener, "fork", name, &[("CHILD", child)]);
    let mut buffer = Vec::new();
    for _ in 0..2 {
        let header = stream.receive_into(&mut buffer).unwrap();
        stream.send(header, &buffer).unwrap();
    }
    then(&mut second, stream);
}

fn echo_until(mut stream: Stream, end: ErrorKind) {
    let mut buffer = Vec::new();
    loop {
        match stream.receive_into(&mut buffer) {
            Ok(header) => stream.send(header, &buffer).unwrap(),
            Err(error) => return assert_eq!(error.kind(), end, "{error}"),
        }
    }
}

#[test]
fn what_a_forked_child_does_with_its_copy_leaves_the_parent_s_connection_alone() {
    let _watchdog = Watchdog::start();
    let children = [
        "drops",
        "drops halves",
        "drops, with other memory in the rings' place",
        "receives",
        "sends",
        "connects anew",
    ];
    thread::scope(|scope| {
        for (index, child) in children.into_iter().enumerate() {
            scope.spawn(move || {
                with_forking_client(STRATEGIES[index % 2].0, child, |second, stream| {
                    thread::scope(|scope| {
                        scope.spawn(|| echo_until(stream, ErrorKind::PeerClosed));
                        assert_eq!(second.hear(), "went on, and closed", "{child}");
                        second.tell("end");
                    });
                });
            });
        }
    });
}

#[test]
fn a_child_that_stays_keeps_its_parent_s_death_from_being_seen_until_it_ends() {
    let _watchdog = Watchdog::start();
    with_forking_client("park", "stays", |second, mut stream| {
        let child = Pid::from_raw(second.hear().parse().unwrap());
        second.kill();
        stream.set_receive_timeout(Some(Duration::from_millis(100)));
        is_a(ErrorKind::TimedOut, stream.receive());
        kill(child, Signal::SIGKILL).unwrap();
        stream.set_receive_timeout(Some(Duration::from_secs(10)));
        is_a(ErrorKind::PeerDied, stream.receive());
    });
}

#[test]
fn a_parent_that_closes_is_seen_though_a_child_stays() {
    let _watchdog = Watchdog::start();
    with_forking_client("park", "stays", |second, stream| {
        let child = second.hear();
        second.tell("go on");
        echo_until(stream, ErrorKind::PeerClosed);
        assert_eq!(second.hear(), "went on, and closed");
        assert!(matches!(state(child.parse().unwrap()), 'S' | 'R'), "it is still there");
        second.tell("end it");
    });
}

/// The second process: a server whose child stays, with a copy of the listener.
pub(crate) fn forking_server() {
    let listener = Listener::bind(socket()).unwrap();
    let child = in_a_fork(|| pause_ms(60_000));
    say(&child.to_string());
    told();
    drop(listener);
    drop(Listener::bind(socket()).unwrap());
    say("bound again");
    told();
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
}

#[test]
fn a_listener_dropped_while_a_forked_child_has_a_copy_gives_its_path_up() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    let mut child = second("forking server", &[("SOCKET", path.to_str().unwrap())]);
    child.hear();
    child.tell("let go");
    assert_eq!(child.hear(), "bound again");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    drop(Listener::bind(&path).unwrap());
    child.tell("end");
    child.join();
}

#[test]
fn a_child_that_stays_keeps_its_dead_parent_s_path_in_use_until_it_ends() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut server = second("forking server", &[("SOCKET", path.to_str().unwrap())]);
    let child = Pid::from_raw(server.hear().parse().unwrap());
    server.kill();
    assert!(is_a(ErrorKind::AddressInUse, Listener::bind(&path)).contains("its lock is held"));
    kill(child, Signal::SIGKILL).unwrap();
    assert!(comes_true(Duration::from_secs(10), || Listener::bind(&path).is_ok()));
}
