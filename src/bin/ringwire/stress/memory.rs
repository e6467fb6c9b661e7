//! `stress memory`: hundreds of connections that want more buffers than there are, and what the server's memory comes to.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::sync::Counter;
use ringwire::{Client, Status};
use serde_json::json;

use super::Options;
use super::payload::{fill, sum};
use super::server::{Footprint, SUM, SUM_HELD, SUM_STREAMED, Served};
use super::verdict::Verdict;
use crate::bench::procfs::status_kib;
use crate::private_directory::PrivateDirectory;

const STACK_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_SAMPLES: Duration = Duration::from_millis(200);
const SMALL_RING_BYTES: u32 = 4 << 10;
const SMALL_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 1 << 20;
/// Of the tiers that are kept, and of the buffer that is mapped when lent.
const BUDGET_KIB: f64 = 512.0;
const LARGE_KIB: f64 = 1024.0;
const REST_KIB: f64 = 3.0 * 1024.0;
const WHOLE_KIB: f64 = 4.0 * 1024.0;

/// Connections that do the same.
#[derive(Clone, Copy)]
struct Group {
    connections: u64,
    messages: u64,
    bytes: usize,
    message_type: u16,
    ring_bytes: u32,
}

/// Runs it.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let seed = options.seed();
    let mut verdict = Verdict::new("memory", options, seed);
    let directory = PrivateDirectory::create()?;
    let (small, large) =
        options.form().choose(((60, 20), (10, 2)), ((500, 100), (100, 10)), ((500, 1000), (100, 500)));
    let group = |(connections, messages), bytes, message_type, ring_bytes| Group {
        connections,
        messages,
        bytes,
        message_type,
        ring_bytes,
    };
    // Through rings that do not hold them, so that each has to be put together in a buffer; some with a byte more than the
    // smallest buffers have, so that no tier is left out.
    let (connections, messages) = small;
    let more = connections / 40;
    let all = [
        group((connections - more, messages), SMALL_BYTES, SUM_HELD, SMALL_RING_BYTES),
        group((more, messages), SMALL_BYTES + 1, SUM_HELD, SMALL_RING_BYTES),
        group(large, LARGE_BYTES, SUM, 64 << 10),
    ];
    let exhausted = observe(&directory.path().join("all.sock"), &all, seed, &verdict)?;
    exhausted.report(&mut verdict);
    let part = options.form().choose(20, 4, 1);
    let calm = [
        group((80, 1000 / part), SMALL_BYTES, SUM, SMALL_RING_BYTES),
        group((20, 40_u64.div_ceil(part)), LARGE_BYTES, SUM_STREAMED, SMALL_RING_BYTES),
    ];
    let calm = observe(&directory.path().join("calm.sock"), &calm, seed, &verdict)?;
    verdict.note("calm_whole_kib", calm.peak.whole);
    verdict.note("calm_large_buffer_kib", calm.peak.large);
    verdict.below_in_release(
        "whole_of_100_connections_without_large_buffer_kib",
        calm.peak.whole as f64,
        WHOLE_KIB,
    );
    verdict.at_most("wrong_answers", (exhausted.wrong + calm.wrong) as f64, 0.0);
    verdict.at_most("unanswered", (exhausted.unanswered + calm.unanswered) as f64, 0.0);
    verdict.at_most("buffers_left_over", (exhausted.left_over + calm.left_over) as f64, 0.0);
    verdict.finish()
}

/// KiB of a server, each the most at any moment.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    whole: u64,
    stacks: u64,
    segments: u64,
    heap: u64,
    /// Everything but stacks and segments.
    rest: u64,
    kept: u64,
    large: u64,
    lent: u64,
    rss: u64,
}

