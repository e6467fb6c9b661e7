//! Bare futex mailboxes: the least that two processes can do to hand each other a request and its answer asleep.
//!
//! A page for each connection: the number of the request, that of the answer, the request, the answer. Who has written
//! stores the number and wakes; who waits sleeps on it. No more than one request at a time, and no peer that dies.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringwire::sync::{Area, NativeWord};

use super::super::arena::{Arena, sleep_until_value, store_and_wake};
use super::load::spawn_all;
use super::transport::{Connection, Plan, Transport};

/// Where things lie in a page: each number in lines of its own.
const ANSWERED_OFFSET: u32 = 128;
const REQUEST_OFFSET: u32 = 256;
const PAGE_BYTES: u32 = 4096;

/// One connection's page.
pub struct Mailbox {
    arena: Arc<Arena>,
    offset: u32,
    size: u32,
    buffer: Vec<u8>,
    /// What the client waits for.
    under_way: u32,
}

impl Mailbox {
    fn new(arena: &Arc<Arena>, plan: &Plan, number: u32) -> Result<Self, Box<dyn Error>> {
        let size = u32::try_from(plan.size)?;
        let offset = number * u32::try_from(page_bytes(plan))?;
        Ok(Self { arena: Arc::clone(arena), offset, size, buffer: vec![0; plan.size], under_way: 0 })
    }

    fn requested(&self) -> &NativeWord {
        self.arena.forth.word(self.offset)
    }

    fn answered(&self) -> &NativeWord {
        self.arena.forth.word(self.offset + ANSWERED_OFFSET)
    }

    fn request_offset(&self) -> u32 {
        self.offset + REQUEST_OFFSET
    }

    fn answer_offset(&self) -> u32 {
        self.request_offset() + self.size.next_multiple_of(64)
    }

    /// As many requests as will come: nobody tells the server when a client has gone.
    fn echo(mut self, requests: u32) {
        for number in 1..=requests {
            sleep_until_value(self.requested(), number);
            self.arena.forth.copy_out(self.request_offset(), &mut self.buffer);
            self.arena.forth.copy_in(self.answer_offset(), &self.buffer);
            store_and_wake(self.answered(), number);
        }
    }
}

fn page_bytes(plan: &Plan) -> usize {
    (REQUEST_OFFSET as usize + 2 * plan.size.next_multiple_of(64)).next_multiple_of(PAGE_BYTES as usize)
}

/// All mailboxes.
pub struct Mailboxes {
    arena: Arc<Arena>,
}

impl Transport for Mailboxes {
    type Connection = Mailbox;

    fn listen(plan: &Plan, _: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let bytes = page_bytes(plan).checked_mul(plan.connections as usize).ok_or("too much memory")?;
        let (arena, name) = Arena::create(bytes)?;
        Ok((Self { arena: Arc::new(arena) }, name))
    }

    fn serve(self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        let requests = u32::try_from(plan.requests())?;
        spawn_all(plan.connections, plan.placed, |number| {
            let mailbox = Mailbox::new(&self.arena, plan, number)?;
            Ok(move || {
                mailbox.echo(requests);
                Ok(())
            })
        })
    }

    fn connect(plan: &Plan, address: &str, numbers: Range<u32>) -> Result<Vec<Mailbox>, Box<dyn Error>> {
        let arena = Arc::new(Arena::open(address)?);
        numbers.map(|number| Mailbox::new(&arena, plan, number)).collect()
    }
}

impl Connection for Mailbox {
    /// There is no such thing here.
    fn limit_waits(&mut self, _: Duration) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    fn submit(
        &mut self,
        numbers: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<dyn Error>> {
        // One, since there is no room for more.
        for number in numbers {
            fill(number, &mut self.buffer);
            self.arena.forth.copy_in(self.request_offset(), &self.buffer);
            self.under_way = u32::try_from(number)? + 1;
            store_and_wake(self.requested(), self.under_way);
        }
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        sleep_until_value(self.answered(), self.under_way);
        self.arena.forth.copy_out(self.answer_offset(), &mut self.buffer);
        take(u64::from(self.under_way) - 1, &self.buffer);
        Ok(())
    }
}
