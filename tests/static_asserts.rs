//! What the public types can be used for: kept by the compiler.

use std::fmt::Debug;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};

use ringwire::{
    Backpressure, Batch, ByteStream, Call, Client, ClientBuilder, ClientPool, Connector, Credentials, Error,
    ErrorKind, Event, EventPolicy, Header, Incoming, Items, Kind, Listener, ListenerBuilder, Message,
    MessageReader, MessageWriter, Payload, PeerPolicy, PooledClient, Receiver, Reply, Sender, ServerInfo,
    Slot, Status, Stream, Ticket, WaitStrategy,
};

const fn goes_to_another_thread<T: Send + Debug>() {}
const fn is_shared_between_threads<T: Sync>() {}
const fn is_a_plain_value<T: Copy + Eq + Send + Sync + Debug + 'static>() {}
const fn is_a_key<T: Hash + Eq>() {}
const fn survives_a_panic<T: UnwindSafe + RefUnwindSafe>() {}

const _: () = {
    goes_to_another_thread::<Stream>();
    goes_to_another_thread::<Sender>();
    goes_to_another_thread::<Receiver>();
    goes_to_another_thread::<Listener>();
    goes_to_another_thread::<ListenerBuilder>();
    goes_to_another_thread::<Connector>();
    goes_to_another_thread::<Error>();
    goes_to_another_thread::<PeerPolicy>();
    goes_to_another_thread::<Message<'_>>();
    goes_to_another_thread::<MessageReader<'_>>();
    goes_to_another_thread::<MessageWriter<'_>>();
    goes_to_another_thread::<Payload<'_>>();
    goes_to_another_thread::<Slot<'_>>();
    goes_to_another_thread::<Batch<'_>>();
    goes_to_another_thread::<Incoming<'_>>();
    goes_to_another_thread::<Client>();
    goes_to_another_thread::<ClientBuilder>();
    goes_to_another_thread::<Call<'_>>();
    goes_to_another_thread::<Reply<'_>>();
    goes_to_another_thread::<Items<'_>>();
    goes_to_another_thread::<Event<'_>>();
    goes_to_another_thread::<ClientPool>();
    goes_to_another_thread::<PooledClient>();

    // Every method that does something takes `&mut self`, so sharing these allows questions alone: behind a mutex, say.
    goes_to_another_thread::<ByteStream>();
    is_shared_between_threads::<ByteStream>();
    is_shared_between_threads::<Stream>();
    is_shared_between_threads::<Client>();
    is_shared_between_threads::<ClientBuilder>();
    is_shared_between_threads::<ClientPool>();
    is_shared_between_threads::<ServerInfo>();
    is_shared_between_threads::<Sender>();
    is_shared_between_threads::<Receiver>();
    is_shared_between_threads::<Listener>();
    is_shared_between_threads::<ListenerBuilder>();
    is_shared_between_threads::<Connector>();
    is_shared_between_threads::<Error>();
    is_shared_between_threads::<PeerPolicy>();

    is_a_plain_value::<ErrorKind>();
    is_a_plain_value::<Header>();
    is_a_plain_value::<Kind>();
    is_a_plain_value::<Backpressure>();
    is_a_plain_value::<WaitStrategy>();
    is_a_plain_value::<Credentials>();
    is_a_plain_value::<EventPolicy>();
    is_a_plain_value::<Status>();
    is_a_plain_value::<Ticket>();
    is_a_key::<Ticket>();
    is_a_key::<Status>();
    is_a_key::<ErrorKind>();
    is_a_key::<Kind>();
    is_a_key::<Credentials>();
    survives_a_panic::<ErrorKind>();
    survives_a_panic::<Header>();
};

const _: () = {
    // Words in registers on the hot path.
    assert!(size_of::<Result<(), Error>>() == 16);
    // A whole word: what shares its place in a result is one too.
    assert!(size_of::<ErrorKind>() == 8);
    assert!(size_of::<Header>() == 16);
};

#[test]
fn an_error_goes_where_errors_go() {
    fn as_any(error: Error) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        error.into()
    }
    let boxed = as_any(ErrorKind::Full.into());
    assert_eq!(boxed.to_string(), "ring full");
    assert_eq!(boxed.downcast_ref::<Error>().map(Error::kind), Some(ErrorKind::Full));
    let io = std::io::Error::from(Error::from(ErrorKind::PeerClosed));
    assert_eq!(io.kind(), std::io::ErrorKind::UnexpectedEof);
    let back = io.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(Error::kind);
    assert_eq!(back, Some(ErrorKind::PeerClosed));
}

#[test]
fn a_kind_says_what_it_is_without_a_message() {
    assert_eq!(Error::from(ErrorKind::TimedOut).to_string(), ErrorKind::TimedOut.to_string());
    assert!(format!("{:?}", Error::from(ErrorKind::TimedOut)).contains("TimedOut"));
}
