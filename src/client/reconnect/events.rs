//! Events, across connections.

use std::time::Duration;

use super::ReconnectingClient;
use super::link::ConnectionState;
use crate::client::events::Event;
use crate::client::waiting::Arrived;
use crate::error::{Error, ErrorKind};
use crate::transport::Deadline;

/// Where the next event is.
enum Place {
    Leftovers,
    Client(Arrived),
}

impl ReconnectingClient {
    /// Waits for an event, at most for `timeout` (`None`: for as long as it takes), and for a connection where there is
    /// none; `None` when that is over.
    ///
    /// Between the last event of a lost connection and the first of the next one comes [`ErrorKind::ConnectionLost`], once:
    /// what the server said in between is not known, so ask for the state of whatever the events are about. (Connections
    /// lost while nobody asked for events are told as one.)
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] as above, and each time while the client has given up; else as
    /// [`Client::next_event`](crate::Client::next_event).
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Event<'_>>, Error> {
        match self.find_event(timeout)? {
            None => Ok(None),
            Some(Place::Leftovers) => Ok(self.left.events.pop().map(Event::queued)),
            Some(Place::Client(arrived)) => Ok(self.link.live()?.take_event(arrived)),
        }
    }

    /// The next event if it is there already; makes an attempt to connect if one is [due](ReconnectingClient::maintain).
    ///
    /// # Errors
    /// As [`ReconnectingClient::next_event`].
    pub fn try_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        self.next_event(Some(Duration::ZERO))
    }

    /// Events without end, across connections, each with its type and in a vector of its own. A connection that is lost is
    /// an error in between; the end comes behind the error that says that the client has given up.
    pub fn events(&mut self) -> Events<'_> {
        Events { client: self, ended: false }
    }

    /// Events that were left out so far: as [`Client::events_dropped`](crate::Client::events_dropped), of all connections,
    /// and those of a lost one that had not been taken when the next was lost too.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        let client = self.link.client.as_ref();
        self.left.events_dropped + client.map_or(0, |client| client.events_dropped())
    }

    fn find_event(&mut self, timeout: Option<Duration>) -> Result<Option<Place>, Error> {
        let (deadline, is_patient) = (Deadline::after_option(timeout), timeout != Some(Duration::ZERO));
        loop {
            if !self.left.events.is_empty() {
                return Ok(Some(Place::Leftovers));
            }
            let is_alive = self.link.is_alive();
            if !is_alive && self.link.client.as_ref().is_some_and(|client| !client.state.events.is_empty()) {
                return Ok(Some(Place::Client(Arrived::Stored)));
            }
            let lost = self.link.lost_generation();
            if self.told_events < lost {
                self.told_events = lost;
                let message = format!("connection {lost} was lost, and with it events that nobody knows of");
                return Err(Error::new(ErrorKind::ConnectionLost, message));
            }
            if is_alive {
                match self.link.live()?.find_event(deadline.left()) {
                    Ok(None) => return Ok(None),
                    Ok(Some(arrived)) => {
                        self.link.answered();
                        return Ok(Some(Place::Client(arrived)));
                    }
                    Err(error) if self.link.has_ended() => self.link.lose(&error),
                    Err(error) => return Err(error),
                }
            } else {
                let until = if is_patient { deadline } else { Deadline::NEVER };
                match self.connected_or_not(until, is_patient) {
                    Ok(()) => {}
                    Err(error) if self.link.state() == ConnectionState::Failed => return Err(error),
                    Err(_) => return Ok(None),
                }
            }
        }
    }
}

/// Events as an iterator: from [`ReconnectingClient::events`].
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a mut ReconnectingClient,
    ended: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<(u16, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.client.next_event(None).map(|event| {
            // Without a timeout there is one.
            event.map(|event| (event.message_type(), event.to_vec()))
        });
        self.ended = next.is_err() && self.client.state() == ConnectionState::Failed;
        next.transpose()
    }
}
