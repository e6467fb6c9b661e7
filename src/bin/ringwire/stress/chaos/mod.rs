//! `stress chaos`: every second something goes wrong, and everybody else goes on.

mod acts;
mod client;
mod hostile;
mod normal;
mod oversized;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

pub use self::client::{BalloonArguments, ClientArguments, run_balloon, run_client};

use self::acts::{ACTS, Act};
use self::normal::{Caller, Load, Restart};
use super::Options;
use super::random::Random;
use super::server::{Served, now_ns};
use super::verdict::Verdict;
use crate::private_directory::PrivateDirectory;

/// Descriptors that the server may have: few enough that clients can take them all.
const DESCRIPTORS: &str = "400";
const CONNECTIONS: &str = "350";
/// A call that has not come back by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const RECOVERY_MS: f64 = 100.0;
/// For connections whose clients have gone: a handshake that nobody goes on with takes a second.
const SETTLE: Duration = Duration::from_secs(10);

/// `stress chaos`
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only acts with this in their names
    #[arg(long)]
    only: Option<String>,
    /// How many acts, instead of the form's
    #[arg(long)]
    acts: Option<u32>,
    /// Between the beginnings of two acts at least, in milliseconds, instead of the form's
    #[arg(long)]
    every_ms: Option<u64>,
}

/// What acts have to do with.
struct Stage {
    socket: PathBuf,
    served: Served,
    random: Random,
    caller: Caller,
    restarts: Vec<Restart>,
    /// Peers that hold on to what they have until then.
    held: Vec<(Instant, Box<dyn std::any::Any>)>,
    /// Ends of the server that nobody has ordered.
    deaths: u32,
    /// What was answered wrongly, or not as it should be.
    faults: Vec<String>,
}

impl Stage {
    fn start_server(socket: &std::path::Path) -> Result<Served, Box<dyn Error>> {
        Served::start(socket, &["--descriptors", DESCRIPTORS, "--max-connections", CONNECTIONS])
    }

    /// Starts the server again, which has ended; from `killed_ns` on nobody could be served.
    fn restart(&mut self, killed_ns: u64) -> Result<(), Box<dyn Error>> {
        self.caller.call_now();
        self.served = Self::start_server(&self.socket)?;
        self.restarts.push(Restart { killed_ns, listening_ns: self.served.listening_ns });
        Ok(())
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// Does it, and looks whether the server survived it.
    fn perform(&mut self, act: &Act, verdict: &Verdict) -> Result<(), Box<dyn Error>> {
        let now = Instant::now();
        self.held.retain(|(until, _)| *until > now);
        let (name, play) = act;
        let what = play(self)?;
        verdict.tell(format_args!("{name}: {what}"));
        if !self.served.peer.is_alive()? {
            self.deaths += 1;
            self.fault(format!("{name}: the server died"));
            self.restart(now_ns()?)?;
        }
        self.caller.call_now();
        Ok(())
    }
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let (options, form) = (&arguments.options, arguments.options.form());
    let seed = options.seed();
    let mut verdict = Verdict::new("chaos", options, seed);
    let acts: Vec<Act> = ACTS
        .into_iter()
        .filter(|(name, _)| arguments.only.as_deref().is_none_or(|only| name.contains(only)))
        .collect();
    if acts.is_empty() {
        let names: Vec<&str> = ACTS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no act of that name; there are: {}", names.join(", ")).into());
    }
    let count = arguments.acts.unwrap_or_else(|| form.choose(ACTS.len() as u32, 25, 1800));
    let every = Duration::from_millis(arguments.every_ms.unwrap_or_else(|| form.choose(100, 1000, 1000)));
    let directory = PrivateDirectory::create()?;
    let socket = directory.path().join("chaos.sock");
    let served = Stage::start_server(&socket)?;
    let (caller, load) = (Caller::start(&socket, seed)?, Load::start(&socket, seed)?);
    let mut stage = Stage {
        socket,
        served,
        random: Random::new(seed),
        caller,
        restarts: Vec::new(),
        held: Vec::new(),
        deaths: 0,
        faults: Vec::new(),
    };
    let mut deck: Vec<Act> = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let act = deck.pop().or_else(|| {
            // All in any order, and again.
            deck.clone_from(&acts);
            stage.random.shuffle(&mut deck);
            deck.pop()
        });
        stage.perform(&act.ok_or("there are acts")?, &verdict)?;
        thread::sleep(every.saturating_sub(begun.elapsed()));
    }
    verdict.note("acts", count);
    judge(stage, load, &mut verdict)?;
    verdict.finish()
}

/// Waits until all have gone whose time has come, and judges what they have left.
fn judge(mut stage: Stage, load: Load, verdict: &mut Verdict) -> Result<(), Box<dyn Error>> {
    stage.held.clear();
    let mut client = stage.served.client()?;
    // That client, the caller, and the load.
    let left = Served::settle(&mut client, 3, SETTLE)?;
    let status = Served::status(&mut client)?;
    let (calls, pressed) = (stage.caller.end()?, load.end()?);
    let recoveries: Vec<Option<f64>> =
        stage.restarts.iter().map(|restart| calls.recovery_ms(restart)).collect();
    let failed = recoveries.iter().filter(|recovery| recovery.is_none()).count();
    let slowest = recoveries.iter().flatten().copied().fold(0.0, f64::max);
    let mut sorted: Vec<f64> = recoveries.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let unexplained = calls.unexplained(&stage.restarts);
    for failure in unexplained.iter().take(5) {
        stage.faults.push(format!("a normal call: {failure}"));
    }
    verdict.note("calls", calls.count());
    verdict.note("calls_right", calls.right());
    verdict.note("calls_lost_with_notice", calls.lost());
    verdict.note("slowest_call_ms", calls.slowest_ms());
    verdict.note("pipelined_sent", pressed.sent);
    verdict.note("pipelined_right", pressed.right);
    verdict.note("pipelined_lost_with_notice", pressed.lost);
    verdict.note("pipelined_other_errors", json!(pressed.other));
    verdict.note("restarts", stage.restarts.len());
    verdict.note("recovery_median_ms", sorted.get(sorted.len() / 2).copied());
    verdict.note("server_after_all", status.clone());
    verdict.note("faults", json!(stage.faults));
    let restarts = stage.restarts.len().max(1) as f64;
    verdict.below("recoveries_failed_percent", 100.0 * failed as f64 / restarts, 1.0);
    verdict.below_in_release("recovery_slowest_ms", slowest, RECOVERY_MS);
    verdict.at_most("wrong_answers", (calls.wrong() + pressed.wrong) as f64, 0.0);
    verdict.at_most("silent_losses", (pressed.sent - pressed.ended()) as f64, 0.0);
    verdict.at_most("calls_failed_without_a_restart", unexplained.len() as f64, 0.0);
    verdict.at_most("deaths_of_the_server", stage.deaths, 0.0);
    verdict.at_most("panics_of_the_server", status["panics"].as_f64().unwrap_or(1.0), 0.0);
    verdict.at_most("faults", stage.faults.len() as f64, 0.0);
    verdict.at_most("connections_left_over", left.saturating_sub(3) as f64, 0.0);
    verdict.at_most("buffers_left_over", status["lent"].as_f64().unwrap_or(1.0), 0.0);
    drop(client);
    stage.served.stop()
}
