//! `stress session`: an editor's day, compressed. Three windows at once; completions at each keystroke, of which most are
//! cancelled by the next; chats; files; bursts after a rest.

mod engine;
mod latencies;
mod window;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

pub use self::engine::handlers;

use self::latencies::{KINDS, Latencies};
use self::window::{Window, find_files};
use super::Options;
use super::server::{Footprint, Served};
use super::verdict::Verdict;
use crate::private_directory::PrivateDirectory;

const WINDOWS: u64 = 3;
const GROWTH_KIB: f64 = 256.0;
/// Until each reader listens on its socket: what it needs for that is made at its first time there.
const REST: Duration = Duration::from_millis(300);

/// `stress session`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Whose files are opened: those of 1 KiB to 5 MiB, with those in its subdirectories
    directory: PathBuf,
    /// How long, instead of the form's time, in seconds
    #[arg(long)]
    seconds: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let (options, seed) = (&arguments.options, arguments.options.seed());
    let mut verdict = Verdict::new("session", options, seed);
    let seconds = arguments.seconds.unwrap_or_else(|| options.form().choose(3, 25, 600)).max(1);
    let files = find_files(&arguments.directory)?;
    let directory = PrivateDirectory::create()?;
    let root = arguments.directory.to_str().ok_or("a directory whose name is not UTF-8")?;
    let served = Served::start(&directory.path().join("session.sock"), &["--files", root])?;
    let mut windows = Vec::new();
    for number in 0..WINDOWS {
        windows.push(Window::open(&served.socket, &arguments.directory, &files, seed, number)?);
    }
    // A fifth of the time for whatever is touched once.
    let warm = Duration::from_secs(seconds) / 5;
    let (windows, _) = work(windows, warm)?;
    thread::sleep(REST);
    let before = [Footprint::of(served.peer.id())?, Footprint::of(std::process::id())?];
    let (windows, latencies) = work(windows, Duration::from_secs(seconds) - warm)?;
    thread::sleep(REST);
    let after = [Footprint::of(served.peer.id())?, Footprint::of(std::process::id())?];
    verdict.note("files", files.len());
    verdict.note("seconds", seconds);
    for kind in KINDS {
        verdict.note(kind, latencies.summary(kind));
    }
    verdict.note("cancelled_in_time", latencies.cancelled);
    verdict.note("chats_left_early", latencies.left_early);
    verdict.note("bytes_of_files", latencies.bytes);
    judge(&mut verdict, before, after, &latencies);
    drop(windows);
    served.stop()?;
    verdict.finish()
}

/// Has all windows at work for `time`.
fn work(windows: Vec<Window>, time: Duration) -> Result<(Vec<Window>, Latencies), Box<dyn Error>> {
    let threads: Vec<_> = windows
        .into_iter()
        .map(|mut window| {
            thread::spawn(move || {
                let worked = window.work(time).map_err(|error| error.to_string());
                worked.map(|latencies| (window, latencies))
            })
        })
        .collect();
    let (mut windows, mut all) = (Vec::new(), Latencies::new()?);
    for thread in threads {
        let (window, latencies) = thread.join().map_err(|_| "a window panicked")??;
        windows.push(window);
        all.add(&latencies)?;
    }
    Ok((windows, all))
}

fn judge(verdict: &mut Verdict, before: [Footprint; 2], after: [Footprint; 2], latencies: &Latencies) {
    let names = [
        ["server_growth_kib", "server_descriptors", "server_threads", "server_mappings"],
        ["clients_growth_kib", "clients_descriptors", "clients_threads", "clients_mappings"],
    ];
    verdict.note("server_kib", after[0].memory.total_kib());
    for ([growth, descriptors, threads, mappings], (before, after)) in
        names.into_iter().zip(before.into_iter().zip(after))
    {
        let grown = after.memory.total_kib() as f64 - before.memory.total_kib() as f64;
        verdict.below_in_release(growth, grown, GROWTH_KIB);
        verdict.at_most(descriptors, after.descriptors as f64, before.descriptors as f64);
        verdict.at_most(threads, after.threads as f64, before.threads as f64);
        verdict.note(mappings, after.mappings);
    }
    verdict.at_most("wrong_answers", latencies.wrong as f64, 0.0);
    verdict.at_most("failures", latencies.failures as f64, 0.0);
}
