//! Orders on their way to the broker, and its acknowledgements.

use anyhow::Context as _;
use herald_client::{Client, Message, Undelivered};
use herald_fleet::{compose::SignedOrder, fleet::Fleet};
use herald_proto::{host::HostId, id::ReleaseId, topic::Subject};
use tokio::sync::mpsc;

/// The orders of one release after another, of which only the latest counts.
pub(crate) struct Outbound {
    release: ReleaseId,
    unacknowledged: usize,
    acks: mpsc::UnboundedSender<Ack>,
    acked: mpsc::UnboundedReceiver<Ack>,
}

/// What became of an order.
pub(crate) struct Ack {
    release: ReleaseId,
    host: HostId,
    delivered: Result<(), Undelivered>,
}

impl Outbound {
    /// Begins with a release.
    pub(crate) fn new(release: ReleaseId) -> Self {
        let (acks, acked) = mpsc::unbounded_channel();
        Self { release, unacknowledged: 0, acks, acked }
    }

    /// Turns to another release: acknowledgements for the one before count no more.
    pub(crate) fn turn_to(&mut self, release: ReleaseId) {
        self.release = release;
        self.unacknowledged = 0;
    }

    /// Publishes orders of the release.
    pub(crate) fn publish<'a>(
        &mut self,
        client: &Client,
        fleet: &Fleet,
        orders: impl IntoIterator<Item = &'a SignedOrder>,
    ) {
        let publish = |order: &SignedOrder| {
            let host = order.host.clone();
            let topic = fleet.topic(Subject::Desired(host.clone(), order.profile.clone()));
            (host, client.publish(Message::new(topic, order.message.clone())))
        };
        let sent: Vec<_> = orders.into_iter().map(publish).collect();
        self.unacknowledged += sent.len();
        let (release, acks) = (self.release, self.acks.clone());
        tokio::spawn(async move {
            for (host, delivery) in sent {
                let delivered = delivery.await;
                // Nobody waits for it any more when the command has ended.
                let _ = acks.send(Ack { release, host, delivered });
            }
        });
    }

    /// Gives how many orders the broker has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// Waits for the next acknowledgement. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Ack {
        self.acked.recv().await.expect("this holds a sender itself")
    }

    /// Counts an acknowledgement; tells whether it was for the release.
    ///
    /// # Errors
    /// When the order could not be sent.
    pub(crate) fn take(&mut self, ack: Ack) -> anyhow::Result<bool> {
        if ack.release != self.release {
            return Ok(false);
        }
        match ack.delivered {
            // A newer copy of the same order is on its way, and has its own acknowledgement.
            Ok(()) | Err(Undelivered::Replaced) => {}
            failed => failed.with_context(|| format!("{}: the order was not sent", ack.host))?,
        }
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        Ok(true)
    }
}
