//! [`PerConnection`]: what a middleware keeps for each connection, without a lock.

use std::any::Any;
use std::cell::RefCell;
use std::time::Instant;

use crate::server::ConnectionInfo;
use crate::transport::Counter;

static NEXT_OWNER: Counter = Counter::new(1);

thread_local! {
    /// Middleware runs on its connection's own thread, which serves one connection at a time: one entry for each
    /// middleware is enough. The first request of the next connection replaces it.
    static STATES: RefCell<Vec<State>> = const { RefCell::new(Vec::new()) };
}

struct State {
    owner: u64,
    /// Numbers are one server's; a middleware may belong to several.
    connection: (u64, Instant),
    value: Box<dyn Any>,
}

/// The key to one middleware's state of the connection whose thread asks.
#[derive(Debug)]
pub(super) struct PerConnection {
    owner: u64,
}

impl PerConnection {
    pub(super) fn new() -> Self {
        Self { owner: NEXT_OWNER.add(1) }
    }

    /// Works with the state of `connection`, made first if there is none.
    pub(super) fn with<T: 'static, R>(
        &self,
        connection: &ConnectionInfo,
        make: impl Fn() -> T,
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        let connection = (connection.id(), connection.since());
        STATES.with_borrow_mut(|states| {
            let at = match states.iter().position(|state| state.owner == self.owner) {
                Some(at) if states[at].connection == connection => at,
                found => {
                    let state = State { owner: self.owner, connection, value: Box::new(make()) };
                    match found {
                        Some(at) => {
                            states[at] = state;
                            at
                        }
                        None => {
                            states.push(state);
                            states.len() - 1
                        }
                    }
                }
            };
            match states[at].value.downcast_mut::<T>() {
                Some(value) => work(value),
                // Not of this owner.
                None => work(&mut make()),
            }
        })
    }
}
