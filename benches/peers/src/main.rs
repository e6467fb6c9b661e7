//! rtrb between two threads, as `ringwire bench stream --size 64` measures a stream between two processes: items of 64
//! bytes, every byte written and read, one push and one pop each, pinned to two cores, the median of blocks.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`

use std::thread;
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rtrb::RingBuffer;

const CAPACITY: usize = 1024;
const BLOCKS: u64 = 15;
const MESSAGES: u64 = 1 << 18;
const RUNS: usize = 10;

fn pin(core: usize) {
    let mut only = CpuSet::new();
    only.set(core).expect("a core that exists");
    sched_setaffinity(Pid::from_raw(0), &only).expect("at least two cores");
}

fn item(number: u64) -> [u8; 64] {
    let mut item = [0; 64];
    for (i, word) in item.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(number + 1 + i as u64).to_ne_bytes());
    }
    item
}

fn sum(item: &[u8; 64]) -> u64 {
    item.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes"))).fold(0, u64::wrapping_add)
}

/// Messages per second, the median of the blocks.
fn run() -> f64 {
    let (mut producer, mut consumer) = RingBuffer::<[u8; 64]>::new(CAPACITY);
    let (mut done, mut finished) = RingBuffer::<u64>::new(1);
    let reader = thread::spawn(move || {
        pin(1);
        for block in 0..BLOCKS {
            let mut right = 0;
            for number in block * MESSAGES..(block + 1) * MESSAGES {
                let item = loop {
                    if let Ok(item) = consumer.pop() {
                        break item;
                    }
                    std::hint::spin_loop();
                };
                right += u64::from(sum(&item) == 8 * number + 36);
            }
            done.push(right).expect("the last one has been taken");
        }
    });
    pin(0);
    let mut speeds = Vec::new();
    for block in 0..BLOCKS {
        let started = Instant::now();
        for number in block * MESSAGES..(block + 1) * MESSAGES {
            while producer.push(item(number)).is_err() {
                std::hint::spin_loop();
            }
        }
        let right = loop {
            if let Ok(right) = finished.pop() {
                break right;
            }
        };
        assert_eq!(right, MESSAGES, "an item was lost");
        speeds.push(MESSAGES as f64 / started.elapsed().as_secs_f64());
    }
    reader.join().expect("the reader");
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

fn main() {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    let listed: Vec<String> = runs.iter().map(|speed| format!("{speed:.0}")).collect();
    runs.sort_by(f64::total_cmp);
    println!(
        "{{\"bench\":\"rtrb\",\"size\":64,\"capacity\":{CAPACITY},\"msgs_per_s\":{:.0},\"msgs_per_s_of_runs\":[{}]}}",
        runs[RUNS / 2],
        listed.join(",")
    );
}
