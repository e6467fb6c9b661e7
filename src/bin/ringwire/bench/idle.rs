//! `bench idle`: what connections cost on which nothing happens, as a third process reads it.

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::limits::QUICK;
use super::machine::raise_descriptor_limit;
use super::many::{Called, Connection, Plan, Transport, spawn_all};
use super::mode::Mode;
use super::procfs::Activity;
use super::report::print;
use crate::child::{say, spawn_heard};
use crate::private_directory::PrivateDirectory;

/// After the last message; an idle connection is on the lifeline after 10 ms.
const SETTLE: Duration = Duration::from_secs(1);

/// `bench idle`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Connections, each with a thread on either side
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// How long to watch, after one second of rest
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// A hundredth of the time: to try it out, not to quote
    #[arg(long)]
    quick: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// What the second and the third process are told.
#[derive(Args, Debug)]
pub struct PeerArguments {
    directory: PathBuf,
    connections: u32,
    /// Where the server is, for the clients
    address: Option<String>,
}

fn plan(connections: u32) -> Plan {
    Plan { connections, messages: 1, size: 64, window: 1, mode: Mode::Adaptive, placed: false }
}

/// Watches.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.connections == 0 || arguments.seconds == 0 {
        return Err("--connections and --seconds need at least 1".into());
    }
    raise_descriptor_limit()?;
    let part = if arguments.quick { QUICK } else { 1 };
    let directory = PrivateDirectory::create()?;
    let path = directory.path().to_str().ok_or("temporary directory with a name that is not UTF-8")?;
    let connections = arguments.connections.to_string();
    let mut server = spawn_heard(["peer", "bench", "idle", path, &connections])?;
    let address = server.hear()?;
    let mut clients = spawn_heard(["peer", "bench", "idle", path, &connections, address.trim_end()])?;
    clients.hear()?;
    let read = || Ok::<_, Box<dyn Error>>(Activity::of(server.id())?.and(Activity::of(clients.id())?));
    thread::sleep(SETTLE / part);
    let before = read()?;
    thread::sleep(Duration::from_secs(arguments.seconds) / part);
    let after = read()?;
    if after.threads != before.threads {
        return Err(format!(
            "{} threads at first, {} in the end: somebody did not wait",
            before.threads, after.threads
        )
        .into());
    }
    let result = json!({
        "bench": "idle", "layer": "call", "connections": arguments.connections, "seconds": arguments.seconds,
        "threads": after.threads, "wakeups": after.switches() - before.switches(),
        "voluntary": after.voluntary - before.voluntary, "involuntary": after.involuntary - before.involuntary,
        "cpu_ms": after.cpu_ms - before.cpu_ms,
    });
    print(arguments.json, &result)?;
    Ok(())
}

/// Both sides wait until this process ends them.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let plan = plan(arguments.connections);
    match &arguments.address {
        None => {
            // Not Called::serve, which looks around now and then.
            let path = arguments.directory.join("idle.sock");
            let server = Called::builder(&plan, &path)?.build()?;
            say(path.to_str().ok_or("temporary directory with a name that is not UTF-8")?)?;
            Ok(server.serve()?)
        }
        Some(address) => wait_as_clients(&plan, address),
    }
}

/// Each client exchanges one message, then waits for another that does not come.
fn wait_as_clients(plan: &Plan, address: &str) -> Result<(), Box<dyn Error>> {
    let (answered, heard) = std::sync::mpsc::channel();
    let watcher = thread::spawn({
        let connections = plan.connections as usize;
        move || {
            if heard.iter().take(connections).count() == connections {
                // Nobody listens any more: then this process is about to end.
                let _ = say("idle");
            }
        }
    });
    let mut connections = Called::connect(plan, address, 0..plan.connections)?;
    let ended = spawn_all(plan.connections, false, |_| {
        let mut connection = connections.pop().ok_or("as many connections as threads")?;
        let answered = answered.clone();
        Ok(move || {
            connection.submit(0..1, |_, payload| payload.fill(7))?;
            connection.collect(|_, _| ())?;
            answered.send(())?;
            drop(answered);
            connection.rest()
        })
    });
    drop(answered);
    watcher.join().map_err(|_| "the watcher panicked")?;
    ended
}
