//! The token that a server may ask for.

use std::fmt;

use super::connection::Client;
use crate::error::Error;
use crate::transport::Deadline;
use crate::wire::Status;
use crate::wire::call::AUTHENTICATE;

/// A secret: never printed.
#[derive(Clone)]
pub(super) struct Token(pub(super) Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Client {
    /// Sends the server the token that it [asks for](crate::server::shed::SharedToken); it holds for the connection.
    ///
    /// # Errors
    /// [`ErrorKind::Status`] with [`Status::Unauthenticated`] for a wrong token, [`Status::ResourceExhausted`] and
    /// [`Error::retry_after`] for one too many, [`Status::Unimplemented`] if the server asks for none; else as
    /// [`Client::call`].
    ///
    /// [`ErrorKind::Status`]: crate::ErrorKind::Status
    pub fn authenticate(&mut self, token: &[u8]) -> Result<(), Error> {
        let deadline = self.default_deadline();
        self.authenticate_until(token, deadline)
    }

    pub(super) fn authenticate_until(&mut self, token: &[u8], deadline: Deadline) -> Result<(), Error> {
        match self.call_until(AUTHENTICATE, token, deadline) {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(Status::Unimplemented) => {
                let message = "the server asks for no token: leave it out";
                Err(Error::answered(Status::Unimplemented, message, None))
            }
            Err(error) => Err(error),
        }
    }
}
