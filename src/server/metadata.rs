//! [`Metadata`]: what handlers remember of a connection.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values that a program keeps with a connection, one of each type, for as long as the connection lives.
///
/// Reachable from every thread; each access takes a short lock. Empty, it costs no memory of its own.
///
/// ```
/// use ringwire::server::Metadata;
/// #[derive(Debug, PartialEq)]
/// struct User(String);
/// let metadata = Metadata::default();
/// assert!(metadata.set(User("ada".into())).is_none());
/// assert_eq!(metadata.get::<User>().as_deref(), Some(&User("ada".into())));
/// assert!(metadata.get::<u32>().is_none());
/// ```
#[derive(Default)]
pub struct Metadata {
    entries: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
}

impl Metadata {
    /// Keeps `value`, and gives back the one of its type that was there.
    pub fn set<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let mut entries = self.lock();
        let former = match entries.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()) {
            Some((_, entry)) => Some(std::mem::replace(entry, value)),
            None => {
                entries.push((TypeId::of::<T>(), value));
                None
            }
        };
        drop(entries);
        former.and_then(|former| former.downcast().ok())
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let entries = self.lock();
        let (_, entry) = entries.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        Arc::clone(entry).downcast().ok()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let mut entries = self.lock();
        let at = entries.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        let (_, entry) = entries.swap_remove(at);
        drop(entries);
        entry.downcast().ok()
    }

    /// Drops all values: the connection has ended, whoever still has a handle of it.
    pub(super) fn clear(&self) {
        let entries = std::mem::take(&mut *self.lock());
        drop(entries);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(TypeId, Arc<dyn Any + Send + Sync>)>> {
        // No code of the program runs while it is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} values)", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_one_value_of_each_type() {
        let metadata = Metadata::default();
        assert!(metadata.set(1u32).is_none() && metadata.set("a").is_none());
        assert_eq!(metadata.set(2u32).as_deref(), Some(&1));
        assert_eq!(
            (metadata.get::<u32>().as_deref(), metadata.get::<&str>().as_deref()),
            (Some(&2), Some(&"a"))
        );
        assert_eq!(metadata.remove::<u32>().as_deref(), Some(&2));
        assert!(metadata.get::<u32>().is_none());
        metadata.clear();
        assert!(metadata.get::<&str>().is_none());
    }
}
