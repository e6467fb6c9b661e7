//! [`Threads`]: a cache of the threads that serve connections.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

/// What a thread does for one connection, from the first message to the last.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How the threads of a [`Threads`] are, and how many of them wait for work.
#[derive(Clone, Debug)]
pub(crate) struct ThreadsConfig {
    /// Stack of each thread, in bytes. Address space: only the pages that are touched count as memory.
    pub(crate) stack_bytes: usize,
    /// Each thread's name begins with this; a number follows. The kernel shows the first 15 bytes.
    pub(crate) name_prefix: String,
    /// How many threads wait for work; one that finds as many waiting ends.
    pub(crate) max_idle: usize,
    /// How long a thread waits for work before it ends.
    pub(crate) idle_timeout: Duration,
    /// Called by an ending thread when many have ended and none works or none waits any more, or very many have: the moment to give
    /// back to the system what the allocator holds for them.
    pub(crate) when_shrunk: Option<fn()>,
}

/// So many threads that have ended since the last time are worth a call of `when_shrunk`, if none works or none is idle.
const MANY_ENDED: usize = 32;
/// So many are, in any case.
const VERY_MANY_ENDED: usize = 256;

impl Default for ThreadsConfig {
    fn default() -> Self {
        Self {
            stack_bytes: 256 << 10,
            name_prefix: "ringwire".to_owned(),
            max_idle: 64,
            idle_timeout: Duration::from_secs(10),
            when_shrunk: None,
        }
    }
}

/// How many threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadCounts {
    /// All that have been started and have not ended.
    pub(crate) alive: usize,
    /// Those that wait for work.
    pub(crate) idle: usize,
    /// Those that have work, or are [`Reserved`] for it.
    pub(crate) busy: usize,
}

/// A cache of threads: who has served a connection waits some seconds for the next one.
///
/// The thread that became idle last is taken first: its stack is still in the caches, and those that a burst has left
/// over reach their timeout undisturbed. Dropped, it ends the idle threads; the busy ones end with their work.
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    config: ThreadsConfig,
    state: Mutex<State>,
    /// Signalled when a thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The one that has waited longest is the first.
    idle: VecDeque<Arc<Seat>>,
    alive: usize,
    busy: usize,
    closing: bool,
    started: u64,
    /// Since the last call of `when_shrunk`.
    ended: usize,
    /// The thread that ended last. It joins the one before it, so whoever joins this one has joined them all; and an
    /// ended thread's stack is given back without anybody who would have to look after it.
    last_ended: Option<JoinHandle<()>>,
}

/// Where one thread waits. Locked after `Shared::state` where both are.
struct Seat {
    place: Mutex<Place>,
    wake: Condvar,
}

struct Place {
    order: Order,
    job: Option<Job>,
    /// Its own. There before anybody can order it to end.
    handle: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Order {
    /// Wait for a job that is sure to come, or for another order.
    Stay,
    /// Wait for a job until then; `None` is for ever.
    Idle(Option<Instant>),
    End,
}

enum Next {
    Job(Job),
    Expired,
    End,
}

impl Threads {
    /// A cache without threads; they are started when they are needed.
    pub(crate) fn new(mut config: ThreadsConfig) -> Self {
        config.name_prefix.retain(|character| character != '\0'); // std panics over a name with one
        Self { shared: Arc::new(Shared { config, state: Mutex::default(), ended: Condvar::new() }) }
    }

    /// Takes an idle thread, or starts one: for a connection that is not yet welcomed.
    ///
    /// # Errors
    /// The operating system's, if it starts no further thread; [`io::ErrorKind::Other`] after [`shut_down`](Self::shut_down).
    pub(crate) fn reserve(&self) -> io::Result<Reserved> {
        let number = {
            let mut state = self.shared.lock();
            if state.closing {
                return Err(io::Error::other("the server is shutting down"));
            }
            state.busy += 1;
            if let Some(seat) = state.idle.pop_back() {
                lock(&seat.place).order = Order::Stay; // no wake: at its timeout it finds this order
                return Ok(Reserved { shared: Arc::clone(&self.shared), seat: Some(seat) });
            }
            state.alive += 1;
            state.started += 1;
            state.started
        };
        let seat = self.shared.start(number).inspect_err(|_| {
            let mut state = self.shared.lock();
            state.busy -= 1;
            state.alive -= 1;
            self.shared.ended.notify_all();
        })?;
        Ok(Reserved { shared: Arc::clone(&self.shared), seat: Some(seat) })
    }

    /// How many threads there are now.
    pub(crate) fn counts(&self) -> ThreadCounts {
        let state = self.shared.lock();
        ThreadCounts { alive: state.alive, idle: state.idle.len(), busy: state.busy }
    }

