//! `stress connections`: a thousand connections at once, each as fast as it can.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use super::verdict::Verdict;
use super::{Form, Options};
use crate::bench::many::{Outcome, Plan, measure_calls, measure_mailboxes};
use crate::bench::mode::Mode;

const PAYLOAD_BYTES: usize = 1 << 10;
const WINDOW: usize = 16;
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
    let first = plan(WINDOW, messages);
    let (mut sustained, mut outcome) = (first, measure_calls(&first)?);
    verdict.tell(format_args!("{messages} requests on each: {:.0} answered/s", speed(&first, &outcome)));
    // What two processes reach that only copy and wake: on a slow host it is less than the bar.
    let bare = measure_mailboxes(&first)?;
    let one_by_one = plan(1, messages / 5);
    let slow = measure_calls(&one_by_one)?;
    if options.form() == Form::Full {
        let each = u128::from(messages) * FULL.as_micros() / outcome.elapsed.as_micros().max(1);
        sustained = plan(WINDOW, u64::try_from(each)?);
        outcome = measure_calls(&sustained)?;
    }
    verdict.note("connections", connections);
    verdict.note("requests_on_each", sustained.messages);
    verdict.note("payload_bytes", PAYLOAD_BYTES);
    verdict.note("window", WINDOW);
    verdict.note("seconds", outcome.elapsed.as_secs_f64());
    verdict.note("p50_us", outcome.latency.value_at_quantile(0.5) / 1000);
    verdict.note("p99_us", outcome.latency.value_at_quantile(0.99) / 1000);
    verdict.note("slowest_us", outcome.latency.max() / 1000);
    verdict.note("answered_per_s_by_bare_futexes", speed(&first, &bare).round());
    verdict.note("answered_per_s_with_window_1", speed(&one_by_one, &slow).round());
    verdict.note("p50_us_with_window_1", slow.latency.value_at_quantile(0.5) / 1000);
    for error in [&outcome.error, &slow.error].into_iter().flatten() {
        verdict.tell(format_args!("a connection: {error}"));
    }
    verdict.at_most("lost", (outcome.lost + slow.lost) as f64, 0.0);
    verdict.at_most("out_of_order", (outcome.reordered + slow.reordered) as f64, 0.0);
    verdict.above_in_release("answered_per_s", speed(&sustained, &outcome), REQUESTS_PER_S);
    verdict.finish()
}

/// Requests answered in a second.
fn speed(plan: &Plan, outcome: &Outcome) -> f64 {
    let answered = plan.messages * u64::from(plan.connections) - outcome.lost;
    answered as f64 / outcome.elapsed.as_secs_f64()
}
