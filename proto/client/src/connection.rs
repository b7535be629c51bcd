//! One connection, from the attempt to make it to its end.

use std::{pin::pin, time::Duration};

use tokio::{
    select,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    ConnectionLost, Event, Greeting, MAX_PAYLOAD, Settings,
    application::{Application, Turn, tell},
    network::{Arrived, Heard, Network, Requests},
    outbox::Outbox,
    subscriptions::Subscribing,
};

/// How long an attempt takes at most, from the first packet to `Connected`. It is a second more
/// for each full round of subscriptions.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the broker has for its next acknowledgement, once connected.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the broker has to close a connection that is done with.
const CLOSE: Duration = Duration::from_millis(200);
/// How much longer it has when the reader of the inbox kept it waiting.
const GRACE: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Against our will.
    Lost(ConnectionLost),
    /// As the application asked for another one.
    Reconnect,
    /// As the application needs none any more.
    Finished,
}

/// Makes a connection and serves it until its end. Tells that, and for how long it was of use.
pub(crate) async fn run(
    number: u64,
    settings: &Settings,
    greeting: Greeting,
    application: &mut Application,
) -> (End, Duration) {
    let births = match births(&greeting, settings) {
        Ok(births) => births,
        Err(reason) => return (End::Lost(reason), Duration::ZERO),
    };
    let login = settings.login.credentials(number, &settings.broker, &settings.client_id);
    let credentials = match login {
        Ok(credentials) => credentials,
        Err(reason) => return (End::Lost(reason), Duration::ZERO),
    };
    let (requests, mut network) = Network::new(settings, credentials, greeting.will, HANDSHAKE);
    let rounds = Duration::from_secs(application.filters.full_rounds() as u64);
    let mut connection = Connection {
        number,
        settings,
        application,
        requests,
        phase: Phase::Connecting,
        births,
        subscribing: Subscribing::default(),
        deadline: Some(Instant::now() + HANDSHAKE + rounds),
        since: None,
        dropped: 0,
    };
    let end = connection.serve(&mut network).await;
    if connection.subscribing.lost(&mut connection.application.filters) {
        warn!(connection = number, "going on without what the broker seems to refuse to be read");
    }
    if connection.dropped > 0 {
        let messages = connection.dropped;
        warn!(connection = number, messages, "dropped what was unreadable");
    }
    (end, connection.since.map_or(Duration::ZERO, |t| t.elapsed()))
}

/// Queues the birth messages, and checks that all of the greeting can be sent.
fn births(greeting: &Greeting, settings: &Settings) -> Result<Outbox<()>, ConnectionLost> {
    let mut births = Outbox::new(settings.window, usize::MAX);
    for message in greeting.will.iter().chain(&greeting.birth) {
        let size = message.payload.len();
        if size > MAX_PAYLOAD {
            let topic = message.topic.clone();
            return Err(ConnectionLost::GreetingTooLarge { topic, size });
        }
    }
    for message in &greeting.birth {
        births.push(message.clone(), ());
    }
    Ok(births)
}

struct Connection<'a> {
    number: u64,
    settings: &'a Settings,
    application: &'a mut Application,
    requests: Requests,
    phase: Phase,
    /// Sent before anything from the outbox, and empty once connected.
    births: Outbox<()>,
    subscribing: Subscribing,
    /// When the broker must have answered, if it has anything to answer.
    deadline: Option<Instant>,
    /// When `Connected` was told.
    since: Option<Instant>,
    /// Messages on topics that are not ours.
    dropped: u64,
}

enum Phase {
    /// The broker has not taken the connection yet.
    Connecting,
    /// It has, and subscriptions and births are on their way.
    Greeting,
    /// `Connected` was told, and the outbox is being sent.
    Connected,
    /// DISCONNECT was sent, and the broker is to close the connection.
    Closing(End),
}

