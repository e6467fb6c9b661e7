//! A full `/dev/shm`, and limits: errors, never a signal.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use ringwire::{ErrorKind, NamedReceiver, NamedSender};

use super::common::namespaces::{Plan, are_forbidden};
use super::common::{Second, Watchdog, assert_bytes, bytes, second, second_command};
use super::{Name, event, kind};

/// Sends and receives until every byte of the area has been written `laps` times.
fn go_round(sender: &mut NamedSender, receiver: &mut NamedReceiver, ring_bytes: u64, laps: u64) {
    let length = sender.max_record_bytes() / 3;
    for number in 0..laps * ring_bytes / length as u64 + 1 {
        sender.send(event(number), &bytes(number, length)).unwrap();
        let message = receiver.receive().unwrap();
        assert_bytes(&message.payload().to_vec(), &bytes(number, length), "round the ring");
    }
}

/// The second process: its `/dev/shm` has 1 MiB.
pub(crate) fn full() {
    let name = Name::new();
    for too_large in [1 << 20, 16 << 20, 1 << 30] {
        let error = NamedSender::create(&name, too_large).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        assert!(error.to_string().contains(&*name), "{error}");
        name.assert_free();
    }
    let ring_bytes = 256 << 10;
    let mut sender = NamedSender::create(&name, ring_bytes).unwrap();
    let mut receiver = NamedReceiver::open(&name).unwrap();
    go_round(&mut sender, &mut receiver, u64::from(ring_bytes), 2);
    // A quiet connection's ring would now give back what the burst has left.
    thread::sleep(Duration::from_millis(120));
    for number in 0..100 {
        sender.send(event(number), &[1; 64]).unwrap();
        receiver.receive().unwrap();
    }
    // Now every other page is taken; the ring's own are there all the same.
    let mut filler = fs::File::create("/dev/shm/filler").unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    go_round(&mut sender, &mut receiver, u64::from(ring_bytes), 3);
    let other = Name::new();
    assert_eq!(kind(NamedReceiver::create(&other, 4096)), ErrorKind::ResourceExhausted);
    other.assert_free();
    drop(filler);
    fs::remove_file("/dev/shm/filler").unwrap();
    drop(NamedReceiver::create(&other, 4096).unwrap());
    drop((sender, receiver));
    assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
}

#[test]
fn a_full_dev_shm_is_an_error_and_no_signal() {
    let _watchdog = Watchdog::start();
    let plan = Plan::new(CloneFlags::CLONE_NEWNS).with_tmpfs("/dev/shm", "size=1m");
    let mut command = second_command("full", &[]);
    plan.apply(&mut command);
    match Second::start(&mut command) {
        Ok(child) => child.join(),
        // a_limit_on_the_size_of_files_is_an_error still looks at an allocation that fails.
        Err(error) if are_forbidden(&error) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The second process: its files may have 64 KiB.
pub(crate) fn limited() {
    setrlimit(Resource::RLIMIT_FSIZE, 64 << 10, 64 << 10).unwrap();
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    let name = Name::new();
    for too_large in [64 << 10, 1 << 20, 1 << 30] {
        let error = NamedSender::create(&name, too_large).unwrap_err();
        assert!(error.to_string().contains("allocating shared memory"), "{error}");
        name.assert_free();
    }
    let mut sender = NamedSender::create(&name, 32 << 10).unwrap();
    let mut receiver = NamedReceiver::open(&name).unwrap();
    go_round(&mut sender, &mut receiver, 32 << 10, 2);
    drop((sender, receiver));
    name.assert_free();
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    let _watchdog = Watchdog::start();
    second("limited", &[]).join();
}
