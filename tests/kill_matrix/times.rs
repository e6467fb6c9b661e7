pub(crate) fn timed() {}
