//! `stress latency`: one connection of the latency class beside a thousand that give no pause, as root and as nobody.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use serde_json::Value;

use super::Options;
use super::verdict::Verdict;
use crate::bench::latency;
use crate::child::{die_with_parent, spawn_heard};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;
const SHARE_PERCENT: f64 = 99.0;

/// What the process is told that measures.
#[derive(Args, Debug)]
pub struct PeerArguments {
    /// Gives up all privileges first
    #[arg(long)]
    unprivileged: bool,
    #[command(flatten)]
    measured: latency::Arguments,
}

/// Runs it.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut verdict = Verdict::new("latency", options, options.seed());
    let form = options.form();
    let (others, messages, seconds) =
        form.choose(("40", "300", "1"), ("999", "10000", "10"), ("999", "10000", "600"));
    let over =
        |messages, seconds| ["--others", others, "--messages", messages, "--seconds", seconds, "--json"];
    verdict.tell(format_args!("{messages} requests over {seconds} s"));
    let measured = measure(&over(messages, seconds))?;
    let answered = measured["messages"].as_u64().unwrap_or(0);
    let is_realtime = measured["realtime"] == true;
    verdict.note("measured", measured.clone());
    // With the same time between two requests.
    let (fewer, shorter) = form.choose(("150", "1"), (messages, seconds), ("1000", "60"));
    verdict.tell(format_args!("{fewer} over {shorter} s, not rehearsed"));
    verdict.note("not_rehearsed", measure(&[&over(fewer, shorter)[..], &["--cold"]].concat())?);
    if geteuid().is_root() {
        // Behind a thousand others, each of its requests takes its turn: some 20 ms, and a rehearsal as much again.
        let fewer = form.choose("100", "500", messages);
        verdict.tell(format_args!("{fewer} over {seconds} s, not rehearsed, without privileges"));
        let beside = measure(&[&over(fewer, seconds)[..], &["--cold", "--unprivileged"]].concat());
        // It needs a way to the program and to the temporary directory that is open to everybody.
        verdict.note("without_privileges", beside.unwrap_or_else(|error| error.to_string().into()));
    }
    verdict.note("has_realtime_priority", is_realtime);
    verdict.at_most("unanswered", messages.parse::<f64>()? - answered as f64, 0.0);
    verdict.note("slowest_ns", measured["max_ns"].clone());
    let share = measured["below_10_us"].as_f64().ok_or("a share below 10 us")?;
    if is_realtime {
        verdict.above_in_release("below_10_us_percent", share, SHARE_PERCENT);
    } else {
        verdict.note("below_10_us_percent_without_privileges", share);
    }
    verdict.finish()
}

fn measure(settings: &[&str]) -> Result<Value, Box<dyn Error>> {
    let mut peer = spawn_heard(["peer", "stress", "latency"].iter().chain(settings))?;
    let result = serde_json::from_str(&peer.hear()?)?;
    peer.join()?;
    Ok(result)
}

/// Measures, and says so in one line.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    if arguments.unprivileged {
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY))?;
        setuid(Uid::from_raw(NOBODY))?;
        // A change of user forgets it.
        die_with_parent()?;
    }
    latency::run(&arguments.measured)
}
