//! Thousands of MQTT clients on one thread, as cheap as they can be: the broker that they measure
//! shares the machine with them.
//!
//! A turn reads all sockets that have something, and only then writes what is to be answered. The
//! time of a message is taken right after the read that brought it.

use std::{
    io,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::event::epoll;

use super::{
    failure::Failure,
    interrupt,
    link::{Link, Phase},
    packet,
    session::{Heard, News, Session, answer},
};

/// Sockets that are read before their answers are written.
const BATCH: usize = 256;

/// Whoever takes what clients hear.
type Hear<'a> = dyn FnMut(&Heard<'_>) -> Result<(), Failure> + 'a;

/// Something that clients do together, until it is done.
pub(crate) trait Part {
    /// Takes what a client heard.
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure>;
    /// Does what is to be done now, and tells whether all is.
    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure>;
    /// Says what has not come yet.
    fn missing(&self) -> String;
}

/// The clients.
pub(crate) struct Swarm {
    epoll: OwnedFd,
    broker: SocketAddrV4,
    clients: Vec<Client>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Clients that have something to write.
    dirty: Vec<usize>,
    opened: u64,
    /// A connection may end without that being a failure.
    pub(crate) is_tolerant: bool,
    pings: Option<Pings>,
    /// When a part wants to act next, whatever is heard.
    wake: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    session: Session,
    link: Option<Link>,
}

/// Pings of the first clients, spread evenly.
#[derive(Debug)]
struct Pings {
    began: Instant,
    every: Duration,
    clients: usize,
    sent: usize,
}