impl Connection<'_> {
    /// Serves the connection until its end.
    async fn serve(&mut self, network: &mut Network) -> End {
        loop {
            let heard = {
                let mut hearing = pin!(network.hear());
                loop {
                    let room = self.application.inbox.has_room();
                    let closing = matches!(self.phase, Phase::Closing(_));
                    let deadline = self.deadline.filter(|_| room || closing);
                    select! {
                        turn = self.application.turn() => {
                            if let Some(end) = self.take_turn(turn) {
                                return end;
                            }
                            if !room {
                                self.excuse();
                            }
                        }
                        heard = &mut hearing, if room || closing => break heard,
                        () = until(deadline) => return self.expired(),
                    }
                }
            };
            if let Err(reason) = heard.and_then(|heard| self.take(heard)) {
                return self.end(reason);
            }
        }
    }

    /// Does what the application asks, and gives the end of the connection if that is now.
    fn take_turn(&mut self, turn: Turn) -> Option<End> {
        match (turn, &self.phase) {
            (Turn::Gone, _) => return Some(End::Finished),
            (Turn::Reconnect, Phase::Connecting) => return Some(End::Reconnect),
            (Turn::Stop, Phase::Connecting) if self.application.is_done() => {
                return Some(End::Finished);
            }
            (Turn::Reconnect, Phase::Greeting | Phase::Connected) => self.close(End::Reconnect),
            (Turn::Reconnect, Phase::Closing(_)) => {}
            (Turn::Work | Turn::Read | Turn::Stop, _) => self.advance(),
        }
        None
    }

    fn take(&mut self, heard: Heard) -> Result<(), ConnectionLost> {
        match heard {
            Heard::Accepted { resumed } => {
                debug!(connection = self.number, resumed, "accepted");
                self.phase = Phase::Greeting;
            }
            Heard::Subscribed(packet, granted) => {
                self.requests.answered(packet);
                self.subscribed(packet, &granted)?;
                self.answered();
            }
            Heard::Published(packet) => self.published(packet),
            Heard::Message(message) => self.deliver(message),
        }
        self.advance();
        Ok(())
    }

    fn subscribed(&mut self, packet: u16, granted: &[bool]) -> Result<(), ConnectionLost> {
        let filters = &mut self.application.filters;
        let Some(refused) = self.subscribing.wish_answered(packet, granted, filters) else {
            return self.subscribing.answered(packet, granted, filters);
        };
        for filter in refused {
            warn!(%filter, "the broker refused a subscription; going on without it");
        }
        Ok(())
    }

    fn published(&mut self, packet: u16) {
        self.requests.answered(packet);
        if self.births.acknowledged(packet).is_none()
            && let Some(fate) = self.application.outbox.acknowledged(packet)
        {
            tell(fate);
        }
        self.answered();
    }

    /// Gives the broker time for its next answer. The handshake has one time for all of them.
    fn answered(&mut self) {
        if matches!(self.phase, Phase::Connected) {
            self.deadline = None;
        }
    }

    /// Gives the broker more time, as it was not listened to while the inbox was full.
    fn excuse(&mut self) {
        let grace = Instant::now() + GRACE;
        self.deadline = self.deadline.map(|deadline| deadline.max(grace));
    }

    fn deliver(&mut self, message: Arrived) {
        if matches!(self.phase, Phase::Closing(_)) && !self.application.inbox.has_room() {
            // It is not acknowledged, and so comes again if the broker remembers.
            return;
        }
        let Arrived { topic, payload, retained, packet } = message;
        let unreadable = match topic.parse() {
            Ok(topic) => {
                let event = Event::Message { topic, payload, retained };
                return self.application.inbox.push(event, packet);
            }
            Err(error) => error.to_string(),
        };
        if let Some(packet) = packet {
            self.requests.acknowledge(packet);
        }
        if self.dropped == 0 {
            let connection = self.number;
            warn!(connection, unreadable, "dropped a message, and will count others");
        }
        self.dropped += 1;
    }

    /// Sends whatever may be sent now, and goes on to the next phase when this one is complete.
    fn advance(&mut self) {
        if matches!(self.phase, Phase::Connecting | Phase::Closing(_)) {
            return;
        }
        for packet in self.application.inbox.taken() {
            self.requests.acknowledge(packet);
        }
        if self.application.is_done() {
            return self.close(End::Finished);
        }
        while let Some(filters) = self.subscribing.ask(&self.application.filters) {
            let packet = self.requests.subscribe(filters);
            self.subscribing.sent(packet);
        }
        while let Some(message) = self.births.send() {
            let packet = self.requests.publish(message);
            self.births.sent(packet);
        }
        let greeted =
            self.births.is_empty() && self.subscribing.is_complete(&self.application.filters);
        if matches!(self.phase, Phase::Greeting) && greeted {
            let connection = self.number;
            info!(connection, broker = %self.settings.broker, "connected");
            self.phase = Phase::Connected;
            self.since = Some(Instant::now());
            self.deadline = None;
            self.application.inbox.push(Event::Connected { connection }, None);
        }
        if matches!(self.phase, Phase::Connected) {
            while let Some(message) = self.application.outbox.send() {
                let packet = self.requests.publish(message);
                self.application.outbox.sent(packet);
            }
            if let Some(filters) = self.subscribing.wish(&self.application.filters) {
                let packet = self.requests.subscribe(filters);
                self.subscribing.wished(packet);
            }
            let awaits =
                self.subscribing.awaits_answer() || self.application.outbox.awaits_answer();
            let deadline = self.deadline.unwrap_or_else(|| Instant::now() + ANSWER);
            self.deadline = awaits.then_some(deadline);
        }
    }

    fn close(&mut self, end: End) {
        self.requests.disconnect();
        self.phase = Phase::Closing(end);
        self.deadline = Some(Instant::now() + CLOSE);
    }

    fn expired(&mut self) -> End {
        let within = match self.phase {
            Phase::Connected => ANSWER,
            _ => HANDSHAKE,
        };
        self.end(ConnectionLost::Unanswered { within })
    }

    /// Gives the end that was wanted, or else the loss.
    fn end(&mut self, reason: ConnectionLost) -> End {
        match std::mem::replace(&mut self.phase, Phase::Connecting) {
            Phase::Closing(end) => end,
            Phase::Greeting => End::Lost(self.greeting_refused(reason)),
            _ => End::Lost(reason),
        }
    }

    /// Names the birth on which the broker closed the connection, if it did. What was subscribed
    /// to is answered before.
    fn greeting_refused(&self, reason: ConnectionLost) -> ConnectionLost {
        match self.births.oldest_in_flight() {
            Some(birth) if reason.is_closed() && !self.subscribing.awaits_answer() => {
                let (topic, size) = (birth.topic.clone(), birth.payload.len());
                ConnectionLost::BirthRefused { topic, size }
            }
            _ => reason,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
