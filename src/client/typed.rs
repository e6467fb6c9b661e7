//! Typed calls: values instead of bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::connection::Client;
use crate::error::Error;
#[cfg(feature = "protocol")]
use crate::error::ErrorKind;

impl Client {
    /// Asks with a value, and answers with one: the bytes of both as they lie in memory.
    ///
    /// ```
    /// # use ringwire::{Client, Stream, Header, Kind};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    /// # let (stream, mut server) = Stream::pair()?;
    /// # let mut client = Client::builder("").over(stream);
    /// # std::thread::spawn(move || {
    /// #     let request = server.receive()?;
    /// #     let (asked, range) = (request.header(), request.payload().read_at::<[u32; 2]>(0).unwrap());
    /// #     drop(request);
    /// #     let length = range[1] - range[0];
    /// #     server.send(Header::new(Kind::Response, asked.message_type, asked.correlation), &length.to_ne_bytes())
    /// # });
    ///
    /// #[derive(FromBytes, Immutable, IntoBytes)]
    /// #[repr(C)]
    /// struct Range { start: u32, end: u32 }
    /// #[derive(FromBytes, IntoBytes)]
    /// #[repr(C)]
    /// struct Length { bytes: u32 }
    ///
    /// const LENGTH: u16 = 7;
    /// let length: Length = client.call_typed(LENGTH, &Range { start: 3, end: 10 })?;
    /// assert_eq!(length.bytes, 7);
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`](crate::ErrorKind::InvalidData) for a response of another length; else as
    /// [`Client::call`].
    #[inline]
    pub fn call_typed<Req, Resp>(&mut self, message_type: u16, request: &Req) -> Result<Resp, Error>
    where
        Req: IntoBytes + Immutable + ?Sized,
        Resp: FromBytes + IntoBytes,
    {
        self.call(message_type, request.as_bytes())?.read()
    }

    /// Asks with a value, and answers with one: both as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the request cannot be written as JSON, [`ErrorKind::InvalidData`] if the response
    /// is none, or not a `Resp`; else as [`Client::call`].
    #[cfg(feature = "protocol")]
    pub fn call_json<Req, Resp>(&mut self, message_type: u16, request: &Req) -> Result<Resp, Error>
    where
        Req: serde::Serialize + ?Sized,
        Resp: serde::de::DeserializeOwned,
    {
        let mut scratch = std::mem::take(&mut self.scratch);
        let called = self.call_json_through(message_type, request, &mut scratch);
        super::reply::empty(&mut scratch);
        self.scratch = scratch;
        called
    }

    #[cfg(feature = "protocol")]
    fn call_json_through<Req, Resp>(
        &mut self,
        message_type: u16,
        request: &Req,
        scratch: &mut Vec<u8>,
    ) -> Result<Resp, Error>
    where
        Req: serde::Serialize + ?Sized,
        Resp: serde::de::DeserializeOwned,
    {
        serde_json::to_writer(&mut *scratch, request).map_err(|error| {
            Error::with_source(ErrorKind::InvalidInput, "writing the request as JSON", error)
        })?;
        let reply = self.call(message_type, scratch)?;
        scratch.clear();
        reply.payload().append_to(scratch);
        serde_json::from_slice(scratch).map_err(|error| {
            let name = std::any::type_name::<Resp>();
            Error::with_source(ErrorKind::InvalidData, format!("reading a {name} from the response"), error)
        })
    }
}
