//! `stress connections`: a thousand connections at once, each as fast as it can.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use super::verdict::Verdict;
use super::{Form, Options};
use crate::bench::many::{Plan, measure_calls, measure_mailboxes};
use crate::bench::mode::Mode;

const PAYLOAD_BYTES: usize = 1 << 10;
const WINDOW: usize = 16;
/// The full form sends on for so long.
const FULL: Duration = Duration::from_secs(300);
const REQUESTS_PER_S: f64 = 1_000_000.0;

/// Runs it.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut verdict = Verdict::new("connections", options, options.seed());
    let (connections, messages) = options.form().choose((100, 100), (1000, 5000), (1000, 5000));
    let plan = |window, messages| Plan {
        connections,
        messages,
        size: PAYLOAD_BYTES,
        window,
        mode: Mode::Block,
        placed: false,
    };
    let pipelined = plan(WINDOW, messages);
    let mut outcome = measure_calls(&pipelined, Duration::ZERO)?;
    verdict.tell(format_args!("{messages} requests on each: {:.0} answered/s", outcome.per_second()));
    // What two processes reach that only copy and wake: on a slow host it is less than the bar.
    let bare = measure_mailboxes(&pipelined)?;
    let slow = measure_calls(&plan(1, messages / 5), Duration::ZERO)?;
    if options.form() == Form::Full {
        outcome = measure_calls(&pipelined, FULL)?;
    }
    verdict.note("connections", connections);
    verdict.note("requests_on_each", outcome.requests / u64::from(connections));
    verdict.note("payload_bytes", PAYLOAD_BYTES);
    verdict.note("window", WINDOW);
    verdict.note("seconds", outcome.elapsed.as_secs_f64());
    verdict.note("p50_us", outcome.latency.value_at_quantile(0.5) / 1000);
    verdict.note("p99_us", outcome.latency.value_at_quantile(0.99) / 1000);
    verdict.note("slowest_us", outcome.latency.max() / 1000);
    verdict.note("answered_per_s_by_bare_futexes", bare.per_second().round());
    verdict.note("answered_per_s_with_window_1", slow.per_second().round());
    verdict.note("p50_us_with_window_1", slow.latency.value_at_quantile(0.5) / 1000);
    for error in [&outcome.error, &slow.error].into_iter().flatten() {
        verdict.tell(format_args!("a connection: {error}"));
    }
    verdict.at_most("lost", (outcome.lost + slow.lost) as f64, 0.0);
    verdict.at_most("out_of_order", (outcome.reordered + slow.reordered) as f64, 0.0);
    verdict.above_in_release("answered_per_s", outcome.per_second(), REQUESTS_PER_S);
    verdict.finish()
}
