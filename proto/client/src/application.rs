//! The application's side of a client: what it asks for, and what waits for it. It outlives every
//! connection.

use std::{collections::VecDeque, future::pending, num::NonZeroUsize};

use herald_proto::topic::Filter;
use tokio::{
    select,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};

use crate::{
    Event, Message, Undelivered,
    outbox::{Fate, Outbox},
    subscriptions::Filters,
};

/// What takes the fate of a message to the one who published it.
pub(crate) type Ticket = oneshot::Sender<Result<(), Undelivered>>;

/// The most messages on topics that are not retained that wait to be sent.
const MOST_TRANSIENT: usize = 256;

/// The most bytes that are held for an inbox that is full, before the network is not read any more.
///
/// A broker that keeps to a window never gets there, as messages are acknowledged only when the
/// inbox takes them. Not all do: mosquitto 2.0.11 sends 20 more for each acknowledgement.
const MOST_HELD: usize = 4 * 1024 * 1024;

/// What an event takes beside its payload, roughly.
const EVENT_SIZE: usize = 512;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Publish(Message, Ticket),
    Subscribe(Vec<Filter>),
    /// Subscribe to what there need not be.
    Wish(Vec<Filter>),
    Reconnect,
    /// End once the outbox is empty. The sender is dropped when the client has ended.
    Stop(oneshot::Sender<()>),
}

/// What the application's last turn means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to send.
    Work,
    /// The reader of the inbox made room in it.
    Read,
    /// A new connection is wanted.
    Reconnect,
    /// An orderly end is wanted.
    Stop,
    /// Nobody has a handle on the client any more.
    Gone,
}

/// What the application wants sent and subscribed to, and the events that wait for it.
#[derive(Debug)]
pub(crate) struct Application {
    commands: mpsc::UnboundedReceiver<Command>,
    /// Dropped with the client, to say that it has ended.
    stopping: Option<oneshot::Sender<()>>,
    pub(crate) inbox: Outlet,
    pub(crate) outbox: Outbox<Ticket>,
    pub(crate) filters: Filters,
}

impl Application {
    pub(crate) fn new(
        commands: mpsc::UnboundedReceiver<Command>,
        events: mpsc::Sender<Event>,
        filters: Vec<Filter>,
        window: NonZeroUsize,
    ) -> Self {
        let mut application = Self {
            commands,
            stopping: None,
            inbox: Outlet::new(events),
            outbox: Outbox::new(window, MOST_TRANSIENT),
            filters: Filters::default(),
        };
        application.filters.add(filters);
        application
    }

    /// Tells whether all is done that was to be done before the end.
    pub(crate) fn is_done(&self) -> bool {
        self.stopping.is_some() && self.outbox.is_empty()
    }

    /// Notes that the connection is lost, and all that belonged to it; and whether it was the broker
    /// that closed it, as it does on a message that it refuses.
    pub(crate) fn connection_lost(&mut self, closed: bool) {
        self.inbox.connection_lost();
        self.outbox.connection_lost(closed).into_iter().for_each(tell);
    }

    /// Waits for the application: for what it asks next, which is noted here, or for its inbox to
    /// take an event that is held. Safe to cancel.
    pub(crate) async fn turn(&mut self) -> Turn {
        select! {
            command = self.commands.recv(), if self.stopping.is_none() => self.note(command),
            () = self.inbox.pass(), if !self.inbox.held.is_empty() => Turn::Read,
            else => pending().await,
        }
    }

    fn note(&mut self, command: Option<Command>) -> Turn {
        match command {
            Some(Command::Publish(message, ticket)) => {
                if let Some(fate) = self.outbox.push(message, ticket) {
                    tell(fate);
                }
                Turn::Work
            }
            Some(Command::Subscribe(filters)) => {
                self.filters.add(filters);
                Turn::Work
            }
            Some(Command::Wish(filters)) => {
                self.filters.wish(filters);
                Turn::Work
            }
            Some(Command::Reconnect) => Turn::Reconnect,
            Some(Command::Stop(ended)) => {
                self.commands.close();
                self.inbox.close();
                self.stopping = Some(ended);
                Turn::Stop
            }
            None => Turn::Gone,
        }
    }
}

/// Tells the one who published a message what became of it, if they still listen.
pub(crate) fn tell((ticket, fate): Fate<Ticket>) {
    let _ = ticket.send(fate);
}

/// Where events leave for the inbox. Those that find it full are held here, in order.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// None once the client is to end.
    events: Option<mpsc::Sender<Event>>,
    /// Events, and the packet ids of those that the broker wants acknowledged.
    held: VecDeque<(Event, Option<u16>)>,
    held_bytes: usize,
    /// The packet ids of what the inbox has taken.
    taken: Vec<u16>,
}

impl Outlet {
    fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events: Some(events), held: VecDeque::new(), held_bytes: 0, taken: Vec::new() }
    }

    /// Tells whether more may be read from the network.
    pub(crate) fn has_room(&self) -> bool {
        self.held_bytes < MOST_HELD
    }

    /// Gives the inbox an event, or holds it. When the inbox was dropped, it counts as taken; when
    /// the client is to end, it does not, and a broker that remembers will send it again.
    pub(crate) fn push(&mut self, event: Event, packet: Option<u16>) {
        let Some(events) = &self.events else {
            return;
        };
        let event = if self.held.is_empty() {
            match events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => return self.taken.extend(packet),
                Err(TrySendError::Full(event)) => event,
            }
        } else {
            event
        };
        self.held_bytes += size(&event);
        self.held.push_back((event, packet));
    }

    /// Waits until the inbox has taken one more event. Safe to cancel.
    async fn pass(&mut self) {
        let Some(events) = &self.events else {
            return pending().await;
        };
        let permit = events.reserve().await;
        let Some((event, packet)) = self.held.pop_front() else {
            return;
        };
        self.held_bytes -= size(&event);
        if let Ok(permit) = permit {
            permit.send(event);
        }
        self.taken.extend(packet);
    }

    /// Gives the packet ids of what the inbox has taken since the last call.
    pub(crate) fn taken(&mut self) -> impl Iterator<Item = u16> {
        self.taken.drain(..)
    }

    /// Forgets packet ids, which end with their connection.
    fn connection_lost(&mut self) {
        self.taken.clear();
        self.held.iter_mut().for_each(|(_, packet)| *packet = None);
    }

    /// Ends the inbox: what it has not taken is dropped, and so is what follows.
    fn close(&mut self) {
        self.events = None;
        self.held.clear();
        self.held_bytes = 0;
    }
}

fn size(event: &Event) -> usize {
    EVENT_SIZE
        + match event {
            Event::Message { payload, .. } => payload.len(),
            Event::Connected { .. } | Event::Disconnected { .. } => 0,
        }
}
