//! What a server's builder is told, and what its middleware writes down.

use std::sync::{Arc, Mutex};

use log::{Level, LevelFilter, Log, Metadata, Record};
use ringwire::server::{Failure, Logging, Timing};
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{ErrorKind, Kind};

use super::caller::Serving;
use super::common::{Watchdog, bytes};

const TYPE: u16 = 7;
const FIRST: u16 = 100;
/// More than are counted without a lock.
const TYPES: u16 = 150;

/// Keeps what [`Logging`] writes, and nothing else: other tests count allocations.
struct Kept(Mutex<Vec<(Level, String)>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl Log for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "ringwire::server::middleware"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn each_request_is_a_line_of_the_log_and_a_failure_a_louder_one() {
    let _watchdog = Watchdog::start();
    log::set_logger(&KEPT).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let serving = Serving::start(|builder| {
        builder
            .middleware(Logging)
            .handle(TYPE, |_, reply| reply.send(b""))
            .handle(TYPE + 1, |_, _| Err(Failure::not_found("no such thing")))
    });
    let mut caller = serving.caller();
    caller.call(TYPE, b"").unwrap();
    assert_eq!(caller.refused(TYPE + 1, b"").0, Status::NotFound);
    serving.shut_down();
    let lines = KEPT.0.lock().unwrap();
    let [(answered, first), (failed, second)] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((*answered, *failed), (Level::Debug, Level::Info));
    assert!(
        first.starts_with("connection 1, ")
            && first.contains("type 7, request ")
            && first.contains(": Ok in ")
    );
    assert!(second.contains("type 8, ") && second.contains(": NotFound in "), "{second}");
    let process = format!("{}", std::process::id());
    assert!(first.contains(&process), "who asked: {first}");
}

#[test]
fn more_types_than_have_a_place_are_timed_all_the_same() {
    let _watchdog = Watchdog::start();
    let timing = Arc::new(Timing::default());
    let serving = Serving::start(|builder| {
        let builder = builder.middleware(Arc::clone(&timing));
        (FIRST..FIRST + TYPES).fold(builder, |builder, message_type| {
            builder.handle(message_type, |request, reply| match request.payload().len() {
                0 => Err(Failure::aborted("asked to")),
                _ => reply.send(b""),
            })
        })
    });
    let mut caller = serving.caller();
    for message_type in FIRST..FIRST + TYPES {
        caller.call(message_type, b"1").unwrap();
        assert_eq!(caller.refused(message_type, b"").0, Status::Aborted);
    }
    serving.shut_down();
    let report = timing.report();
    assert_eq!(report.len(), usize::from(TYPES));
    for (at, (message_type, found)) in report.into_iter().enumerate() {
        assert_eq!((message_type, found.count, found.failures), (FIRST + at as u16, 2, 1));
        assert!(found.longest_ns > 0 && found.longest_ns <= found.total_ns, "{found:?}");
    }
}

#[test]
fn a_request_beyond_the_servers_limit_does_not_leave_its_client() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.max_message_bytes(100_000));
    assert_eq!(serving.handle.path(), serving.path);
    let mut caller = serving.caller();
    let most = bytes(1, 100_000);
    assert_eq!(caller.call(ECHO, &most), Ok(most));
    let error = caller.try_ask(ECHO, &bytes(1, 100_001)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
    assert!(error.to_string().contains("100000"), "{error}");
    assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()));
}

#[test]
fn a_streaming_handler_reads_no_more_than_its_limit() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle_streaming(TYPE, |mut request, items| {
            assert_eq!(
                request.payload().is_some(),
                request.payload().is_some_and(|payload| payload.len() <= 100)
            );
            assert_eq!(request.context().message_type(), TYPE);
            let all = request.read_all(100)?;
            items.send(&all)?;
            items.send_with(4, |slot| _ = slot.write(b"last"))?;
            assert_eq!(items.count(), 2);
            Ok(())
        })
    });
    let mut caller = serving.caller();
    caller.ask(TYPE, &[3; 100]);
    assert_eq!(caller.answer().unwrap().payload, [3; 100]);
    assert_eq!(caller.answer().unwrap().payload, b"last");
    assert_eq!(caller.answer().unwrap().header.kind, Kind::StreamEnd);
    // In fragments: there is no payload in one place.
    caller.ask(TYPE, &vec![3; 200_000]);
    let end = caller.answer().unwrap();
    assert_eq!((end.header.kind == Kind::StreamItem, end.status().status), (false, Status::MessageTooLarge));
    assert!(end.status().message.contains("more than 100 bytes"), "{:?}", end.status());
    assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()));
}

#[test]
fn segments_are_reserved_and_left_out_of_core_dumps_where_that_is_asked_for() {
    let _watchdog = Watchdog::start();
    let serving =
        Serving::start(|builder| builder.reserve(true).exclude_from_core_dumps(true).ring_bytes(1 << 20));
    let mut caller = serving.caller();
    assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()));
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    // "dd": not in a dump. Of all servers of this process only this one asks for it.
    let (mut is_segment, mut found) = (false, 0);
    for line in maps.lines() {
        match line.split_once(':') {
            Some(("VmFlags", flags)) if is_segment => {
                found += usize::from(flags.split(' ').any(|flag| flag == "dd"))
            }
            _ if line.contains(" rw-s ") => is_segment = line.contains("memfd:ringwire"),
            _ if line.contains("-p ") => is_segment = false,
            _ => {}
        }
    }
    assert!(found > 0, "no segment is left out");
}
