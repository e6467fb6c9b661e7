//! [`Book`]: which connections there are, who has them, and who waits; behind the pool's lock, and quick.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Connection;
use super::metrics::{ClientPoolMetrics, ClosedConnections, WaitTimes};
use super::waiter::{Given, Waiter};

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Idle,
    Expired,
    Broken,
    Unsettled,
    TakenOut,
    Shut,
}

/// What the pool's lock guards.
///
/// While anybody waits nothing is idle: whatever comes back goes to the first in the queue, and nobody passes it.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By when they were given back, the latest last and lent first: so those that the load does not need stay idle.
    idle: VecDeque<Box<Connection>>,
    waiters: VecDeque<Arc<Waiter>>,
    /// Connections, and the rights to open one that are out: what the maximum limits.
    slots: usize,
    opening: usize,
    checking: usize,
    pub(super) is_closed: bool,
    pub(super) next_sweep_ns: u64,
    acquired: u64,
    wait_times: WaitTimes,
    pub(super) timed_out: u64,
    pub(super) refused: u64,
    created: u64,
    pub(super) failed: u64,
    closed: ClosedConnections,
}

impl Book {
    /// Takes the connection that was given back last, to be lent.
    #[inline]
    pub(super) fn take_idle(&mut self) -> Option<Box<Connection>> {
        self.idle.pop_back()
    }

    #[inline]
    pub(super) fn latest_idle(&self) -> Option<&Connection> {
        self.idle.back().map(|connection| &**connection)
    }

    /// A connection has been lent, to somebody who had to wait for so long if he had to.
    #[inline]
    pub(super) fn count_lent(&mut self, asked: Option<Instant>) {
        self.acquired += 1;
        if let Some(asked) = asked {
            self.wait_times.add(asked.elapsed());
        }
    }

    /// What was counted as lent turned out to be of no use.
    pub(super) fn uncount_lent(&mut self) {
        self.acquired -= 1;
    }

    /// The right to open a connection, if there are less than `max`.
    pub(super) fn reserve(&mut self, max: usize) -> bool {
        let has_room = self.slots < max;
        if has_room {
            self.slots += 1;
            self.opening += 1;
        }
        has_room
    }

    /// Who had the right to open a connection has done so, and has it. Says its number, from 1.
    pub(super) fn opened(&mut self) -> u64 {
        self.opening -= 1;
        self.created += 1;
        self.created
    }

    /// Who had the right to open a connection could not. With `pass_on`, the next in the queue may try; also if there is no
    /// connection left to wait for. Wake who is returned.
    #[must_use]
    pub(super) fn not_opened(&mut self, pass_on: bool) -> Option<Arc<Waiter>> {
        self.opening -= 1;
        self.free_slot(pass_on || self.slots == 1)
    }

    /// A connection is given back. Wake who is returned.
    #[inline]
    #[must_use]
    pub(super) fn give_back(&mut self, connection: Box<Connection>) -> Option<Arc<Waiter>> {
        match self.waiters.pop_front() {
            None => self.idle.push_back(connection),
            Some(waiter) => return Some(self.hand_over(waiter, connection)),
        }
        None
    }

    #[cold]
    fn hand_over(&mut self, waiter: Arc<Waiter>, connection: Box<Connection>) -> Arc<Waiter> {
        self.count_lent(Some(waiter.since));
        waiter.give(Given::Connection(connection));
        waiter
    }

    /// A connection that was lent is closed. Wake who is returned.
    #[must_use]
    pub(super) fn remove(&mut self, why: Why) -> Option<Arc<Waiter>> {
        self.count_closed(why);
        self.free_slot(true)
    }

    /// A connection that was lent is closed, and whoever closes it takes the next idle one; if there is none, the right to
    /// open another in its place.
    pub(super) fn replace(&mut self, why: Why) -> Option<Box<Connection>> {
        self.count_closed(why);
        let next = self.idle.pop_back();
        match next {
            // Where something is idle nobody waits: the place is nobody's.
            Some(_) => self.slots -= 1,
            None => self.opening += 1,
        }
        next
    }

    fn count_closed(&mut self, why: Why) {
        let closed = &mut self.closed;
        *match why {
            Why::Idle => &mut closed.idle,
            Why::Expired => &mut closed.expired,
            Why::Broken => &mut closed.broken,
            Why::Unsettled => &mut closed.unsettled,
            Why::TakenOut => &mut closed.taken_out,
            Why::Shut => &mut closed.shut,
        } += 1;
    }

    fn free_slot(&mut self, pass_on: bool) -> Option<Arc<Waiter>> {
        let waiter = if pass_on { self.waiters.pop_front() } else { None };
        match &waiter {
            None => self.slots -= 1,
            Some(waiter) => {
                self.opening += 1;
                waiter.give(Given::Slot);
            }
        }
        waiter
    }

