//! The server: one blocking thread per connection.

#[allow(dead_code, reason = "the accept loop is its user")]
mod threads;
