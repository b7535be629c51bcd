//! A broker with its clients: the hosts, and one publisher.

use std::time::{Duration, Instant};

use super::{
    broker::Broker,
    failure::Failure,
    interrupt, names,
    scenario_connect::Handshakes,
    session::{Heard, Session},
    settings::{Sessions, Settings, Side},
    swarm::{Part, Swarm},
};

/// How long anything that clients do together may take. It is reached only when a broker fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How long a broker may take to come to rest.
const REST_LIMIT: Duration = Duration::from_secs(20);

/// A broker is at rest when it used less than [`REST_TIME`] in each of some slices of time.
const SLICE: Duration = Duration::from_millis(5);
const REST_TIME: Duration = Duration::from_micros(250);
const SLICES_AT_REST: u32 = 3;

/// A broker with its clients.
pub(crate) struct Stage<'a> {
    /// What the run does.
    pub(crate) settings: &'a Settings,
    /// Which broker this is.
    pub(crate) side: Side,
    /// The broker.
    pub(crate) broker: Broker,
    /// The clients: first the hosts, then the others.
    pub(crate) swarm: Swarm,
    /// How many hosts there are.
    pub(crate) hosts: usize,
    /// The client that publishes to hosts.
    pub(crate) publisher: usize,
}

impl<'a> Stage<'a> {
    /// Starts a broker, connects the publisher, and leaves the hosts to be connected.
    pub(crate) fn start(
        settings: &'a Settings,
        side: Side,
        keep_alive: u16,
    ) -> Result<Self, Failure> {
        let broker = Broker::start(settings, side)?;
        let mut swarm = Swarm::new(broker.address())?;
        let hosts = settings.hosts as usize;
        for number in 0..hosts {
            swarm.add(Session {
                name: names::host(number),
                is_clean: settings.sessions == Sessions::Clean,
                keep_alive,
                filters: vec![names::desired(number), names::BEACON.into()],
            });
        }
        let publisher = swarm.add(clean_session("publisher", &[]));
        let mut stage = Self { settings, side, broker, swarm, hosts, publisher };
        stage.connect(vec![publisher], "the publisher to connect")?;
        stage.rest(&mut |_| Ok(()))?;
        Ok(stage)
    }

    /// Connects clients, and gives the time that it took.
    pub(crate) fn connect(&mut self, clients: Vec<usize>, what: &str) -> Result<Duration, Failure> {
        let mut handshakes = Handshakes::new(clients, self.settings.handshakes as usize);
        let began = Instant::now();
        self.play(&mut handshakes, what)?;
        Ok(began.elapsed())
    }

    /// Connects all hosts, and gives the time that it took.
    pub(crate) fn connect_hosts(&mut self) -> Result<Duration, Failure> {
        self.connect((0..self.hosts).collect(), "all hosts to connect and subscribe")
    }

    /// Plays a part to its end; a failure says so if the broker is gone.
    pub(crate) fn play(&mut self, part: &mut dyn Part, what: &str) -> Result<(), Failure> {
        let played = self.swarm.play(part, what, LIMIT);
        played.map_err(|failure| self.broker.explain(failure))
    }

    /// Lets the broker come to rest, while what clients hear is taken.
    pub(crate) fn rest(
        &mut self,
        hear: &mut dyn FnMut(&Heard<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let (mut calm, mut last) = (0, self.broker.processor_time()?);
        while calm < SLICES_AT_REST {
            interrupt::check()?;
            if began.elapsed() > REST_LIMIT {
                let what = format!("{:?} broker to rest", self.side);
                let missing = "it still uses processor time, with nothing to do".into();
                return Err(Failure::Late { what, limit: REST_LIMIT, missing });
            }
            self.idle(SLICE, hear)?;
            let now = self.broker.processor_time()?;
            calm = if now.saturating_sub(last) < REST_TIME { calm + 1 } else { 0 };
            last = now;
        }
        self.broker.check()
    }

    /// Lets a time pass, while what clients hear is taken.
    pub(crate) fn idle(
        &mut self,
        time: Duration,
        hear: &mut dyn FnMut(&Heard<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|t| !t.is_zero()) {
            interrupt::check()?;
            let turned = self.swarm.turn(left.min(Duration::from_millis(50)), hear);
            turned.map_err(|failure| self.broker.explain(failure))?;
        }
        Ok(())
    }

    /// Says something about this side.
    pub(crate) fn say(&self, what: std::fmt::Arguments<'_>) {
        self.settings
            .say(format_args!("{:>10}  {what}", format!("{:?}", self.side).to_lowercase()));
    }
}

/// A session that ends with its connection.
pub(crate) fn clean_session(name: &str, filters: &[&str]) -> Session {
    let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
    Session { name: name.into(), is_clean: true, keep_alive: 1200, filters }
}