    /// Takes a place at the end of the queue.
    pub(super) fn queue_up(&mut self, since: Instant) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter::new(since));
        self.waiters.push_back(Arc::clone(&waiter));
        waiter
    }

    /// Leaves the queue, or finds out what it has been handed meanwhile.
    pub(super) fn leave_queue(&mut self, waiter: &Arc<Waiter>) -> Option<Given> {
        match self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            None => waiter.take(),
            Some(place) => {
                self.waiters.remove(place);
                None
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Whether there is a connection, and not only the right to open one.
    pub(super) fn has_connections(&self) -> bool {
        self.slots > self.opening
    }

    /// The number of connections that were found broken so far.
    #[inline]
    pub(super) fn broken(&self) -> u64 {
        self.closed.broken
    }

    /// Takes out up to `limit` connections that are too old, or that `min` others make needless since `idle_before_ns`.
    pub(super) fn take_expired(
        &mut self,
        now_ns: u64,
        idle_before_ns: u64,
        min: usize,
        limit: usize,
    ) -> VecDeque<Box<Connection>> {
        let mut taken = VecDeque::new();
        // What is too old first: it may be all that is too many.
        for why in [Why::Expired, Why::Idle] {
            let mut place = 0;
            while taken.len() < limit
                && let Some(connection) = self.idle.get(place)
            {
                let is_due = match why {
                    Why::Expired => connection.is_expired(now_ns),
                    _ => self.slots > min && connection.idle_since_ns <= idle_before_ns,
                };
                if !is_due {
                    place += 1;
                    continue;
                }
                taken.extend(self.idle.remove(place));
                self.count_closed(why);
                self.slots -= 1;
            }
        }
        taken
    }

    /// Takes out, to be checked, a connection that nobody has heard of since `before_ns`.
    pub(super) fn take_unchecked(&mut self, before_ns: u64) -> Option<Box<Connection>> {
        let heard_ns = |connection: &Connection| connection.idle_since_ns.max(connection.checked_ns);
        let place = self.idle.iter().position(|connection| heard_ns(connection) <= before_ns)?;
        self.checking += 1;
        self.idle.remove(place)
    }

    /// A connection has been checked: it goes back to its place. Wake who is returned.
    #[must_use]
    pub(super) fn checked(&mut self, connection: Box<Connection>) -> Option<Arc<Waiter>> {
        self.checking -= 1;
        if !self.waiters.is_empty() {
            return self.give_back(connection);
        }
        let since_ns = connection.idle_since_ns;
        let place = self.idle.partition_point(|other| other.idle_since_ns <= since_ns);
        self.idle.insert(place, connection);
        None
    }

    /// A connection has been checked, and is closed. Wake who is returned.
    #[must_use]
    pub(super) fn check_failed(&mut self, why: Why) -> Option<Arc<Waiter>> {
        self.checking -= 1;
        self.remove(why)
    }

    /// Closes the pool: takes everything out of it. Wake all waiters.
    pub(super) fn close(&mut self) -> (VecDeque<Box<Connection>>, VecDeque<Arc<Waiter>>) {
        self.is_closed = true;
        let idle = std::mem::take(&mut self.idle);
        self.slots -= idle.len();
        self.closed.shut += idle.len() as u64;
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in &waiters {
            waiter.give(Given::Nothing);
        }
        (idle, waiters)
    }

    pub(super) fn metrics(&self) -> ClientPoolMetrics {
        let size = self.slots - self.opening;
        ClientPoolMetrics {
            size,
            idle: self.idle.len(),
            in_use: size - self.idle.len() - self.checking,
            checking: self.checking,
            opening: self.opening,
            waiting: self.waiters.len(),
            acquired: self.acquired,
            wait_times: self.wait_times.clone(),
            timed_out: self.timed_out,
            refused: self.refused,
            created: self.created,
            failed: self.failed,
            closed: self.closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Client;
    use crate::transport::{Deadline, Stream};

    /// The other ends are gone: nothing here looks.
    fn connection(number: u64) -> Box<Connection> {
        let (stream, _) = Stream::pair().unwrap();
        Box::new(Connection::new(Client::builder("").over(stream), number, None, 0))
    }

    /// A book of `max` connections that are all lent.
    fn lent(max: usize) -> (Book, VecDeque<Box<Connection>>) {
        let mut book = Book::default();
        let open = |_| {
            assert!(book.reserve(max));
            connection(book.opened())
        };
        let lent = (0..max).map(open).collect();
        assert!(!book.reserve(max), "no more than the maximum");
        (book, lent)
    }

    /// Gives back all, the first at 0 ns, the next at 1 ns, ...
    fn give_back(book: &mut Book, lent: VecDeque<Box<Connection>>) {
        for (since_ns, mut connection) in lent.into_iter().enumerate() {
            (connection.idle_since_ns, connection.checked_ns) = (since_ns as u64, 0);
            assert!(book.give_back(connection).is_none());
        }
    }

    fn since<'a>(connections: impl IntoIterator<Item = &'a Box<Connection>>) -> Vec<u64> {
        connections.into_iter().map(|connection| connection.idle_since_ns).collect()
    }

    /// Size, idle, in use, opening.
    fn sum(book: &Book) -> (usize, usize, usize, usize) {
        let metrics = book.metrics();
        (metrics.size, metrics.idle, metrics.in_use, metrics.opening)
    }

    #[test]
    fn who_is_handed_a_connection_at_his_deadline_finds_it() {
        let (mut book, mut lent) = lent(1);
        let waiter = book.queue_up(Instant::now());
        assert!(waiter.wait(Deadline::after(Duration::ZERO)).is_none(), "the deadline");
        // Between his deadline and his leaving.
        assert!(book.give_back(lent.remove(0).unwrap()).is_some());
        assert!(matches!(book.leave_queue(&waiter), Some(Given::Connection(_))));
        assert_eq!(sum(&book), (1, 0, 1, 0));
    }

    #[test]
    fn who_leaves_the_queue_is_handed_nothing() {
        let (mut book, mut lent) = lent(1);
        let (first, second) = (book.queue_up(Instant::now()), book.queue_up(Instant::now()));
        assert!(book.leave_queue(&first).is_none());
        let woken = book.give_back(lent.remove(0).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&woken, &second));
        assert!(first.take().is_none() && matches!(second.take(), Some(Given::Connection(_))));
    }

    #[test]
    fn the_place_of_a_closed_connection_goes_to_the_first_in_the_queue() {
        let (mut book, lent) = lent(2);
        let (first, second) = (book.queue_up(Instant::now()), book.queue_up(Instant::now()));
        drop(lent);
        assert!(Arc::ptr_eq(&book.remove(Why::Broken).unwrap(), &first));
        assert!(matches!(first.take(), Some(Given::Slot)));
        assert_eq!(sum(&book), (1, 0, 1, 1));
        assert!(book.not_opened(false).is_none(), "the server refuses: one connection is left to wait for");
        assert_eq!((sum(&book), book.waiting()), ((1, 0, 1, 0), 1));
        assert!(Arc::ptr_eq(&book.remove(Why::Broken).unwrap(), &second));
        let third = book.queue_up(Instant::now());
        assert!(Arc::ptr_eq(&book.not_opened(false).unwrap(), &third), "nothing is left to wait for");
        assert!(book.not_opened(true).is_none());
        assert_eq!((sum(&book), book.slots()), ((0, 0, 0, 0), 0));
    }

    #[test]
    fn a_checked_connection_goes_back_to_its_place_or_to_who_waits() {
        let (mut book, lent) = lent(3);
        give_back(&mut book, lent);
        let unchecked = book.take_unchecked(0).unwrap();
        assert_eq!((unchecked.idle_since_ns, book.metrics().checking), (0, 1));
        assert!(book.checked(unchecked).is_none());
        assert_eq!(since(&book.idle), [0, 1, 2]);
        let unchecked = book.take_unchecked(0).unwrap();
        let _lent = (book.take_idle().unwrap(), book.take_idle().unwrap());
        let waiter = book.queue_up(Instant::now());
        assert!(Arc::ptr_eq(&book.checked(unchecked).unwrap(), &waiter));
        assert_eq!(sum(&book), (3, 0, 3, 0));
    }

    #[test]
    fn what_is_needless_goes_down_to_the_minimum_and_what_is_too_old_below_it() {
        let (mut book, mut lent) = lent(5);
        for (number, connection) in lent.iter_mut().enumerate() {
            connection.expires_ns = if number == 4 { 50 } else { 100 };
        }
        give_back(&mut book, lent);
        assert_eq!(since(&book.take_expired(10, 1, 2, 1)), [0], "no more than the limit");
        assert_eq!(since(&book.take_expired(10, 1, 2, 9)), [1], "those idle since then");
        assert_eq!(since(&book.take_expired(60, 9, 2, 9)), [4], "which makes none of the others needless");
        assert_eq!(since(&book.take_expired(60, 9, 2, 9)), [0; 0], "the minimum");
        assert_eq!(since(&book.take_expired(100, 9, 2, 9)), [2, 3]);
        assert_eq!(book.metrics().closed, ClosedConnections { idle: 2, expired: 3, ..Default::default() });
    }
}
