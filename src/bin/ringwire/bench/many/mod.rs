//! `bench many`: many connections at once, beside the same over Unix sockets and over bare futex mailboxes.

mod call;
mod load;
mod mailbox;
mod plain;
mod ring;
mod socket;
mod transport;

pub use call::Called;
pub use load::spawn_all;
pub use transport::{Connection, Plan, Transport};

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::load::Outcome;
use self::mailbox::Mailboxes;
use self::plain::Plain;
use self::ring::Ring;
use self::socket::Socket;
use super::limits::QUICK;
use super::machine::{raise_descriptor_limit, steal_ticks};
use super::mode::Mode;
use super::report::{median, print, rounded};
use crate::child::{say, spawn_heard};
use crate::private_directory::PrivateDirectory;

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
    /// Requests under way on a connection at the most (1 to 64)
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// What both ends of a ring do while they wait: with more connections than cores, spinning is at another one's cost
    #[arg(long, value_enum, default_value_t = Mode::Block)]
    mode: Mode,
    /// Binds both threads of a connection to one core, each connection to the next of the cores
    #[arg(long)]
    placed: bool,
    /// The library's server and clients, or bare streams
    #[arg(long, value_enum, default_value_t = Layer::Call)]
    layer: Layer,
    /// Which Unix socket server to compare with, beside bare futex mailboxes
    #[arg(long, value_enum, default_value_t = Peer::Both)]
    peer: Peer,
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

/// What of the library is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    Call,
    Stream,
}

/// What it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// A buffered reader, and a write for each message: the bar of section "many" is held against this one
    Plain,
    /// One read and one write for all messages that are there
    Batched,
    /// One after the other
    Both,
    /// Bare futexes alone, which stand beside each of the others too while they take no more than 1 GiB
    Mailbox,
    /// Nothing
    None,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Call,
    Ring,
    Socket,
    SocketBatched,
    Mailbox,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Ring => "ring",
            Self::Socket => "socket",
            Self::SocketBatched => "socket-batched",
            Self::Mailbox => "mailbox",
        }
    }

    fn measure(self, plan: &Plan) -> Result<Outcome, Box<dyn Error>> {
        let once = Duration::ZERO;
        match self {
            Self::Call => one_run::<Called>(self, plan, once),
            Self::Ring => one_run::<Ring>(self, plan, once),
            Self::Socket => one_run::<Plain>(self, plan, once),
            Self::SocketBatched => one_run::<Socket>(self, plan, once),
            Self::Mailbox => one_run::<Mailboxes>(self, plan, once),
        }
    }
}

fn plan(arguments: &Arguments) -> Result<Plan, Box<dyn Error>> {
    let Arguments { connections, messages, size, window, mode, placed, runs, quick, .. } = *arguments;
    let refused = connections == 0 || connections > MAX_CONNECTIONS || messages == 0 || runs == 0;
    if refused || window == 0 || window > MAX_WINDOW {
        return Err(format!(
            "--messages and --runs need at least 1, --connections 1 to {MAX_CONNECTIONS}, --window 1 to {MAX_WINDOW}"
        )
        .into());
    }
    let plan = Plan { connections, messages, size, window, mode, placed };
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
    let ways = ways(arguments, &plan);
    let stolen_before = steal_ticks();
    let mut results: Vec<Results> = ways.iter().map(|_| Results::default()).collect();
    for _ in 0..arguments.runs {
        for (way, results) in ways.iter().zip(&mut results) {
            results.add(way.measure(&plan)?);
        }
    }
    let (ring, others) = results.split_first().ok_or("nothing measured")?;
    let mut result = json!({
        "bench": "many", "layer": if arguments.layer == Layer::Call { "call" } else { "stream" },
        "connections": plan.connections, "messages": plan.messages, "size": plan.size, "window": plan.window,
        "mode": plan.mode.name(), "placed": plan.placed, "runs": arguments.runs,
        "lost": ring.lost, "reordered": ring.reordered,
        "msgs_per_s": median(&ring.speeds).round(),
        "p50_ns": median(&ring.p50_ns), "p99_ns": median(&ring.p99_ns),
        "msgs_per_s_of_runs": ring.speeds.iter().map(|speed| speed.round()).collect::<Vec<_>>(),
    });
    for (way, other) in ways[1..].iter().zip(others) {
        let name = way.name().replace('-', "_");
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

/// The one measured, and those beside it.
fn ways(arguments: &Arguments, plan: &Plan) -> Vec<Way> {
    let measured = if arguments.layer == Layer::Call { Way::Call } else { Way::Ring };
    let beside: &[Way] = match arguments.peer {
        Peer::Plain => &[Way::Socket, Way::Mailbox],
        Peer::Batched => &[Way::SocketBatched, Way::Mailbox],
        Peer::Both => &[Way::Socket, Way::SocketBatched, Way::Mailbox],
        Peer::Mailbox => &[Way::Mailbox],
        Peer::None => &[],
    };
    let wanted = |way: &Way| *way != Way::Mailbox || arguments.peer == Peer::Mailbox || Mailboxes::fit(plan);
    std::iter::once(measured).chain(beside.iter().copied().filter(wanted)).collect()
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
    fn add(&mut self, outcome: Outcome) {
        self.speeds.push(outcome.per_second());
        self.p50_ns.push(outcome.latency.value_at_quantile(0.5) as f64);
        self.p99_ns.push(outcome.latency.value_at_quantile(0.99) as f64);
        self.lost += outcome.lost;
        self.reordered += outcome.reordered;
        self.error = self.error.take().or(outcome.error);
    }
}

/// One run of the library's server and clients: the plan's requests over and over until `at_least` has passed.
pub fn measure_calls(plan: &Plan, at_least: Duration) -> Result<Outcome, Box<dyn Error>> {
    one_run::<Called>(Way::Call, plan, at_least)
}

/// One run of bare futex mailboxes, each for a window at a time.
pub fn measure_mailboxes(plan: &Plan) -> Result<Outcome, Box<dyn Error>> {
    Way::Mailbox.measure(plan)
}

fn one_run<T: Transport>(way: Way, plan: &Plan, at_least: Duration) -> Result<Outcome, Box<dyn Error>> {
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let arguments = plan.to_arguments();
    let mut peer = spawn_heard(
        ["peer", "bench", "many", way.name(), path].into_iter().chain(arguments.iter().map(String::as_str)),
    )?;
    let address = peer.hear()?;
    let clients = T::connect(plan, address.trim_end(), 0..plan.connections)?;
    let outcome = load::run(plan, at_least, clients)?;
    if outcome.error.is_none() {
        peer.join()?;
    }
    Ok(outcome)
}

/// The server process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    match arguments.way {
        Way::Call => serve::<Called>(arguments),
        Way::Ring => serve::<Ring>(arguments),
        Way::Socket => serve::<Plain>(arguments),
        Way::SocketBatched => serve::<Socket>(arguments),
        Way::Mailbox => serve::<Mailboxes>(arguments),
    }
}

fn serve<T: Transport>(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let (server, address) = T::listen(&arguments.plan, &arguments.directory)?;
    say(&address)?;
    server.serve(&arguments.plan)
}
