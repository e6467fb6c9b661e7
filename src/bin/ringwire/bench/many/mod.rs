//! `bench many`: many connections at once, beside the same over Unix sockets and, one request at a time, over bare futex
//! mailboxes.

mod load;
mod mailbox;
mod ring;
mod socket;
mod transport;

pub use load::spawn_all;
pub use ring::Ring;
pub use transport::{Connection, Plan, Transport};

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::load::Outcome;
use self::mailbox::Mailboxes;
use self::socket::Socket;
use super::limits::QUICK;
use super::machine::{raise_descriptor_limit, steal_ticks};
use super::mode::Mode;
use super::report::{median, print, rounded};
use crate::child::{PrivateDirectory, say, spawn_heard};

/// Client threads, or tickets of a client, at the most.
const MAX_CONNECTIONS: u32 = 100_000;
const MAX_WINDOW: usize = 64;

/// `bench many`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Clients, each on a thread and a connection of its own
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Requests on each connection
    #[arg(long, default_value_t = 5000)]
    messages: u64,
    /// Bytes of a request, and of its answer
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Requests under way on a connection at the most (1 to 64); with 1 there are mailboxes to compare with
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// What both ends of a ring do while they wait: with more connections than cores, spinning is at another one's cost
    #[arg(long, value_enum, default_value_t = Mode::Block)]
    mode: Mode,
    /// Times that each way is measured, in turn
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// A hundredth of the connections and messages: to try it out, not to quote
    #[arg(long)]
    quick: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// What the second process is told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    way: Way,
    directory: PathBuf,
    #[command(flatten)]
    plan: Plan,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Ring,
    Socket,
    Mailbox,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Socket => "socket",
            Self::Mailbox => "mailbox",
        }
    }

    fn measure(self, plan: &Plan) -> Result<Outcome, Box<dyn Error>> {
        match self {
            Self::Ring => one_run::<Ring>(self, plan),
            Self::Socket => one_run::<Socket>(self, plan),
            Self::Mailbox => one_run::<Mailboxes>(self, plan),
        }
    }
}

fn plan(arguments: &Arguments) -> Result<Plan, Box<dyn Error>> {
    let Arguments { connections, messages, size, window, mode, runs, quick, .. } = *arguments;
    let refused = connections == 0 || connections > MAX_CONNECTIONS || messages == 0 || runs == 0;
    if refused || window == 0 || window > MAX_WINDOW {
        return Err(format!(
            "--messages and --runs need at least 1, --connections 1 to {MAX_CONNECTIONS}, --window 1 to {MAX_WINDOW}"
        )
        .into());
    }
    let plan = Plan { connections, messages, size, window, mode };
    if !quick {
        return Ok(plan);
    }
    let part = u64::from(QUICK);
    Ok(Plan { connections: connections.div_ceil(QUICK), messages: messages.div_ceil(part), ..plan })
}

/// The client process.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let plan = plan(arguments)?;
    raise_descriptor_limit()?;
    let ways: &[Way] =
        if plan.window == 1 { &[Way::Ring, Way::Socket, Way::Mailbox] } else { &[Way::Ring, Way::Socket] };
    let stolen_before = steal_ticks();
    let mut results: Vec<Results> = ways.iter().map(|_| Results::default()).collect();
    for _ in 0..arguments.runs {
        for (way, results) in ways.iter().zip(&mut results) {
            results.add(&plan, way.measure(&plan)?);
        }
    }
    let (ring, others) = results.split_first().ok_or("nothing measured")?;
    let mut result = json!({
        "bench": "many", "layer": "stream", "connections": plan.connections, "messages": plan.messages,
        "size": plan.size, "window": plan.window, "mode": plan.mode.name(), "runs": arguments.runs,
        "lost": ring.lost, "reordered": ring.reordered,
        "msgs_per_s": median(&ring.speeds).round(),
        "p50_ns": median(&ring.p50_ns), "p99_ns": median(&ring.p99_ns),
        "msgs_per_s_of_runs": ring.speeds.iter().map(|speed| speed.round()).collect::<Vec<_>>(),
    });
    for (way, other) in ways[1..].iter().zip(others) {
        let name = way.name();
        let ratios: Vec<f64> =
            ring.speeds.iter().zip(&other.speeds).map(|(ring, other)| ring / other).collect();
        result[format!("{name}_msgs_per_s")] = median(&other.speeds).round().into();
        result[format!("{name}_p50_ns")] = median(&other.p50_ns).into();
        result[format!("{name}_p99_ns")] = median(&other.p99_ns).into();
        result[format!("{name}_lost")] = other.lost.into();
        result[format!("ratio_to_{name}")] = rounded(median(&ratios)).into();
        result[format!("ratio_to_{name}_of_runs")] = ratios.iter().map(|ratio| rounded(*ratio)).collect();
    }
    result["steal_ticks"] = (steal_ticks() - stolen_before).into();
    print(arguments.json, &result)?;
    match ring.error.as_ref() {
        Some(error) => Err(format!("{} requests without a right answer: {error}", ring.lost).into()),
        None if ring.lost + ring.reordered > 0 => Err("answers that are wrong or out of order".into()),
        None => Ok(()),
    }
}

/// Of all runs of one way.
#[derive(Default)]
struct Results {
    speeds: Vec<f64>,
    p50_ns: Vec<f64>,
    p99_ns: Vec<f64>,
    lost: u64,
    reordered: u64,
    error: Option<String>,
}

impl Results {
    fn add(&mut self, plan: &Plan, outcome: Outcome) {
        let answered = plan.messages * u64::from(plan.connections) - outcome.lost;
        self.speeds.push(answered as f64 / outcome.elapsed.as_secs_f64());
        self.p50_ns.push(outcome.latency.value_at_quantile(0.5) as f64);
        self.p99_ns.push(outcome.latency.value_at_quantile(0.99) as f64);
        self.lost += outcome.lost;
        self.reordered += outcome.reordered;
        self.error = self.error.take().or(outcome.error);
    }
}

fn one_run<T: Transport>(way: Way, plan: &Plan) -> Result<Outcome, Box<dyn Error>> {
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let [connections, messages, size, window, mode] = &plan.to_arguments();
    let mut peer =
        spawn_heard(["peer", "bench", "many", way.name(), path, connections, messages, size, window, mode])?;
    let address = peer.hear()?;
    let clients = T::connect(plan, address.trim_end(), 0..plan.connections)?;
    let outcome = load::run(plan, clients)?;
    if outcome.error.is_none() {
        peer.join()?;
    }
    Ok(outcome)
}

/// The server process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    match arguments.way {
        Way::Ring => serve::<Ring>(arguments),
        Way::Socket => serve::<Socket>(arguments),
        Way::Mailbox => serve::<Mailboxes>(arguments),
    }
}

fn serve<T: Transport>(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let (server, address) = T::listen(&arguments.plan, &arguments.directory)?;
    say(&address)?;
    server.serve(&arguments.plan)
}
