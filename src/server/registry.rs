//! The handlers by message type: a table that is replaced as a whole, so that nobody who serves ever waits for it.
//!
//! | who | does what |
//! |---|---|
//! | any thread, under the lock | makes a new table, replaces the old one, then counts the generation up |
//! | a connection's thread, per request | one relaxed load of the generation; its own `Arc` of the table otherwise |
//!
//! A request that is sent after a change returned finds the change: the ring's own ordering carries the generation along.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Failure;
use super::context::Request;
use super::items::{Items, StreamingRequest};
use super::reply::{Replied, Reply};
use crate::error::{Error, ErrorKind};
use crate::transport::Counter;
use crate::wire::call::BUILT_IN_FIRST;

/// What answers requests of one type.
pub(super) type PlainHandler =
    dyn Fn(&Request<'_>, Reply<'_>) -> Result<Replied, Failure> + Send + Sync + 'static;

/// What answers requests of one type with a stream.
pub(super) type StreamingHandler =
    dyn Fn(StreamingRequest<'_>, &mut Items<'_>) -> Result<(), Failure> + Send + Sync + 'static;

#[derive(Clone)]
pub(super) enum Handler {
    Plain(Arc<PlainHandler>),
    Streaming(Arc<StreamingHandler>),
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Streaming(_) => "Streaming",
        })
    }
}

/// All handlers at one moment, in the order of their types.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    types: Vec<u16>,
    handlers: Vec<Handler>,
}

impl Table {
    #[inline]
    pub(super) fn find(&self, message_type: u16) -> Option<&Handler> {
        let at = self.types.binary_search(&message_type).ok()?;
        self.handlers.get(at)
    }

    fn insert(&mut self, message_type: u16, handler: Handler) -> Result<(), Error> {
        match self.types.binary_search(&message_type) {
            Ok(_) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a handler for message type {message_type} is already registered; remove it first"),
            )),
            Err(at) => {
                self.types.insert(at, message_type);
                self.handlers.insert(at, handler);
                Ok(())
            }
        }
    }
}

/// The present table.
#[derive(Debug)]
pub(super) struct Registry {
    current: Mutex<Arc<Table>>,
    generation: Counter,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { current: Mutex::default(), generation: Counter::new(1) }
    }

    /// Adds a handler of the program's.
    pub(super) fn add(&self, message_type: u16, handler: Handler) -> Result<(), Error> {
        if message_type >= BUILT_IN_FIRST {
            let message = format!(
                "message type {message_type} is the library's; a program's are below {BUILT_IN_FIRST}"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.add_any(message_type, handler)
    }

    /// Also for those that are built in.
    pub(super) fn add_any(&self, message_type: u16, handler: Handler) -> Result<(), Error> {
        let mut current = self.lock();
        let mut table = Table::clone(&current);
        table.insert(message_type, handler)?;
        self.replace(&mut current, table);
        Ok(())
    }

    /// Removes a handler of the program's; says whether there was one.
    pub(super) fn remove(&self, message_type: u16) -> bool {
        let mut current = self.lock();
        let Ok(at) = current.types.binary_search(&message_type) else { return false };
        if message_type >= BUILT_IN_FIRST {
            return false;
        }
        let mut table = Table::clone(&current);
        table.types.remove(at);
        table.handlers.remove(at);
        self.replace(&mut current, table);
        true
    }

    fn replace(&self, current: &mut MutexGuard<'_, Arc<Table>>, table: Table) {
        **current = Arc::new(table);
        self.generation.add(1);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's view of the registry.
#[derive(Debug)]
pub(super) struct View {
    table: Arc<Table>,
    generation: u64,
}

impl View {
    pub(super) fn of(registry: &Registry) -> Self {
        let current = registry.lock();
        Self { table: Arc::clone(&current), generation: registry.generation.get() }
    }

    /// The present table.
    #[inline(always)]
    pub(super) fn table(&mut self, registry: &Registry) -> &Table {
        if self.generation != registry.generation.get() {
            self.refresh(registry);
        }
        &self.table
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self, registry: &Registry) {
        *self = Self::of(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Handler {
        Handler::Plain(Arc::new(|_, reply| reply.send(b"")))
    }

    #[test]
    fn finds_what_was_added_and_not_what_was_removed() {
        let registry = Registry::new();
        let mut view = View::of(&registry);
        for message_type in [7, 3, 0, BUILT_IN_FIRST - 1, 9] {
            registry.add(message_type, nothing()).unwrap();
        }
        for message_type in 0..12 {
            let expected = [0, 3, 7, 9].contains(&message_type);
            assert_eq!(view.table(&registry).find(message_type).is_some(), expected, "{message_type}");
        }
        assert!(view.table(&registry).find(BUILT_IN_FIRST - 1).is_some());
        assert!(registry.remove(3) && !registry.remove(3));
        assert!(view.table(&registry).find(3).is_none());
        assert!(view.table(&registry).find(7).is_some());
    }

    #[test]
    fn a_type_has_one_handler_and_the_librarys_types_are_its_own() {
        let registry = Registry::new();
        registry.add(7, nothing()).unwrap();
        let twice = registry.add(7, nothing()).unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::InvalidInput);
        assert!(twice.to_string().contains("type 7 is already registered"), "{twice}");
        let reserved = registry.add(BUILT_IN_FIRST, nothing()).unwrap_err();
        assert_eq!(reserved.kind(), ErrorKind::InvalidInput);
        registry.add_any(BUILT_IN_FIRST, nothing()).unwrap();
        assert!(!registry.remove(BUILT_IN_FIRST));
    }
}