    /// Starts no further thread, ends the idle ones, waits for the busy ones until `deadline` (`None`: as long as it
    /// takes), and joins all that have ended. Says how many are left: they end with their work, and a further call
    /// waits for them.
    ///
    /// Called from one of its own threads it waits until the deadline, for that thread too.
    pub(crate) fn shut_down(&self, deadline: Option<Instant>) -> usize {
        let mut state = self.shared.lock();
        state.closing = true;
        for seat in mem::take(&mut state.idle) {
            seat.order(Order::End);
        }
        while state.alive > 0 {
            // Those that are just ending are waited for in any case: that takes no longer than they need.
            let left = deadline.filter(|_| state.alive == state.busy);
            match left.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => state = wait(&self.shared.ended, state),
                Some(Duration::ZERO) => break,
                Some(left) => state = wait_for(&self.shared.ended, state, left),
            }
        }
        let left = state.alive;
        let last_ended = state.last_ended.take();
        drop(state);
        join(last_ended);
        left
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shut_down(Some(Instant::now()));
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads")
            .field("config", &self.shared.config)
            .field("counts", &self.counts())
            .finish()
    }
}

/// A thread that waits for one job. Dropped without, it is idle again.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    /// Gone once it has its job.
    seat: Option<Arc<Seat>>,
}

impl Reserved {
    /// Has the thread do `job`; then it waits for the next one. A panic of the job is logged and goes no further.
    pub(crate) fn run(mut self, job: Job) {
        if let Some(seat) = self.seat.take() {
            lock(&seat.place).job = Some(job);
            seat.wake.notify_one();
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        if !self.shared.take_back(&seat) {
            lock(&seat.place).order = Order::End;
        }
        seat.wake.notify_one();
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn start(self: &Arc<Self>, number: u64) -> io::Result<Arc<Seat>> {
        let place = Place { order: Order::Stay, job: None, handle: None };
        let seat = Arc::new(Seat { place: Mutex::new(place), wake: Condvar::new() });
        let handle = thread::Builder::new()
            .name(format!("{}-{number}", self.config.name_prefix))
            .stack_size(self.config.stack_bytes)
            .spawn({
                let (shared, seat) = (Arc::clone(self), Arc::clone(&seat));
                move || shared.live(&seat)
            })?;
        lock(&seat.place).handle = Some(handle);
        Ok(seat)
    }

    /// The life of a thread. A job's stack begins here: what is not called from a job is not to widen this frame.
    fn live(&self, seat: &Arc<Seat>) {
        loop {
            let stays = match seat.next() {
                Next::Job(job) => {
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                        report(payload);
                    }
                    self.take_back(seat)
                }
                Next::Expired => !self.withdraw(seat),
                Next::End => false,
            };
            if !stays {
                return self.leave(seat);
            }
        }
    }

    #[inline(never)]
    fn leave(&self, seat: &Seat) {
        let handle = lock(&seat.place).handle.take();
        let (before, shrunk) = {
            let mut state = self.lock();
            state.alive -= 1;
            state.ended += 1;
            // Nobody works: a burst of connections is over, even if some threads wait for the next.
            let is_over = state.busy == 0 || state.idle.is_empty();
            let enough = if is_over { MANY_ENDED } else { VERY_MANY_ENDED };
            let shrunk = state.ended >= enough;
            if shrunk {
                state.ended = 0;
            }
            (mem::replace(&mut state.last_ended, handle), shrunk)
        };
        self.ended.notify_all();
        join(before);
        if let (true, Some(when_shrunk)) = (shrunk, self.config.when_shrunk) {
            when_shrunk();
        }
    }

    /// Makes a busy thread an idle one; says whether it may stay.
    #[inline(never)]
    fn take_back(&self, seat: &Arc<Seat>) -> bool {
        let mut state = self.lock();
        state.busy -= 1;
        let stays = !state.closing && state.idle.len() < self.config.max_idle;
        if stays {
            lock(&seat.place).order = Order::Idle(Instant::now().checked_add(self.config.idle_timeout));
            state.idle.push_back(Arc::clone(seat));
        }
        stays
    }

    /// Takes a thread whose time is over out of the idle ones; says whether it was still there.
    #[inline(never)]
    fn withdraw(&self, seat: &Arc<Seat>) -> bool {
        let mut state = self.lock();
        let found = state.idle.iter().position(|other| Arc::ptr_eq(other, seat));
        found.and_then(|at| state.idle.remove(at)).is_some()
    }
}

impl Seat {
    fn order(&self, order: Order) {
        lock(&self.place).order = order;
        self.wake.notify_one();
    }

    /// Sleeps until there is something to do.
    #[inline(never)]
    fn next(&self) -> Next {
        let mut place = lock(&self.place);
        loop {
            if let Some(job) = place.job.take() {
                return Next::Job(job);
            }
            match place.order {
                Order::End => return Next::End,
                Order::Stay | Order::Idle(None) => place = wait(&self.wake, place),
                Order::Idle(Some(until)) => match until.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return Next::Expired,
                    left => place = wait_for(&self.wake, place, left),
                },
            }
        }
    }
}

#[cold]
#[inline(never)]
fn report(payload: Box<dyn Any + Send>) {
    let name = thread::current().name().unwrap_or("a thread").to_owned();
    log::error!("{name} goes on after a panic outside of any handler: {}", text(&*payload));
    // What the panic carries may itself panic when it is dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        mem::forget(again);
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

fn join(thread: Option<JoinHandle<()>>) {
    // Not an error to report: jobs do not unwind into the thread.
    let _ = thread.map(JoinHandle::join);
}

/// No code that could panic runs under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
}