impl Peak {
    fn of(served: &Served, client: &mut Client) -> Result<Self, Box<dyn Error>> {
        let status = Served::status(client)?;
        let memory = Footprint::of(served.peer.id())?.memory;
        let number = |name: &str| status[name].as_u64().unwrap_or(u64::MAX);
        Ok(Self {
            whole: memory.total_kib(),
            stacks: memory.stacks_kib,
            segments: memory.segment_kib,
            heap: memory.heap_kib,
            rest: memory.private_kib - memory.stacks_kib,
            kept: number("kept_bytes") >> 10,
            large: number("large_bytes") >> 10,
            lent: number("lent"),
            rss: status_kib(served.peer.id(), "VmRSS:"),
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            whole: self.whole.max(other.whole),
            stacks: self.stacks.max(other.stacks),
            segments: self.segments.max(other.segments),
            heap: self.heap.max(other.heap),
            rest: self.rest.max(other.rest),
            kept: self.kept.max(other.kept),
            large: self.large.max(other.large),
            lent: self.lent.max(other.lent),
            rss: self.rss.max(other.rss),
        }
    }
}

/// What was seen.
struct Seen {
    idle: Peak,
    peak: Peak,
    samples: u32,
    answered: u64,
    refused: u64,
    wrong: u64,
    unanswered: u64,
    left_over: u64,
    seconds: f64,
}

impl Seen {
    fn report(&self, verdict: &mut Verdict) {
        let (idle, peak) = (self.idle, self.peak);
        verdict.note("answered", self.answered);
        verdict.note("refused_for_want_of_a_buffer", self.refused);
        verdict.note("seconds", self.seconds.round());
        verdict.note("samples", self.samples);
        verdict.note("idle_kib", idle.whole);
        verdict.note("whole_kib", peak.whole);
        verdict.note("rss_kib", peak.rss);
        verdict.note(
            "growth_kib",
            json!({
                "stacks": peak.stacks - idle.stacks, "segments": peak.segments - idle.segments,
                "pools": peak.kept + peak.large, "heap": peak.heap.saturating_sub(idle.heap),
                "rest_with_pools_and_heap": peak.rest.saturating_sub(idle.rest),
            }),
        );
        verdict.note("buffers_lent_at_once", peak.lent);
        verdict.at_most("pool_kept_kib", peak.kept as f64, BUDGET_KIB);
        verdict.at_most("pool_large_kib", peak.large as f64, LARGE_KIB);
        verdict.below("all_but_stacks_and_segments_kib", peak.rest as f64, REST_KIB);
    }
}

/// Has all connections of all `groups` at work at once, and looks at the server meanwhile.
fn observe(socket: &Path, groups: &[Group], seed: u64, verdict: &Verdict) -> Result<Seen, Box<dyn Error>> {
    let served = Served::start(socket, &[])?;
    let mut client = served.client()?;
    let idle = Peak::of(&served, &mut client)?;
    let (ended, started) = (Arc::new(Counter::new(0)), Instant::now());
    let connections: u64 = groups.iter().map(|group| group.connections).sum();
    // All are there from the first request to the last.
    let together = Arc::new(Barrier::new(usize::try_from(connections)?));
    let mut threads = Vec::new();
    for group in groups {
        for number in 0..group.connections {
            let (group, socket) = (*group, socket.to_owned());
            let (ended, together) = (Arc::clone(&ended), Arc::clone(&together));
            threads.push(
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn(move || work(&socket, group, seed ^ number, &ended, &together))?,
            );
        }
    }
    let (mut peak, mut samples) = (idle, 0);
    while ended.get() < threads.len() as u64 {
        peak = peak.max(Peak::of(&served, &mut client)?);
        samples += 1;
        thread::sleep(BETWEEN_SAMPLES);
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut seen =
        Seen { idle, peak, samples, answered: 0, refused: 0, wrong: 0, unanswered: 0, left_over: 0, seconds };
    for thread in threads {
        let work = thread.join().map_err(|_| "a client panicked")?;
        seen.answered += work.answered;
        seen.refused += work.refused;
        seen.wrong += work.wrong;
        if let Some(error) = work.error {
            seen.unanswered += 1;
            verdict.tell(format_args!("a client: {error}"));
        }
    }
    Served::settle(&mut client, 1, PATIENCE)?;
    seen.left_over = Served::status(&mut client)?["lent"].as_u64().unwrap_or(u64::MAX);
    drop(client);
    served.stop()?;
    Ok(seen)
}

#[derive(Default)]
struct Work {
    answered: u64,
    refused: u64,
    wrong: u64,
    error: Option<String>,
}

/// One connection's messages, each sent again until there is a buffer for it.
fn work(socket: &Path, group: Group, number: u64, ended: &Counter, together: &Barrier) -> Work {
    let mut work = Work::default();
    let connector = Client::builder(socket).ring_bytes(group.ring_bytes).timeout(PATIENCE);
    let mut client = connector.call_timeout(Some(PATIENCE)).connect();
    together.wait();
    let sent = client
        .as_mut()
        .map_err(|error| error.to_string())
        .and_then(|client| send_all(client, group, number, &mut work).map_err(|error| error.to_string()));
    work.error = sent.err();
    together.wait();
    ended.add(1);
    work
}

fn send_all(client: &mut Client, group: Group, number: u64, work: &mut Work) -> Result<(), ringwire::Error> {
    let mut payload = vec![0; group.bytes];
    fill(&mut payload, number, 0);
    let expected = sum(0, &payload).to_ne_bytes();
    while work.answered + work.wrong < group.messages {
        let answer = if group.message_type == SUM_STREAMED {
            client.call_streaming(SUM_STREAMED, &payload)?.next().unwrap_or(Ok(Vec::new()))
        } else {
            client.call(group.message_type, &payload).map(|reply| reply.to_vec())
        };
        match answer {
            Ok(answer) if answer == expected => work.answered += 1,
            Ok(_) => work.wrong += 1,
            Err(error) if error.status() == Some(Status::ResourceExhausted) => work.refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
