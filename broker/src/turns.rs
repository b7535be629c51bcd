//! Whose password is checked next: so many at a time, and of each address one.
//!
//! Each check costs tens of milliseconds of a core. They are taken in the order in which they come,
//! but for those of an address, of which only the first is in the line: whoever floods the broker
//! from a few addresses waits for himself.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::limits::network;

/// Hands out the turns.
#[derive(Debug)]
pub struct Turns {
    at_once: Semaphore,
    /// The line of each address that waits, or whose turn it is.
    lines: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// One client's turn, which is over when this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _one: SemaphorePermit<'a>,
    _first: OwnedSemaphorePermit,
    _waiting: Waiting<'a>,
}

impl Turns {
    /// Makes a line for so many at a time.
    pub fn new(at_once: usize) -> Self {
        Self { at_once: Semaphore::new(at_once), lines: Mutex::default() }
    }

    /// Waits for a turn. One who does not wait any more loses its place.
    pub async fn take(&self, address: IpAddr) -> Option<Turn<'_>> {
        let waiting = self.line_up(network(address));
        let first = Arc::clone(&waiting.line).acquire_owned().await.ok()?;
        let one = self.at_once.acquire().await.ok()?;
        Some(Turn { _one: one, _first: first, _waiting: waiting })
    }

    fn line_up(&self, address: IpAddr) -> Waiting<'_> {
        let mut lines = self.lines();
        let line = lines.entry(address).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Waiting { turns: self, address, line: Arc::clone(line) }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits, or whose turn it is.
#[derive(Debug)]
struct Waiting<'a> {
    turns: &'a Turns,
    address: IpAddr,
    line: Arc<Semaphore>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        // The map has one, and this: copies are made only while the map is locked, but for that of
        // the permit, which is this one's own and gone before.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll},
    };

    use futures_util::task::noop_waker;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&noop_waker()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn one_address_that_floods_waits_for_itself_and_not_others_for_it() {
        let turns = Turns::new(2);
        let flood = ["2001:db8::1", "2001:db8::2"].repeat(15).into_iter();
        let mut flood: Vec<_> = flood.map(|text| Box::pin(turns.take(address(text)))).collect();
        let mut taken = Vec::new();
        for waiting in &mut flood {
            if let Poll::Ready(turn) = poll(waiting.as_mut()) {
                taken.push(turn.unwrap());
            }
        }
        assert_eq!(taken.len(), 1, "of one network one at a time");
        let other = turns.take(address("192.0.2.1")).await.unwrap();
        // A third has to wait for one of both, and goes before the rest of the flood.
        let mut third = pin!(turns.take(address("192.0.2.2")));
        assert!(poll(third.as_mut()).is_pending());
        drop(taken);
        let third = third.await.unwrap();
        drop((third, other));
        // All of the flood is served in the end.
        let mut served = 1;
        for mut waiting in flood.drain(1..) {
            if let Poll::Ready(turn) = poll(waiting.as_mut()) {
                served += usize::from(turn.is_some());
            }
        }
        assert_eq!(served, 30);
        drop(flood);
        assert!(turns.lines().is_empty(), "forgets who has left");
    }

    #[tokio::test]
    async fn who_gives_up_while_waiting_holds_up_nobody() {
        let turns = Turns::new(1);
        let first = turns.take(address("192.0.2.1")).await.unwrap();
        for text in ["192.0.2.1", "192.0.2.2"] {
            let mut impatient = Box::pin(turns.take(address(text)));
            assert!(poll(impatient.as_mut()).is_pending());
        }
        drop(first);
        assert!(turns.lines().is_empty());
        turns.take(address("192.0.2.2")).await.unwrap();
    }

    /// What waits for a turn goes from thread to thread.
    #[test]
    fn a_turn_can_be_waited_for_on_any_thread() {
        fn assert_send(_: impl Future + Send) {}
        assert_send(Turns::new(1).take(address("192.0.2.1")));
    }
}