impl Swarm {
    /// Makes clients for a broker.
    pub(crate) fn new(broker: SocketAddrV4) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from);
        Ok(Self {
            epoll: epoll.map_err(Failure::system("make an epoll"))?,
            broker,
            clients: Vec::new(),
            events: Vec::with_capacity(BATCH),
            buffer: vec![0; 1 << 16],
            dirty: Vec::new(),
            opened: 0,
            is_tolerant: false,
            pings: None,
            wake: None,
        })
    }

    /// Adds a client, which does not connect yet.
    pub(crate) fn add(&mut self, session: Session) -> usize {
        self.clients.push(Client { session, link: None });
        self.clients.len() - 1
    }

    /// Changes who a client is from its next connection on.
    pub(crate) fn set_session(&mut self, client: usize, session: Session) {
        self.clients[client].session = session;
    }

    /// Gives a client's name.
    pub(crate) fn name(&self, client: usize) -> &str {
        &self.clients[client].session.name
    }

    /// Begins to connect a client.
    pub(crate) fn open(&mut self, client: usize) -> io::Result<()> {
        let link = Link::open(self.broker, self.opened)?;
        self.opened += 1;
        let data = epoll::EventData::new_u64(client as u64);
        epoll::add(&self.epoll, &link, data, epoll::EventFlags::OUT)?;
        self.clients[client].link = Some(link);
        Ok(())
    }

    /// Ends a client's connection in order.
    pub(crate) fn close(&mut self, client: usize) {
        if let Some(mut link) = self.clients[client].link.take() {
            packet::disconnect(&mut link.out);
            let _ = link.flush();
        }
    }

    /// Queues packets of a client; the next turn writes them. Nothing, while it is not connected.
    pub(crate) fn send(&mut self, client: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(link) = &mut self.clients[client].link {
            write(&mut link.out);
            if !link.is_dirty {
                link.is_dirty = true;
                self.dirty.push(client);
            }
        }
    }

    /// Makes the first clients ping from now on, each once in a while, spread evenly.
    pub(crate) fn ping(&mut self, clients: usize, every: Duration) {
        self.pings = Some(Pings { began: Instant::now(), every, clients, sent: 0 });
    }

    /// Makes the next turn end at a time, whatever is heard.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(at);
    }

    /// Plays a part to its end.
    pub(crate) fn play(
        &mut self,
        part: &mut dyn Part,
        what: &str,
        limit: Duration,
    ) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        while !part.act(self)? {
            interrupt::check()?;
            if Instant::now() >= end {
                return Err(Failure::Late { what: what.into(), limit, missing: part.missing() });
            }
            self.turn(Duration::from_millis(50), &mut |heard| part.hear(heard))?;
        }
        Ok(())
    }

    /// Lets clients speak and listen once, or for as long as nothing happens up to `wait`.
    pub(crate) fn turn(&mut self, mut wait: Duration, hear: &mut Hear<'_>) -> Result<(), Failure> {
        if let Some(next) = self.send_pings()? {
            wait = wait.min(next);
        }
        if let Some(wake) = self.wake.take() {
            wait = wait.min(wake.saturating_duration_since(Instant::now()));
        }
        self.flush(hear)?;
        let mut events = std::mem::take(&mut self.events);
        let timeout = wait.try_into().ok();
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::system("wait for events")(error.into())),
        }
        for event in events.drain(..) {
            let client = event.data.u64() as usize;
            self.advance(client, event.flags, hear)?;
        }
        self.events = events;
        self.flush(hear)
    }

    /// Takes what the kernel says about a client's socket.
    fn advance(
        &mut self,
        client: usize,
        flags: epoll::EventFlags,
        hear: &mut Hear<'_>,
    ) -> Result<(), Failure> {
        let Some(link) = &mut self.clients[client].link else { return Ok(()) };
        if link.phase == Phase::Connecting {
            if let Err(error) = link.connected() {
                return self.lost(client, &error.to_string(), hear);
            }
            link.phase = Phase::Greeting;
            self.watch(client, epoll::EventFlags::IN)?;
            let Session { name, is_clean, keep_alive, .. } = self.clients[client].session.clone();
            self.send(client, |out| packet::connect(out, &name, is_clean, keep_alive));
            return Ok(());
        }
        if flags.contains(epoll::EventFlags::OUT) && !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(client);
        }
        if !flags
            .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
        {
            return Ok(());
        }
        let read = link.read(&mut self.buffer);
        let at = Instant::now();
        match read {
            Ok(0) => self.lost(client, "the broker closed it", hear),
            Ok(count) => self.take(client, count, at, hear),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => self.lost(client, &error.to_string(), hear),
        }
    }

    /// Takes the bytes that a client read into the buffer.
    fn take(
        &mut self,
        client: usize,
        count: usize,
        at: Instant,
        hear: &mut Hear<'_>,
    ) -> Result<(), Failure> {
        let Client { session, link: Some(link) } = &mut self.clients[client] else { return Ok(()) };
        let mut joined = std::mem::take(&mut link.partial);
        let bytes = if joined.is_empty() {
            &self.buffer[..count]
        } else {
            joined.extend(&self.buffer[..count]);
            &joined
        };
        let mut taken = 0;
        while let Some((incoming, length)) = packet::read(&bytes[taken..]).map_err(|source| {
            Failure::Packet { client: session.name.clone(), source: source.into() }
        })? {
            taken += length;
            if let Some(news) = answer(session, link, incoming)? {
                hear(&Heard { client, at, news })?;
            }
        }
        link.partial.extend(&bytes[taken..]);
        if !link.out.is_empty() && !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(client);
        }
        Ok(())
    }

    fn lost(&mut self, client: usize, reason: &str, hear: &mut Hear<'_>) -> Result<(), Failure> {
        self.clients[client].link = None;
        if !self.is_tolerant {
            let client = self.name(client).to_owned();
            return Err(Failure::Lost { client, reason: reason.into() });
        }
        hear(&Heard { client, at: Instant::now(), news: News::Closed })
    }

    /// Writes what clients have to say.
    fn flush(&mut self, hear: &mut Hear<'_>) -> Result<(), Failure> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for client in dirty.drain(..) {
            let Some(link) = &mut self.clients[client].link else { continue };
            link.is_dirty = false;
            if link.phase == Phase::Connecting {
                continue;
            }
            match link.flush() {
                Ok(all) if all != link.is_blocked => {}
                Ok(all) => {
                    link.is_blocked = !all;
                    let more =
                        if all { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
                    self.watch(client, epoll::EventFlags::IN | more)?;
                }
                Err(error) => self.lost(client, &error.to_string(), hear)?,
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        Ok(())
    }

    fn watch(&self, client: usize, flags: epoll::EventFlags) -> Result<(), Failure> {
        let Some(link) = &self.clients[client].link else { return Ok(()) };
        let data = epoll::EventData::new_u64(client as u64);
        epoll::modify(&self.epoll, link, data, flags)
            .map_err(|error| Failure::system("watch a socket")(error.into()))
    }

    /// Sends the pings that are due, and tells when the next one is.
    fn send_pings(&mut self) -> Result<Option<Duration>, Failure> {
        let Some(pings) = &mut self.pings else { return Ok(None) };
        let gap = pings.every / pings.clients.max(1) as u32;
        let due = (pings.began.elapsed().as_nanos() / gap.as_nanos().max(1)) as usize;
        let (sent, clients) = (pings.sent, pings.clients);
        pings.sent = due;
        for client in (sent..due).map(|number| number % clients) {
            let Client { session, link } = &mut self.clients[client];
            if let Some(link) = link.as_mut().filter(|link| link.phase == Phase::Ready) {
                if std::mem::replace(&mut link.is_pinging, true) {
                    let what = "its last ping was not answered when the next was due".into();
                    return Err(Failure::Answer { client: session.name.clone(), what });
                }
                self.send(client, packet::ping);
            }
        }
        Ok(Some(gap))
    }
}
