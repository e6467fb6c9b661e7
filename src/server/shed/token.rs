//! [`SharedToken`]: who does not know it gets nothing.

use std::fmt;
use std::hint::black_box;

use super::bucket::Rate;
use super::rate::Users;
use super::whole_ms;
use crate::error::{Error, ErrorKind};
use crate::server::{ConnectionInfo, Context, Failure, Flow, Middleware, Replied, Reply, Request};
use crate::transport::{Counter, Deadline, Payload};
use crate::wire::call::AUTHENTICATE;

/// The longest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 256;
/// Wrong tokens that a user may send at once; after that one a second.
const GUESSES_AT_ONCE: u32 = 10;

/// In the [metadata](crate::server::Metadata) of a connection whose client has sent the right token. A program that takes
/// it out, or puts it in, decides otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticated;

/// Authentication by a secret that server and clients share: see
/// [`ServerBuilder::require_token`](crate::ServerBuilder::require_token).
///
/// The client sends it with [`Client::authenticate`](crate::Client::authenticate), or on connecting by
/// [`ClientBuilder::token`](crate::ClientBuilder::token). Until then every request, the built-in types among them, gets
/// [`Status::Unauthenticated`](crate::wire::Status::Unauthenticated) (of an unknown type: `unimplemented`), and broadcasts
/// pass the connection by. Pings are answered.
///
/// The comparison takes the same time whatever was sent, as far as the compiler can be told. A user that has sent ten wrong
/// ones may try once a second; until then also the right one is refused.
///
/// The permissions of the path and the peer's uid come first: a token is for servers whose users do not all trust each
/// other, or for a path that many may open.
///
/// ```
/// use ringwire::server::shed::SharedToken;
/// use ringwire::wire::{Status, call::ECHO};
/// use ringwire::{Client, Server};
/// # use std::time::Duration;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("token.sock");
/// let server = Server::builder(&path).require_token(SharedToken::new(b"correct horse")?).build()?;
/// # let handle = server.handle();
/// # let serving = std::thread::spawn(move || server.serve());
///
/// let mut client = Client::connect(&path)?;
/// let refused = client.call(ECHO, b"hello").unwrap_err();
/// assert_eq!(refused.status(), Some(Status::Unauthenticated));
/// client.authenticate(b"correct horse")?;
/// client.call(ECHO, b"hello")?;
/// # drop(client);
/// # assert!(handle.shutdown(Duration::from_secs(10)));
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedToken {
    token: Padded,
    guesses: Users,
    guessing_rate: Rate,
    wrong: Counter,
    refused: Counter,
}

impl SharedToken {
    /// Asks for `token`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is empty, or longer than [`MAX_TOKEN_BYTES`].
    pub fn new(token: impl AsRef<[u8]>) -> Result<Self, Error> {
        let token = token.as_ref();
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            let message = format!("a token of {} bytes, expected 1 to {MAX_TOKEN_BYTES}", token.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self {
            token: Padded::new(&Payload::private(token)),
            guesses: Users::default(),
            guessing_rate: Rate::per_second(1).burst(GUESSES_AT_ONCE),
            wrong: Counter::new(0),
            refused: Counter::new(0),
        })
    }

    /// Wrong tokens so far, those that came too soon after others among them.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.wrong.get()
    }

    /// Requests refused so far because no token had come.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Whether the client of a connection has sent the token.
    pub(in crate::server) fn is_known(connection: &ConnectionInfo) -> bool {
        connection.metadata().get::<Authenticated>().is_some()
    }

    /// Before a request of several records is put together: who is not known gets no buffer. No token is that long.
    pub(in crate::server) fn check_in_pieces(&self, context: &Context<'_>) -> Result<(), Failure> {
        if context.message_type() == AUTHENTICATE {
            self.wrong.add(1);
            return Err(not_the_token());
        }
        self.before(context).map(drop)
    }

    /// The handler of [`AUTHENTICATE`].
    pub(in crate::server) fn answer(
        &self,
        request: &Request<'_>,
        reply: Reply<'_>,
    ) -> Result<Replied, Failure> {
        let (now_ns, info) = (Deadline::now_ns(), request.connection());
        let guesses = self.guesses.bucket(info.peer().uid, self.guessing_rate, now_ns);
        if let Err(wait_ns) = guesses.take(now_ns) {
            self.wrong.add(1);
            let after = whole_ms(wait_ns);
            let message = format!("too many wrong tokens of this user: retry in {after:?}");
            return Err(Failure::resource_exhausted(message).retry_after(after));
        }
        if !Padded::new(&request.payload()).is(&self.token) {
            self.wrong.add(1);
            return Err(not_the_token());
        }
        guesses.give_back();
        info.metadata().set(Authenticated);
        reply.send(&[])
    }
}

#[cold]
fn not_the_token() -> Failure {
    Failure::unauthenticated("not the token that the server asks for")
}

impl Middleware for SharedToken {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        if context.message_type() == AUTHENTICATE || Self::is_known(context.connection()) {
            return Ok(Flow::Continue);
        }
        self.refused.add(1);
        let message = "the server asks for a token first: send it by authenticate, or give it to the builder";
        Err(Failure::unauthenticated(message))
    }
}

impl fmt::Debug for SharedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedToken")
            .field("wrong", &self.wrong)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// A token of any length, in as many bytes as any other.
struct Padded {
    bytes: [u8; MAX_TOKEN_BYTES],
    /// Of the token, whatever of it fits.
    length: usize,
}

impl Padded {
    fn new(token: &Payload<'_>) -> Self {
        let mut bytes = [0; MAX_TOKEN_BYTES];
        token.copy_to(&mut bytes);
        Self { bytes, length: token.len() }
    }

    /// Looks at every byte, wherever the first difference is.
    fn is(&self, other: &Self) -> bool {
        let mut difference = u8::from(self.length != other.length);
        for (one, other) in self.bytes.iter().zip(&other.bytes) {
            difference |= black_box(one ^ other);
        }
        black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(token: &[u8]) -> Padded {
        Padded::new(&Payload::private(token))
    }

    #[test]
    fn tokens_differ_in_any_byte_and_in_length() {
        let token: Vec<u8> = (0..=255).collect();
        assert!(padded(&token).is(&padded(&token)));
        for at in 0..token.len() {
            let mut other = token.clone();
            other[at] ^= 0x80;
            assert!(!padded(&other).is(&padded(&token)), "byte {at}");
        }
        assert!(!padded(b"abc\0").is(&padded(b"abc")) && !padded(b"abc").is(&padded(b"abc\0")));
        assert!(!padded(&[token.as_slice(), b"x"].concat()).is(&padded(&token)), "longer than any token");
        assert!(!padded(b"").is(&padded(b"a")));
    }

    #[test]
    fn impossible_tokens_are_refused_and_none_is_printed() {
        for wrong in [vec![], vec![b'x'; MAX_TOKEN_BYTES + 1]] {
            assert_eq!(SharedToken::new(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let token = SharedToken::new("geheim").unwrap();
        assert!(!format!("{token:?}").contains("geheim") && !format!("{token:?}").contains("103"));
    }
}
