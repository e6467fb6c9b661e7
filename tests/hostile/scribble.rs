//! A peer that writes random values over the whole segment while this side uses the connection.

use std::io::Read;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use ringwire::ring::{CLOSED, PADDING};
use ringwire::sync::{Area, Counter, NativeArea, Ordering::Relaxed, Word};
use ringwire::{Error, ErrorKind, Header, Kind, Listener, Stream, WaitStrategy};

use super::common::raw::{RawPeer, raw_client, raw_server};
use super::common::{Random, Watchdog};

const TIMEOUT: Duration = Duration::from_millis(2);

/// Values that get further than most: lengths, marks, positions near what is there already.
pub(super) fn plausible(random: &mut Random, near: u32) -> u32 {
    match random.below(8) {
        0 => 0,
        1 => 16 + random.below(200) as u32,
        2 => CLOSED,
        3 => PADDING | (8 * random.below(513) as u32),
        4 => near.wrapping_add(8 * random.below(64) as u32),
        5 => near.wrapping_sub(8 * random.below(4) as u32),
        6 => near ^ (1 << random.below(4)),
        _ => u32::from_ne_bytes([random.below(12) as u8, random.below(7) as u8, 0, 1]),
    }
}

pub(super) fn scribble(random: &mut Random, area: &NativeArea, tame: bool) {
    let near = area.head().load(Relaxed);
    let value = if tame { plausible(random, near) } else { random.next() as u32 };
    // Where the reader looks, more often than anywhere.
    let offset = if random.below(2) == 0 {
        near.wrapping_add(8 * random.below(8) as u32)
    } else {
        random.next() as u32
    };
    match random.below(12) {
        0 => area.head().store(value, Relaxed),
        1 => area.reader_parked().store(value, Relaxed),
        2 => area.writer_parked().store(value, Relaxed),
        3..6 => area.put_words(offset & (area.size() - 1) & !7, 1, || random.next()),
        6 => area.put_header(offset & (area.size() - 1) & !15, value, u64::from(value)),
        _ => area.word(offset).store(value, Relaxed),
    }
}

/// Any of the things that a program does with a connection; says whether it brought a message.
pub(super) fn use_somehow(random: &mut Random, stream: &mut Stream) -> Result<bool, Error> {
    match random.below(11) {
        0 => {
            drop(stream.receive()?.payload().to_vec());
            Ok(true)
        }
        1 => Ok(stream.try_receive()?.map(|message| message.payload().read_at::<u64>(8)).is_some()),
        2 => stream.receive_into(&mut Vec::new()).map(|_| true),
        3 => {
            let mut reader = stream.read_message()?;
            for _ in 0..5 {
                if let Some(piece) = reader.next_piece()? {
                    piece.take_words(|_| ());
                }
            }
            Ok(true)
        }
        4 => {
            let _ = stream.read_message()?.read(&mut [0; 500]);
            Ok(true)
        }
        _ => send_somehow(random, stream).map(|()| false),
    }
}

fn send_somehow(random: &mut Random, stream: &mut Stream) -> Result<(), Error> {
    let header = Header::new(Kind::Request, 3, 4);
    let length = random.below(3000) as usize;
    match random.below(6) {
        0 => stream.send(header, &vec![1; length]),
        1 => stream.send(header, &[1; 20_000]),
        2 => stream.try_send(header, &vec![1; length % 100]),
        3 => stream.reserve(header, length % 2000).map(|mut slot| {
            slot.write(&[1; 500]);
            slot.commit();
        }),
        4 => {
            let mut batch = stream.batch();
            (0..5).try_for_each(|_| batch.send(header, &[5; 30]))
        }
        _ => {
            let mut writer = stream.write_message(header);
            writer.write_piece(&vec![1; length])?;
            writer.finish()
        }
    }
}

fn suffer(seed: u64, tame: bool, strategy: WaitStrategy, (mut stream, peer): (Stream, RawPeer)) {
    stream.set_receive_timeout(Some(TIMEOUT));
    stream.set_send_timeout(Some(TIMEOUT));
    stream.set_wait_strategy(strategy);
    let stop = Arc::new(Counter::new(0));
    let stopped = Arc::clone(&stop);
    let scribbler = thread::spawn(move || {
        let mut random = Random(seed | 1);
        while stopped.get() == 0 {
            for _ in 0..50 {
                scribble(&mut random, &peer.out, tame);
                scribble(&mut random, &peer.back, tame);
            }
            // Rarely enough that something gets through.
            if tame {
                thread::sleep(Duration::from_micros(100));
            }
        }
    });
    let mut random = Random(!seed | 1);
    for _ in 0..40 {
        if let Err(error) = use_somehow(&mut random, &mut stream) {
            let kind = error.kind();
            let expected = [
                ErrorKind::TimedOut,
                ErrorKind::Full,
                ErrorKind::CorruptPeer,
                ErrorKind::PeerClosed,
                ErrorKind::MessageTooLarge,
                ErrorKind::Abandoned,
                ErrorKind::InvalidInput,
                // A ring full of records comes round again by itself, while a send waits for room.
                ErrorKind::ResourceExhausted,
            ];
            assert!(expected.contains(&kind), "{error:?}");
        }
    }
    stop.add(1);
    scribbler.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn a_server_survives(seed: u64, tame: bool, strategy in 0..3usize) {
        let _watchdog = Watchdog::start();
        let strategy = [WaitStrategy::SpinOnly, WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce][strategy];
        let directory = tempfile::tempdir().unwrap();
        let mut listener = Listener::bind(directory.path().join("s.sock")).unwrap();
        suffer(seed, tame, strategy, raw_client(&mut listener, 4096));
    }

    #[test]
    fn a_client_survives(seed: u64, tame: bool, strategy in 0..3usize) {
        let _watchdog = Watchdog::start();
        let strategy = [WaitStrategy::SpinOnly, WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce][strategy];
        let directory = tempfile::tempdir().unwrap();
        suffer(seed, tame, strategy, raw_server(&directory.path().join("raw.sock"), 4096));
    }
}
