//! The client's handle, and the task behind it: one connection after another.

use std::{
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use herald_proto::topic::Filter;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    ConnectionLost, Event, Greeter, Inbox, Message, Settings, Undelivered,
    application::{Application, Command, Turn},
    backoff::Delays,
    complaints::Complaints,
    connection::{self, End},
    network::WIDEST_WINDOW,
    refusals::Refusals,
};

/// Starts a client, which is one task on the current Tokio runtime.
///
/// The `seed` makes its delays differ from those of other clients: it should be random.
///
/// # Panics
/// When it is called outside of a Tokio runtime.
pub fn start(
    mut settings: Settings,
    filters: Vec<Filter>,
    greeter: Box<dyn Greeter>,
    seed: u64,
) -> (Client, Inbox) {
    settings.window = settings.window.min(WIDEST_WINDOW);
    let (commands, orders) = mpsc::unbounded_channel();
    let (events, inbox) = Inbox::new();
    let begun = Arc::<AtomicU64>::default();
    let task = Task {
        begun: Arc::clone(&begun),
        delays: Delays::new(settings.backoff, seed),
        application: Application::new(orders, events, filters, settings.window),
        refusals: Refusals::default(),
        complaints: Complaints::default(),
        settings,
        greeter,
    };
    let task = tokio::spawn(task.run()).abort_handle();
    (Client { commands, begun, task }, inbox)
}

/// A handle on a client, which lives as long as there is one. When the last is dropped, without
/// [`Client::stop`], the connection is cut and the broker publishes the will.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    begun: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Client {
    /// Queues a message, and never waits: it is sent when there is a connection, and again on the
    /// next one if it was not acknowledged, so that it arrives at least once. Messages on one topic
    /// are sent in the order in which they were published.
    ///
    /// A message on a retained topic takes the place of one on the same topic that is not in
    /// flight ([`Undelivered::Replaced`]). Of the others 256 wait at most: then the oldest is
    /// dropped ([`Undelivered::Overflow`]).
    ///
    /// A message on which the broker closes the connection goes behind those on other topics; when
    /// it did so on 5 connections in a row the message is set aside ([`Undelivered::Refused`]).
    pub fn publish(&self, message: Message) -> Delivery {
        let (ticket, fate) = oneshot::channel();
        self.command(Command::Publish(message, ticket));
        Delivery(fate)
    }

    /// Subscribes to more, now and on every later connection.
    pub fn subscribe(&self, filters: Vec<Filter>) {
        self.command(Command::Subscribe(filters));
    }

    /// Subscribes, on every later connection, to what there need not be: a broker that refuses it is
    /// told of in the log, and the connection goes on. It is asked for after all else was granted,
    /// and not again once it has ended three connections in a row.
    pub fn wish(&self, filters: Vec<Filter>) {
        self.command(Command::Wish(filters));
    }

    /// Ends the connection, or the attempt to make one, and connects afresh at once.
    ///
    /// The broker is told first, if it still answers within 200 ms, and so does not publish the
    /// will of the old connection over the birth on the new one.
    ///
    /// Gives the number of the latest connection that had begun before: those with a higher number
    /// are fresh.
    pub fn reconnect(&self) -> u64 {
        let latest = self.begun.load(Ordering::SeqCst);
        self.command(Command::Reconnect);
        latest
    }

    /// Ends the client: sends what waits and then the farewell, waits until the broker has
    /// acknowledged all of it, and disconnects, so that the will is not published.
    ///
    /// All this takes at most as long as `within`. After that the connection is cut: the will
    /// says what the farewell could not, and what was not acknowledged is
    /// [`Undelivered::Stopped`]. Events that come meanwhile are dropped, and the inbox ends; other
    /// handles can't publish any more.
    pub async fn stop(self, farewell: Vec<Message>, within: Duration) {
        for message in farewell {
            self.publish(message);
        }
        let (end, mut ended) = oneshot::channel();
        self.command(Command::Stop(end));
        // The other end of the channel is never used, only dropped: by the task when it ends.
        if timeout(within, &mut ended).await.is_err() {
            self.task.abort();
            let _ = ended.await;
        }
    }

    /// Passes a command to the task. If that has ended, the command is dropped, and a ticket in it.
    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Tells what becomes of a message: `Ok` once the broker has acknowledged it. Dropping it does not
/// withdraw the message.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<(), Undelivered>>);

impl Future for Delivery {
    type Output = Result<(), Undelivered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(fate.unwrap_or(Err(Undelivered::Stopped)))
    }
}

struct Task {
    /// The number of the latest connection that was begun, or attempted.
    begun: Arc<AtomicU64>,
    settings: Settings,
    greeter: Box<dyn Greeter>,
    delays: Delays,
    application: Application,
    /// Births that the broker does not take.
    refusals: Refusals,
    /// What was said of connections that are not made.
    complaints: Complaints,
}

impl Task {
    /// Makes one connection after another, until the application has no more use for any.
    async fn run(mut self) {
        self.settings.login.warn(&self.settings.broker);
        for connection in 1.. {
            self.begun.store(connection, Ordering::SeqCst);
            let mut greeting = self.greeter.greet();
            self.refusals.leave_out(&mut greeting.birth, Instant::now());
            let (end, worked) =
                connection::run(connection, &self.settings, greeting, &mut self.application).await;
            self.delays.connection_lasted(worked);
            if !worked.is_zero() {
                self.complaints.connected();
            }
            let closed = matches!(&end, End::Lost(reason) if reason.is_closed());
            self.application.connection_lost(closed);
            self.refusals.note(&end, worked, Instant::now());
            let (reason, delay) = match end {
                End::Finished => return,
                End::Reconnect => (ConnectionLost::Reconnecting, Duration::ZERO),
                End::Lost(reason) => (reason, self.delays.next()),
            };
            self.complaints.report(connection, &reason, delay);
            let lost = Event::Disconnected { connection, reason };
            self.application.inbox.push(lost, None);
            if self.pause(delay).await.is_break() {
                return;
            }
        }
    }

    /// Waits before the next attempt, and for as long as nobody reads the inbox.
    async fn pause(&mut self, delay: Duration) -> ControlFlow<()> {
        let mut over = pin!(sleep(delay));
        loop {
            if self.application.is_done() {
                return ControlFlow::Break(());
            }
            let room = self.application.inbox.has_room();
            select! {
                turn = self.application.turn() => match turn {
                    Turn::Work | Turn::Read => {}
                    // What is to be sent before the end is worth one attempt without delay.
                    Turn::Reconnect | Turn::Stop => over.set(sleep(Duration::ZERO)),
                    Turn::Gone => return ControlFlow::Break(()),
                },
                () = &mut over, if room => return ControlFlow::Continue(()),
            }
        }
    }
}
