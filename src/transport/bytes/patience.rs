//! [`Patience`]: how long one call may wait, asked for when it first has to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wait::Deadline;

/// What all clones of a stream share, as the duplicates of a socket's descriptor do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) nonblocking: bool,
}

/// How long one call may wait in all. A call that finds everything ready never asks.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    settings: &'a Mutex<Settings>,
    timeout: fn(&Settings) -> Option<Duration>,
    /// Once asked: the deadline, or `None` for a call that does not wait.
    answer: Option<Option<Deadline>>,
}

impl<'a> Patience<'a> {
    #[inline]
    pub(super) fn to_read(settings: &'a Mutex<Settings>) -> Self {
        Self { settings, timeout: |settings| settings.read_timeout, answer: None }
    }

    #[inline]
    pub(super) fn to_write(settings: &'a Mutex<Settings>) -> Self {
        Self { settings, timeout: |settings| settings.write_timeout, answer: None }
    }

    /// Until when to wait; `None`: not at all.
    pub(super) fn deadline(&mut self) -> Option<Deadline> {
        *self.answer.get_or_insert_with(|| {
            let settings = *self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            (!settings.nonblocking).then(|| Deadline::after_option((self.timeout)(&settings)))
        })
    }
}
