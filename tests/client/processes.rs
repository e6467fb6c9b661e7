//! The same between two processes.
pub(crate) fn echo() {}
pub(crate) fn dies() {}
pub(crate) fn streams() {}
