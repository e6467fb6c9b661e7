//! That the large tier has memory only while it lends, as the kernel sees it. In a process of its own: no other thread may
//! map something at the same place.

use std::fs;

use ringwire::buffer::{Buffer, Pool, PoolConfig};

use super::common::{Watchdog, say, second};

/// Whether the whole of `[address, address + bytes)` lies in one mapping.
fn is_mapped(address: usize, bytes: usize) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        number(from) <= address && address + bytes <= number(to)
    })
}

/// The second process: says whether a buffer is mapped while lent, and afterwards, for each tier.
pub(crate) fn lend_large() {
    let pool = Pool::new(PoolConfig::default()).unwrap();
    let place = |buffer: &Buffer| (buffer.as_ptr().addr(), buffer.len());
    for bytes in [1 << 20, 64 << 10, 4 << 10] {
        let mut buffer = pool.try_acquire(bytes).unwrap();
        buffer.fill(1);
        let (address, length) = place(&buffer);
        let lent = is_mapped(address, length);
        drop(buffer);
        say(&format!("{length} {lent} {}", is_mapped(address, length)));
    }
}

#[test]
fn a_large_buffer_is_unmapped_when_given_back() {
    let _watchdog = Watchdog::start();
    let mut process = second("lend_large", &[]);
    assert_eq!(process.hear(), "1048576 true false");
    assert_eq!(process.hear(), "65536 true true");
    assert_eq!(process.hear(), "4096 true true");
    process.join();
}
