//! What can be wrong, and how much of it was.

use serde_json::json;

use crate::load::stats::percentile;

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A durable message is gone.
    #[error("{topic}: version {durable} is durable, and nothing is retained")]
    Lost {
        /// The topic.
        topic: String,
        /// The latest version that is known to be durable.
        durable: u32,
    },
    /// An older message has come back, or one that was cleared.
    #[error("{topic}: version {durable} is durable, and version {found} is retained")]
    Older {
        /// The topic.
        topic: String,
        /// The latest version that is known to be durable.
        durable: u32,
        /// What is there.
        found: u32,
    },
    /// A message that the broker can't have: it was not sent, or an earlier crash took it.
    #[error("{topic}: version {found} was never sent, or lost before")]
    NeverSent {
        /// The topic.
        topic: String,
        /// What is there.
        found: u32,
    },
    /// A payload that was never sent on its topic.
    #[error("{client} got {size} bytes on {topic} that were never sent there")]
    Corrupt {
        /// Who got it.
        client: String,
        /// The topic.
        topic: String,
        /// Its bytes.
        size: usize,
    },
    /// A message after one that is newer.
    #[error("{client} got version {found} of {topic} after version {before}")]
    OutOfOrder {
        /// Who got it.
        client: String,
        /// The topic.
        topic: String,
        /// What came before.
        before: u32,
        /// What came.
        found: u32,
    },
    /// A subscriber that has not the latest message of a topic.
    #[error("{client} has version {has:?} of {topic}, and version {retained} is retained")]
    Missed {
        /// Who missed it.
        client: String,
        /// The topic.
        topic: String,
        /// What it got last.
        has: Option<u32>,
        /// What is retained.
        retained: u32,
    },
    /// A session that was granted is gone.
    #[error("{client} came back, and its session was gone")]
    Forgotten {
        /// Whose session.
        client: String,
    },
    /// A session that was ended is there again.
    #[error("{client} had ended its session, and it was there again")]
    Remembered {
        /// Whose session.
        client: String,
    },
    /// Acknowledgements that come in another order than the messages (section 4.6).
    #[error("{client} got PUBACK {id}, and another one was due")]
    AckOrder {
        /// Whose message.
        client: String,
        /// The id.
        id: u16,
    },
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// SIGKILLs.
    pub kills: u32,
    /// Of them, while the broker started.
    pub kills_at_start: u32,
    /// Starts that found a large file with little in it, which is made small.
    pub compactions: u32,
    /// Messages sent.
    pub published: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages that subscribers got.
    pub received: u64,
    /// Sessions that were resumed without SUBSCRIBE.
    pub resumed: u64,
    /// Milliseconds from each start to `listening on`.
    pub restarts: Vec<f64>,
    /// All that was wrong.
    pub faults: Vec<Fault>,
}

impl Outcome {
    /// Counts the faults of a kind.
    pub fn count(&self, is_it: impl Fn(&Fault) -> bool) -> usize {
        self.faults.iter().filter(|fault| is_it(fault)).count()
    }

    /// Gives the figures as one line of JSON.
    pub fn json(&self) -> String {
        let count = |is_it: fn(&Fault) -> bool| self.count(is_it);
        let mut restarts = self.restarts.clone();
        let mut restart = |percent| percentile(&mut restarts, percent).round();
        json!({
            "kills": self.kills,
            "kills_at_start": self.kills_at_start,
            "compactions": self.compactions,
            "published": self.published,
            "acked": self.acked,
            "received": self.received,
            "resumed": self.resumed,
            "lost": count(|fault| matches!(fault, Fault::Lost { .. })),
            "older": count(|fault| matches!(fault, Fault::Older { .. })),
            "corrupt": count(|fault| {
                matches!(fault, Fault::Corrupt { .. } | Fault::NeverSent { .. })
            }),
            "missed": count(|fault| matches!(fault, Fault::Missed { .. })),
            "out_of_order": count(|fault| {
                matches!(fault, Fault::OutOfOrder { .. } | Fault::AckOrder { .. })
            }),
            "sessions": count(|fault| {
                matches!(fault, Fault::Forgotten { .. } | Fault::Remembered { .. })
            }),
            "restart_ms_p50": restart(50.0),
            "restart_ms_max": restart(100.0),
        })
        .to_string()
    }
}
