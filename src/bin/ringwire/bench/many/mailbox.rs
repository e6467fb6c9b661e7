//! Bare futex mailboxes: the least that two processes can do to hand each other a request and its answer asleep.
//!
//! Some pages for each connection: the number of the last request, that of the last answer, a window of requests, one of
//! answers. Who has written all that it has to write stores the number and wakes; who waits sleeps on it. So there are two
//! wake-ups for each window. No peer that dies, and no answer before all of its window.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringwire::sync::{Area, NativeWord};

use super::super::arena::{Arena, sleep_until_value, store_and_wake};
use super::load::spawn_all;
use super::transport::{Connection, Plan, Transport};

/// Where things lie in a mailbox: each number in lines of its own.
const ANSWERED_OFFSET: u32 = 128;
const REQUEST_OFFSET: u32 = 256;
const PAGE_BYTES: u32 = 4096;
/// All mailboxes lie in one area, as long as a ring may be.
const MOST_BYTES: usize = 1 << 30;
const TOO_LARGE: &str =
    "mailboxes for these connections, windows and sizes take more than 1 GiB: ask for fewer";

/// One connection's pages.
pub struct Mailbox {
    arena: Arc<Arena>,
    offset: u32,
    size: u32,
    window: u32,
    buffer: Vec<u8>,
    /// The requests whose answers the client waits for.
    under_way: Range<u32>,
}

impl Mailbox {
    fn new(arena: &Arc<Arena>, plan: &Plan, number: u32) -> Result<Self, Box<dyn Error>> {
        let size = u32::try_from(plan.size)?;
        let window = u32::try_from(plan.window)?;
        // Inside the area, which has been made.
        let offset = number * u32::try_from(page_bytes(plan))?;
        let buffer = vec![0; plan.size];
        Ok(Self { arena: Arc::clone(arena), offset, size, window, buffer, under_way: 0..0 })
    }

    fn requested(&self) -> &NativeWord {
        self.arena.forth.word(self.offset)
    }

    fn answered(&self) -> &NativeWord {
        self.arena.forth.word(self.offset + ANSWERED_OFFSET)
    }

    /// Where a request lies.
    fn request_offset(&self, number: u32) -> u32 {
        self.offset + REQUEST_OFFSET + number % self.window * self.size.next_multiple_of(64)
    }

    fn answer_offset(&self, number: u32) -> u32 {
        self.request_offset(number) + self.window * self.size.next_multiple_of(64)
    }

    /// As many requests as will come, the first alone and then a window at a time: nobody tells the server when a client
    /// has gone.
    fn echo(mut self, requests: u32) {
        let mut numbers = 0..requests.min(1);
        while !numbers.is_empty() {
            sleep_until_value(self.requested(), numbers.end);
            for number in numbers.clone() {
                self.arena.forth.copy_out(self.request_offset(number), &mut self.buffer);
                self.arena.forth.copy_in(self.answer_offset(number), &self.buffer);
            }
            store_and_wake(self.answered(), numbers.end);
            numbers = numbers.end..requests.min(numbers.end + self.window);
        }
    }
}

fn page_bytes(plan: &Plan) -> usize {
    let windows = 2 * plan.window * plan.size.next_multiple_of(64);
    (REQUEST_OFFSET as usize + windows).next_multiple_of(PAGE_BYTES as usize)
}

/// How long all of them are; `None` if that is too long.
fn area_bytes(plan: &Plan) -> Option<usize> {
    page_bytes(plan).checked_mul(plan.connections as usize).filter(|bytes| *bytes <= MOST_BYTES)
}

/// All mailboxes.
pub struct Mailboxes {
    arena: Arc<Arena>,
}

impl Mailboxes {
    /// Whether there is room for those of a plan.
    pub fn fit(plan: &Plan) -> bool {
        area_bytes(plan).is_some()
    }
}

impl Transport for Mailboxes {
    type Connection = Mailbox;

    fn listen(plan: &Plan, _: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let (arena, name) = Arena::create(area_bytes(plan).ok_or(TOO_LARGE)?)?;
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
        self.under_way = u32::try_from(numbers.start)?..u32::try_from(numbers.end)?;
        for number in self.under_way.clone() {
            fill(number.into(), &mut self.buffer);
            self.arena.forth.copy_in(self.request_offset(number), &self.buffer);
        }
        store_and_wake(self.requested(), self.under_way.end);
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        sleep_until_value(self.answered(), self.under_way.end);
        for number in self.under_way.clone() {
            self.arena.forth.copy_out(self.answer_offset(number), &mut self.buffer);
            take(number.into(), &self.buffer);
        }
        Ok(())
    }
}
