//! [`Shared`]: lending and giving back, opening and closing.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::book::{Book, Why};
use super::clock;
use super::connection::{Care, Connection};
use super::waiter::{Given, Waiter, lock};
use crate::client::connection::Client;
use crate::error::{Error, ErrorKind};
use crate::transport::Deadline;

/// Opens a connection, by a deadline.
pub(super) type Connect = dyn Fn(Deadline) -> Result<Client, Error> + Send + Sync;

/// How many connections a caller closes on the way, at the most, where there is no other maintenance.
const SWEEP_LIMIT: usize = 4;

/// What the builder chose.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// For error messages: whose connections these are.
    pub(super) name: String,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) max_waiting: usize,
    pub(super) acquire_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) check_after: Duration,
    pub(super) check_interval: Option<Duration>,
    pub(super) check_timeout: Duration,
    pub(super) maintenance_interval: Duration,
}

/// The pool, for its handles, for what is lent, and for the maintenance thread.
pub(super) struct Shared {
    pub(super) book: Mutex<Book>,
    pub(super) settings: Settings,
    check_after_ns: u64,
    pub(super) maintenance_interval_ns: u64,
    connect: Box<Connect>,
}

/// The right to open a connection. Passed on if it is not used.
pub(super) struct Right<'p> {
    shared: &'p Shared,
    is_used: bool,
}

/// What a caller does next.
enum Step {
    Check(Box<Connection>, Care),
    Open,
    Wait(Arc<Waiter>),
}

impl Shared {
    pub(super) fn new(settings: Settings, connect: Box<Connect>) -> Self {
        let check_after_ns = clock::ns(settings.check_after);
        let maintenance_interval_ns = clock::ns(settings.maintenance_interval);
        Self { book: Mutex::default(), settings, check_after_ns, maintenance_interval_ns, connect }
    }

    /// An idle connection that needs no care; whoever waits has precedence.
    #[inline]
    pub(super) fn acquire_ready(&self) -> Option<Box<Connection>> {
        let now_ns = clock::now_ns();
        let mut connection = {
            let mut book = lock(&self.book);
            let broken = book.broken();
            let latest = book.latest_idle()?;
            if latest.care(now_ns, self.check_after_ns, broken) != Care::Nothing {
                return None;
            }
            let connection = book.take_idle()?;
            book.count_lent(None);
            connection
        };
        if connection.is_at_rest() || connection.settle() {
            return Some(connection);
        }
        self.return_unlent(connection);
        None
    }

    /// A connection that looked good turned out not to be, before anybody had it.
    #[cold]
    fn return_unlent(&self, connection: Box<Connection>) {
        lock(&self.book).uncount_lent();
        let why = if connection.is_over() { Why::Broken } else { Why::Unsettled };
        self.remove(connection, why);
    }

