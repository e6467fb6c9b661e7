//! A hostile process against a victim that also serves a good neighbour.
//!
//! The default form takes 240 rounds. The full one, with figures that mean something:
//!
//! ```text
//! RINGWIRE_HOSTILE_ROUNDS=10000 cargo test --release --test hostile rounds -- --nocapture
//! ```
//!
//! `RINGWIRE_HOSTILE_SEED` repeats a run, as far as two processes can be repeated. In the full form the neighbour's two
//! threads share one core and the hostile connection's two another, so that the scheduler has no part in what the neighbour
//! loses; in the default form, and with `RINGWIRE_HOSTILE_PLACEMENT=free`, all four run where they can, so that the hostile
//! process writes while the victim reads. Blocks of quiet, of a busy but good third process, and of hostility alternate: the
//! ratio to the first is the bar's, the second says how much of it any busy neighbour costs.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::common::{PATIENCE, Second, Watchdog, second};

/// What the victim may have grown by between the first rounds and the last, in KiB; and at its peak, with what a connection
/// may hold (256 KiB whole and as much set aside, doubled by growing vectors; two rings of 1 MiB).
const MOST_GROWTH_KIB: u64 = 4 << 10;
const MOST_PEAK_KIB: u64 = 16 << 10;

/// Numbers from the environment, with what they are otherwise.
pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// A seed that is printed, so that it can be set.
pub(super) fn seed() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("RINGWIRE_HOSTILE_SEED", u64::from(time.subsec_nanos()) ^ time.as_secs());
    println!("RINGWIRE_HOSTILE_SEED={seed}");
    seed
}

/// Never zero, and far from its neighbours'.
pub(super) fn round_seed(seed: u64, round: u64) -> u64 {
    (seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1
}

/// Binds this thread to `core`, unless it may run on any.
pub(super) fn pin(core: &str) {
    let Ok(core) = core.parse() else { return };
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// The cores for the neighbour and for the hostile connection.
fn placement(apart: bool) -> [String; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap()).collect();
    let free = env::var("RINGWIRE_HOSTILE_PLACEMENT").is_ok_and(|how| how == "free");
    if cores.len() < 2 || free || !apart {
        return ["any".into(), "any".into()];
    }
    [cores[0].to_string(), cores[1].to_string()]
}

/// Round trips of the neighbour in one phase.
#[derive(Clone, Copy, Debug)]
struct Phase {
    count: u64,
    p50_us: f64,
    p99_us: f64,
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// What the neighbour says of the time since the last mark.
fn mark(neighbour: &mut Second) -> Phase {
    neighbour.tell("mark");
    let found = numbers(&neighbour.hear());
    Phase { count: found[0], p50_us: found[1] as f64 / 1e3, p99_us: found[2] as f64 / 1e3 }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Scene<'a> {
    settings: Vec<(&'a str, &'a str)>,
    victim: Second,
    neighbour: Second,
    pause: Duration,
}

impl Scene<'_> {
    /// Quiet, a busy third process, and `rounds` of hostility.
    fn block(&mut self, first: u64, rounds: u64) -> [Phase; 3] {
        mark(&mut self.neighbour);
        std::thread::sleep(self.pause);
        let quiet = mark(&mut self.neighbour);
        self.victim.tell("busy");
        let busy_ms = self.pause.as_millis().to_string();
        let busy = second("busy", &[&self.settings[..], &[("BUSY_MS", &*busy_ms)]].concat());
        busy.join();
        assert_eq!(self.victim.hear(), "idle");
        let beside_busy = mark(&mut self.neighbour);
        self.victim.tell(&format!("attack {rounds}"));
        let (first, rounds) = (first.to_string(), rounds.to_string());
        let mut hostile =
            second("hostile", &[&self.settings[..], &[("FIRST", &*first), ("ROUNDS", &*rounds)]].concat());
        println!("{}", self.victim.hear());
        let beside_hostile = mark(&mut self.neighbour);
        assert_eq!(hostile.hear(), "done");
        hostile.join();
        [quiet, beside_busy, beside_hostile]
    }

    /// Resident KiB, its peak, descriptors, segments, connections.
    fn weigh(&mut self) -> Vec<u64> {
        self.victim.tell("weigh");
        numbers(&self.victim.hear())
    }
}

#[test]
fn rounds_with_a_hostile_process_harm_neither_the_victim_nor_its_neighbour() {
    let rounds = number("RINGWIRE_HOSTILE_ROUNDS", 240);
    let full = rounds >= 1000;
    let (blocks, pause_ms) = if full { (10, 2000) } else { (3, 100) };
    let patience = 60 + rounds / 5;
    let _watchdog = Watchdog::lasting(Duration::from_secs(patience));
    let (seed, patience) = (seed().to_string(), patience.to_string());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s.sock");
    let [neighbour_core, core] = placement(full);
    let settings = vec![
        ("SOCKET", socket.to_str().unwrap()),
        ("SEED", &*seed),
        ("CORE", &*core),
        ("NEIGHBOUR_CORE", &*neighbour_core),
        (PATIENCE, &*patience),
    ];
    let mut victim = second("victim", &settings);
    assert_eq!(victim.hear(), "bound");
    let mut neighbour = second("neighbour", &settings);
    assert_eq!(neighbour.hear(), "connected");
    let mut scene = Scene { settings, victim, neighbour, pause: Duration::from_millis(pause_ms) };
    // What a process needs once: code, buffers, arenas.
    scene.block(0, 40);
    let before = scene.weigh();
    let phases: Vec<[Phase; 3]> =
        (0..blocks).map(|block| scene.block(40 + block * (rounds / blocks), rounds / blocks)).collect();
    let after = scene.weigh();
    let Scene { mut victim, mut neighbour, .. } = scene;
    neighbour.tell("");
    let sent = neighbour.hear();
    neighbour.join();
    victim.tell("");
    assert_eq!(victim.hear(), sent, "messages of the neighbour, sent and echoed");
    victim.join();
    println!("the neighbour: {sent} messages, all echoed; cores {neighbour_core} and {core}");
    report(&phases);
    println!(
        "the victim's resident memory: {} KiB, then {} KiB, at its peak {} KiB",
        before[0], after[0], after[1]
    );
    assert_eq!(before[2..], [after[2], 1, 1], "descriptors, segments, connections");
    assert!(after[0] < before[0] + MOST_GROWTH_KIB, "{before:?}, then {after:?}");
    assert!(after[1] < before[0] + MOST_PEAK_KIB, "{before:?}, then {after:?}");
}

fn report(phases: &[[Phase; 3]]) {
    let names = ["alone", "beside a busy process", "beside the hostile process"];
    for (index, name) in names.iter().enumerate() {
        let of = || phases.iter().map(move |block| block[index]);
        println!(
            "round trip of 64 B {name}: p50 {:.1} us, p99 {:.1} us (medians of {} blocks, {} round trips), p99 {:.2}x of alone",
            median(of().map(|phase| phase.p50_us)),
            median(of().map(|phase| phase.p99_us)),
            phases.len(),
            of().map(|phase| phase.count).sum::<u64>(),
            median(phases.iter().map(|block| block[index].p99_us / block[0].p99_us)),
        );
    }
}
