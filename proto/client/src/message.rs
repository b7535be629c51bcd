//! What is said to the broker, and what is said first on every connection.

use herald_proto::topic::Topic;

/// The most bytes that a message's payload has, out and in.
pub const MAX_PAYLOAD: usize = 24 * 1024;

/// A message to publish: at least once (QoS 1), and retained if its topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub topic: Topic,
    /// Its bytes, at most [`MAX_PAYLOAD`] of them. None at all clear a retained topic.
    pub payload: Vec<u8>,
}

impl Message {
    /// Makes a message.
    pub fn new(topic: Topic, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic, payload: payload.into() }
    }
}

/// What a client says of itself on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// What the broker publishes when the connection ends without a farewell.
    pub will: Option<Message>,
    /// What is published first, before anything else that waits to be sent.
    pub birth: Vec<Message>,
}

/// Gives the greeting of each connection.
pub trait Greeter: Send {
    /// Gives the greeting for the attempt to connect that follows. Each attempt calls it once, so
    /// session numbers are counted here; it runs on the client's task and should not take long.
    fn greet(&mut self) -> Greeting;
}

impl<F: FnMut() -> Greeting + Send> Greeter for F {
    fn greet(&mut self) -> Greeting {
        self()
    }
}

/// A client without birth or will.
impl Greeter for () {
    fn greet(&mut self) -> Greeting {
        Greeting::default()
    }
}
