//! Out of descriptors, of threads, of memory: an error that says so, and afterwards everything as before.

use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;
use std::{fs, process};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use ringwire::{Error, ErrorKind, Listener, PeerPolicy, Stream, WaitStrategy};

use super::common::{Watchdog, descriptors, say, second, segments, told};
use super::{event, is_a, place, receives, round_trip, send_back, socket};

fn set_soft(resource: Resource, soft: u64) {
    let hard = getrlimit(resource).unwrap().1;
    setrlimit(resource, soft, hard).unwrap();
}

/// Tries with ever more descriptors to spare; says how many it took.
fn with_ever_more_descriptors<T>(
    mut attempt: impl FnMut() -> Result<T, Error>,
    nothing_is_left: impl Fn() -> bool,
) -> (u64, T) {
    let full = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0;
    let lowest_free = fs::File::open("/dev/null").unwrap().as_raw_fd();
    let (open, mapped) = (descriptors(process::id()), segments(process::id()));
    for spare in 0.. {
        set_soft(Resource::RLIMIT_NOFILE, u64::try_from(lowest_free).unwrap() + spare);
        let result = attempt();
        set_soft(Resource::RLIMIT_NOFILE, full);
        match result {
            Ok(value) => return (spare, value),
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.is_retryable()),
                    (ErrorKind::ResourceExhausted, true),
                    "{error}"
                );
                assert!(error.to_string().contains("Too many open files"), "{error}");
                assert_eq!((descriptors(process::id()), segments(process::id())), (open, mapped), "{error}");
                assert!(nothing_is_left(), "{error}");
            }
        }
    }
    unreachable!()
}

/// The second process: every way to get a descriptor, with none, one, two, ... left.
pub(crate) fn out_of_descriptors() {
    let (needed, (mut one, mut two)) = with_ever_more_descriptors(Stream::pair, || true);
    assert_eq!(needed, 3, "a pair takes two sockets, and the segment's descriptor for a moment");
    one.send(event(1), b"over a pair").unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"over a pair");
    let path = socket();
    let directory = path.parent().unwrap().to_owned();
    let files = || fs::read_dir(&directory).unwrap().count();
    let (needed, listener) = with_ever_more_descriptors(|| Listener::bind(&path), || files() == 0);
    assert_eq!(
        needed, 3,
        "a listener takes its lock, its socket and its watch over both; the spare one can wait"
    );
    let server = thread::spawn(|| {
        let mut listener = listener;
        send_back(listener.accept().unwrap());
    });
    round_trip(&mut Stream::connect(&path).unwrap(), 2);
    server.join().unwrap();
    assert_eq!(files(), 0);
}

#[test]
fn whoever_finds_no_descriptor_says_so_and_leaves_nothing_behind() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    second("out of descriptors", &[("SOCKET", path.to_str().unwrap())]).join();
}

/// Becomes a user whom limits bind; the superuser is not bound by that on threads.
pub(crate) fn become_another_user() {
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(64_123), Gid::from_raw(64_123));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // Lost with the user.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

/// The second process: may start no thread, and binds, accepts, connects and waits all the same.
pub(crate) fn out_of_threads() {
    let mut stream = super::connect();
    let server = thread::spawn(|| {
        told();
        let path = socket().with_extension("own");
        let mut listener = Listener::builder(path).accept_from(PeerPolicy::Anyone).bind().unwrap();
        say("bound");
        send_back(listener.accept().unwrap());
    });
    become_another_user();
    set_soft(Resource::RLIMIT_NPROC, 1);
    let refused = thread::Builder::new().spawn(|| ()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EAGAIN), "{refused}");
    say("no threads");
    let (mut one, mut two) = Stream::pair().unwrap();
    one.send(event(1), b"over a pair").unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"over a pair");
    for number in 0..30 {
        round_trip(&mut stream, number);
        thread::sleep(Duration::from_millis(number));
    }
    drop(stream);
    server.join().unwrap();
}

#[test]
fn no_thread_is_needed_to_bind_accept_connect_and_wait() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    // For the user that it becomes.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(directory.path(), open).unwrap();
    let mut listener = Listener::bind(&path).unwrap();
    let settings = [("SOCKET", path.to_str().unwrap()), ("STRATEGY", "spin then park")];
    let mut child = second("out of threads", &settings);
    let stream = listener.accept().unwrap();
    assert_eq!(child.hear(), "no threads");
    thread::scope(|scope| {
        scope.spawn(|| send_back(stream));
        child.tell("bind");
        assert_eq!(child.hear(), "bound");
        let own = Stream::builder(path.with_extension("own")).connect_to(PeerPolicy::Anyone);
        round_trip(&mut own.connect().unwrap(), 5);
    });
    child.join();
}

/// No more than 384 MiB above what is mapped already: the allocator maps 64 or 128 MiB for a moment when a thread first
/// asks it for memory, which counts here if it is just doing that.
fn limit_memory() {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    set_soft(Resource::RLIMIT_AS, pages * 4096 + (384 << 20));
}

const SMALL: u32 = 64 << 10;
const LARGE: u32 = 512 << 20;

/// The second process: a server that can map small rings, and no large ones.
pub(crate) fn out_of_memory() {
    let mut listener = Listener::builder(socket()).max_ring_bytes(LARGE).bind().unwrap();
    limit_memory();
    say("bound");
    for _ in 0..3 {
        send_back(listener.accept().unwrap());
    }
    assert_eq!((listener.connections(), segments(process::id())), (0, 0));
}

#[test]
fn a_server_without_memory_refuses_with_the_size_and_goes_on_serving() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut child = second("out of memory", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "bound");
    for _ in 0..3 {
        for _ in 0..3 {
            let result = Stream::builder(&path).ring_bytes(LARGE).connect();
            let said = is_a(ErrorKind::ResourceExhausted, result);
            let size = format!("mmap of {} bytes failed", 2 * LARGE as usize + 4096);
            assert!(said.contains(&size) && said.contains("Cannot allocate memory"), "{said}");
        }
        let mut stream = Stream::builder(&path).ring_bytes(SMALL).connect().unwrap();
        round_trip(&mut stream, 1);
    }
    child.join();
}

/// The second process: a pair that does not fit.
pub(crate) fn pair_out_of_memory() {
    limit_memory();
    let said = is_a(ErrorKind::ResourceExhausted, Stream::pair_with(LARGE, WaitStrategy::ParkAtOnce));
    assert!(said.contains(&format!("mmap of {} bytes failed", 2 * LARGE as usize + 4096)), "{said}");
    let own = descriptors(process::id());
    // The first of the two mappings fits, and is not left behind.
    let said = is_a(ErrorKind::ResourceExhausted, Stream::pair_with(128 << 20, WaitStrategy::ParkAtOnce));
    assert!(said.contains("Cannot allocate memory"), "{said}");
    assert_eq!((descriptors(process::id()), segments(process::id())), (own, 0));
    let (mut one, mut two) = Stream::pair_with(SMALL, WaitStrategy::ParkAtOnce).unwrap();
    one.send(event(3), &super::bytes(3, 100)).unwrap();
    receives(&mut two, 3);
}

#[test]
fn a_pair_without_memory_says_how_much_it_wanted() {
    let _watchdog = Watchdog::start();
    second("pair out of memory", &[]).join();
}