    /// As long as it takes, until `deadline`.
    #[cold]
    pub(super) fn acquire_slowly(&self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        let asked = Instant::now();
        let mut was_refused = false;
        loop {
            let right = match self.next_step(asked, deadline, was_refused)? {
                Step::Check(connection, care) => match self.good_or_right(connection, care, deadline) {
                    Ok(connection) => {
                        let waited = (care != Care::Nothing).then_some(asked);
                        lock(&self.book).count_lent(waited);
                        return Ok(connection);
                    }
                    Err(right) => right,
                },
                Step::Open => Right::of(self),
                Step::Wait(waiter) => {
                    let given = waiter.wait(deadline);
                    match given.or_else(|| lock(&self.book).leave_queue(&waiter)) {
                        Some(Given::Connection(connection)) => return Ok(connection),
                        Some(Given::Slot) => Right::of(self),
                        Some(Given::Nothing) => return Err(self.closed_error()),
                        None => return Err(self.timed_out(asked)),
                    }
                }
            };
            match right.open(deadline) {
                Ok(connection) => {
                    lock(&self.book).count_lent(Some(asked));
                    return Ok(connection);
                }
                // The server's limit is lower than the pool's: then that is where callers wait.
                Err(error) if error.kind() == ErrorKind::TooManyConnections => {
                    let book = lock(&self.book);
                    // Others who only try to connect may end as this one does: no second time.
                    let has_others = if was_refused { book.has_connections() } else { book.slots() > 0 };
                    if !has_others {
                        return Err(error);
                    }
                    was_refused = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn next_step(&self, asked: Instant, deadline: Deadline, was_refused: bool) -> Result<Step, Error> {
        let now_ns = clock::now_ns();
        let mut book = lock(&self.book);
        if book.is_closed {
            return Err(self.closed_error());
        }
        if let Some(connection) = book.take_idle() {
            let care = connection.care(now_ns, self.check_after_ns, book.broken());
            return Ok(Step::Check(connection, care));
        }
        if deadline.has_passed() {
            book.timed_out += 1;
            drop(book);
            return Err(self.exhausted(ErrorKind::TimedOut, "is free", asked));
        }
        if !was_refused && book.waiting() == 0 && book.reserve(self.settings.max) {
            return Ok(Step::Open);
        }
        if book.waiting() >= self.settings.max_waiting {
            book.refused += 1;
            drop(book);
            return Err(self.exhausted(
                ErrorKind::ResourceExhausted,
                "is free, and the queue is full",
                asked,
            ));
        }
        Ok(Step::Wait(book.queue_up(asked)))
    }

    /// This idle connection, or the next that can be lent; else the right to open one in its place.
    fn good_or_right(
        &self,
        mut connection: Box<Connection>,
        mut care: Care,
        deadline: Deadline,
    ) -> Result<Box<Connection>, Right<'_>> {
        loop {
            let Err(why) = self.check(&mut connection, care, deadline) else { return Ok(connection) };
            let now_ns = clock::now_ns();
            let mut book = lock(&self.book);
            let Some(next) = book.replace(why) else {
                drop(book);
                return Err(Right::of(self));
            };
            care = next.care(now_ns, self.check_after_ns, book.broken());
            drop(book);
            connection = next;
        }
    }

    /// Gives an idle connection the care that it needs.
    ///
    /// # Errors
    /// Why it cannot be lent.
    pub(super) fn check(
        &self,
        connection: &mut Connection,
        care: Care,
        deadline: Deadline,
    ) -> Result<(), Why> {
        let broken = lock(&self.book).broken();
        let is_good = match care {
            Care::Close => return Err(Why::Expired),
            Care::Nothing => connection.is_at_rest() || connection.settle(),
            // Nobody is asked whose answer there is no time for.
            Care::Ping if !deadline.has_passed() => {
                let full = Deadline::after(self.settings.check_timeout);
                let answered = connection.settle() && connection.ping(full.min(deadline)).is_ok();
                if !answered && !connection.is_over() && deadline < full {
                    return Err(Why::Unsettled);
                }
                answered && connection.settle()
            }
            Care::Look | Care::Ping => connection.settle(),
        };
        if !is_good {
            return Err(Why::Broken);
        }
        if care == Care::Ping {
            connection.checked_ns = clock::now_ns();
        }
        if care != Care::Nothing {
            connection.seen_broken = broken;
        }
        Ok(())
    }

    /// Takes back what was lent.
    #[inline]
    pub(super) fn give_back(&self, mut connection: Box<Connection>) {
        if !connection.is_at_rest() && !connection.settle() {
            let why = if connection.is_over() { Why::Broken } else { Why::Unsettled };
            return self.remove(connection, why);
        }
        connection.reset();
        let now_ns = clock::now_ns();
        connection.idle_since_ns = now_ns;
        let is_expired = connection.is_expired(now_ns);
        let mut book = lock(&self.book);
        if is_expired || book.is_closed {
            let why = if is_expired { Why::Expired } else { Why::Shut };
            drop(book);
            return self.remove(connection, why);
        }
        let waiter = book.give_back(connection);
        let is_due = now_ns >= book.next_sweep_ns;
        drop(book);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        if is_due {
            self.sweep(SWEEP_LIMIT);
        }
    }

    /// Closes what was lent.
    #[cold]
    pub(super) fn remove(&self, connection: Box<Connection>, why: Why) {
        // First: a server at its limit has a place for the next then.
        drop(connection);
        self.forget(why);
    }

    /// What was lent will not come back; its place is for others.
    pub(super) fn forget(&self, why: Why) {
        if let Some(waiter) = lock(&self.book).remove(why) {
            waiter.wake();
        }
    }

    /// Nobody gets a connection any more; what is lent is closed when it comes back.
    pub(super) fn close(&self) {
        let (idle, waiters) = lock(&self.book).close();
        waiters.iter().for_each(|waiter| waiter.wake());
        drop(idle);
    }

    #[cold]
    fn timed_out(&self, asked: Instant) -> Error {
        lock(&self.book).timed_out += 1;
        self.exhausted(ErrorKind::TimedOut, "became free", asked)
    }

    #[cold]
    fn exhausted(&self, kind: ErrorKind, what: &str, asked: Instant) -> Error {
        let metrics = lock(&self.book).metrics();
        let message = format!(
            "no connection of the pool to {} {what} after {:?}: {} of at most {} are in use, {} are being opened, {} other \
             callers wait; hold connections for less time, wait longer, or raise max_connections",
            self.settings.name,
            asked.elapsed(),
            metrics.in_use,
            self.settings.max,
            metrics.opening,
            metrics.waiting,
        );
        Error::new(kind, message)
    }

    #[cold]
    fn closed_error(&self) -> Error {
        Error::new(ErrorKind::Stopped, format!("the pool to {} has been closed", self.settings.name))
    }
}

impl<'p> Right<'p> {
    /// That which the book has just given.
    pub(super) fn of(shared: &'p Shared) -> Self {
        Self { shared, is_used: false }
    }

    /// Opens a connection; the caller has it then as if it were lent.
    pub(super) fn open(mut self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        let connected = (self.shared.connect)(deadline);
        let mut book = lock(&self.shared.book);
        match connected {
            Ok(client) => {
                self.is_used = true;
                let (number, broken) = (book.opened(), book.broken());
                drop(book);
                Ok(Box::new(Connection::new(client, number, self.shared.settings.max_lifetime, broken)))
            }
            Err(error) => {
                self.is_used = true;
                book.failed += 1;
                let waiter = book.not_opened(error.kind() != ErrorKind::TooManyConnections);
                drop(book);
                waiter.inspect(|waiter| waiter.wake());
                Err(error)
            }
        }
    }
}

/// Connecting has panicked.
impl Drop for Right<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            let waiter = {
                let mut book = lock(&self.shared.book);
                book.failed += 1;
                book.not_opened(true)
            };
            waiter.inspect(|waiter| waiter.wake());
        }
    }
}
