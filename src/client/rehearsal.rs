//! Rehearsal: calls that keep the way of a call fresh until the one that matters.

use std::hint;
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

/// Some fifty round trips of the latency class: beside a thousand busy threads, and 60 ms after the last call, fewer leave one in
/// a hundred longer than 10 us.
const LEAD: Duration = Duration::from_micros(300);

/// Sleeps until shortly before `at`, then makes the call that `rehearse` makes again and again, and returns at `at`: for
/// a thread that knows when it will call next, and to which the first microseconds matter.
///
/// A call that comes a millisecond after the last finds a cold way: what it needs has left the caches of the core, the
/// memory of its branches and of its pages, on both sides (in the latency class 4 to 5 us in a loop become 6 to 12, after
/// 60 ms 20). Rehearsed for 300 us it takes what it takes in a loop, whether the server's thread sleeps meanwhile or
/// [keeps its core](crate::server::ServerBuilder::latency_busy_poll). `ringwire bench latency` measures it.
///
/// `rehearse` makes a call that has no effect and is like the one to come, above all in its length: of the same type if
/// the server has a way to leave out the effect, otherwise an [`ECHO`](super::ECHO). To the server each is a request like
/// others: handlers, middleware, counters and rate limits see it. None is begun that would end behind `at` though it took
/// no longer than the shortest before it; for what is then left the thread keeps its core. If `at` has passed, none is
/// made.
///
/// # Errors
/// The first of `rehearse`, at once.
///
/// # Examples
/// ```no_run
/// use std::time::{Duration, Instant};
///
/// use ringwire::Client;
/// use ringwire::client::{ECHO, rehearse_until};
///
/// const MIX: u16 = 7;
/// let mut client = Client::connect("/run/user/1000/audio.sock")?;
/// let (period, block, mut mixed) = (Duration::from_millis(5), [0; 960], Vec::new());
/// let mut due = Instant::now();
/// loop {
///     due += period;
///     rehearse_until(due, || client.call_into(ECHO, &block, &mut mixed).map(drop))?;
///     client.call_into(MIX, &block, &mut mixed)?;
/// }
/// # Ok::<(), ringwire::Error>(())
/// ```
pub fn rehearse_until<E>(at: Instant, mut rehearse: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    thread::sleep(at.saturating_duration_since(Instant::now()).saturating_sub(LEAD));
    let mut now = Instant::now();
    let mut shortest = None;
    // The first one in any case: nobody knows yet how long it takes.
    while shortest.unwrap_or_default() < at.saturating_duration_since(now) {
        rehearse()?;
        let began = mem::replace(&mut now, Instant::now());
        let took = now - began;
        shortest = Some(shortest.map_or(took, |shortest: Duration| shortest.min(took)));
    }
    while Instant::now() < at {
        hint::spin_loop();
    }
    Ok(())
}
