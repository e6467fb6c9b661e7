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

/// All handlers at one moment, found in one or two looks: an open-addressed table, at most half full.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// A type's slot is the first free one from its own place on. As many as a power of two.
    slots: Box<[Slot]>,
    handlers: Vec<(u16, Handler)>,
}

/// A message type and the place of its handler.
#[derive(Clone, Copy, Debug)]
struct Slot {
    message_type: u16,
    /// `FREE`, or an index into the handlers.
    handler: u32,
}

const FREE: u32 = u32::MAX;

impl Default for Table {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Table {
    fn of(handlers: Vec<(u16, Handler)>) -> Self {
        let size = (handlers.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![Slot { message_type: 0, handler: FREE }; size].into_boxed_slice();
        for (index, (message_type, _)) in (0u32..).zip(&handlers) {
            let mut at = place(*message_type);
            while slots[at % size].handler != FREE {
                at += 1;
            }
            slots[at % size] = Slot { message_type: *message_type, handler: index };
        }
        Self { slots, handlers }
    }

    #[inline]
    pub(super) fn find(&self, message_type: u16) -> Option<&Handler> {
        let mask = self.slots.len() - 1;
        let mut at = place(message_type);
        loop {
            // At most half full, so a free one comes.
            let slot = self.slots[at & mask];
            if slot.handler == FREE {
                return None;
            }
            if slot.message_type == message_type {
                return self.handlers.get(slot.handler as usize).map(|(_, handler)| handler);
            }
            at += 1;
        }
    }

    fn with(&self, message_type: u16, handler: Handler) -> Result<Self, Error> {
        if self.find(message_type).is_some() {
            let message =
                format!("a handler for message type {message_type} is already registered; remove it first");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut handlers = self.handlers.clone();
        handlers.push((message_type, handler));
        Ok(Self::of(handlers))
    }

    fn without(&self, message_type: u16) -> Option<Self> {
        let at = self.handlers.iter().position(|(of, _)| *of == message_type)?;
        let mut handlers = self.handlers.clone();
        handlers.remove(at);
        Some(Self::of(handlers))
    }
}

/// Where a type's slot is looked for first. The multiplier (2^16 over the golden ratio, odd) spreads types in a row, and
/// such that differ only in their upper byte.
#[inline(always)]
fn place(message_type: u16) -> usize {
    usize::from(message_type.wrapping_mul(0x9E37).swap_bytes())
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
        let table = current.with(message_type, handler)?;
        self.replace(&mut current, table);
        Ok(())
    }

    /// Removes a handler of the program's; says whether there was one.
    pub(super) fn remove(&self, message_type: u16) -> bool {
        if message_type >= BUILT_IN_FIRST {
            return false;
        }
        let mut current = self.lock();
        let Some(table) = current.without(message_type) else { return false };
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
    fn every_type_is_found_however_many_share_a_place() {
        let all: Vec<u16> = (0..300).chain((0..60).map(|number| number << 10)).collect();
        let (registry, mut added) = (Registry::new(), Vec::new());
        let mut view = View::of(&registry);
        for message_type in all {
            if !added.contains(&message_type) {
                registry.add(message_type, nothing()).unwrap();
                added.push(message_type);
            }
        }
        let table = view.table(&registry);
        assert!(table.slots.len() >= 2 * table.handlers.len());
        for message_type in 0..=u16::MAX {
            assert_eq!(table.find(message_type).is_some(), added.contains(&message_type), "{message_type}");
        }
        for message_type in added {
            assert!(registry.remove(message_type));
            assert!(view.table(&registry).find(message_type).is_none());
        }
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
