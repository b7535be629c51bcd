//! `kill -9` under load, again and again: what was acknowledged is there when the broker is back.
//!
//! The broker is killed while it is published to, at an acknowledgement, right after a burst, while
//! it starts, and while it makes its file small. After each time all retained messages are read
//! back, and persistent subscribers come back without subscribing again.
//!
//! What a killed process has written stays in the page cache, so this alone says nothing about a
//! power cut, where what was not synced is lost too. `tests/power-cut` takes that away as well.

mod fault;
mod history;
mod parts;
mod payload;
mod publisher;
mod subscriber;
mod world;

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rustix::process::Signal;

pub use fault::{Fault, Outcome};

use crate::built::built;
use crate::load::{
    Failure, allow_files,
    broker::Broker,
    interrupt,
    stats::{median, millis},
    swarm::{Part, Swarm},
};
use parts::{Bulk, Drain, EndSession, ReadBack, Resume, Storm, Until};
use subscriber::{At, Kept};
use world::World;

/// How long anything may take. It is reached only when the broker fails.
const LIMIT: Duration = Duration::from_secs(120);
/// So many faults, and the run ends.
const ENOUGH: usize = 100;
/// A store's file of this size, with little in it, is made small at the start.
const LARGE_KIB: f64 = 32.0 * 1024.0;

/// Kills Herald's broker under load, again and again, and checks that nothing acknowledged is lost.
#[derive(Debug, Clone, Parser)]
#[command(version, name = "durability")]
pub struct Settings {
    /// How often the broker is killed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub times: u32,
    /// Clients that publish, each on topics of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub publishers: u32,
    /// The longest time from the first connection to the kill
    #[arg(long, default_value_t = 400, value_name = "MS")]
    pub storm_ms: u64,
    /// In so many rounds, one in which the store's file gets large and is made small again; 0: none
    #[arg(long, default_value_t = 10, value_name = "ROUNDS")]
    pub bulk_every: u32,
    /// Seed of payloads, sizes and delays
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A program to be run after each kill, which takes away what was not synced
    #[arg(long, value_name = "PROGRAM")]
    pub after_kill: Option<PathBuf>,
    /// The broker; without it, herald-broker is built in the profile of this program
    #[arg(long, value_name = "PATH")]
    pub broker_bin: Option<PathBuf>,
}

/// Kills the broker as often as the settings say.
///
/// # Errors
/// When the broker does not start, or does not answer. What is lost is no error but a [`Fault`].
pub fn run(settings: &Settings) -> Result<Outcome, Failure> {
    interrupt::watch()?;
    allow_files(u64::from(settings.publishers) + 300)?;
    let program = match &settings.broker_bin {
        Some(path) => path.clone(),
        None => built("herald-broker")?,
    };
    let broker = Broker::start_program(program)?;
    let mut swarm = Swarm::new(broker.address())?;
    swarm.is_tolerant = true;
    let world = World::new(&mut swarm, settings.publishers as usize, settings.seed);
    let mut siege = Siege { settings, broker, swarm, world };
    let mut round = 0;
    // Each fault is waited for: many are no better than some.
    while siege.world.outcome.kills < settings.times && siege.world.outcome.faults.len() < ENOUGH {
        round += 1;
        if let Err(failure) = siege.round(round) {
            if !matches!(failure, Failure::Interrupted) {
                eprintln!("the broker's state is kept in {}", siege.broker.keep().display());
            }
            return Err(failure);
        }
    }
    let mut outcome = siege.world.outcome;
    outcome.received = siege.world.subscribers.iter().map(|one| one.received).sum();
    Ok(outcome)
}

/// A broker that is killed again and again.
struct Siege<'a> {
    settings: &'a Settings,
    broker: Broker,
    swarm: Swarm,
    world: World,
}

impl Siege<'_> {
    /// Publishes, kills, starts again and looks.
    fn round(&mut self, round: u32) -> Result<(), Failure> {
        for publisher in &mut self.world.publishers {
            publisher.restart(&mut self.world.random);
        }
        let bulk = self.settings.bulk_every;
        let is_bulk = bulk > 0 && round % bulk == bulk / 2;
        let how = if is_bulk { self.bulk()? } else { self.storm()? };
        self.kill()?;
        play(&mut self.broker, &mut self.swarm, &mut Drain(&mut self.world), "the ends")?;
        let size = self.broker.stored_kib();
        let starts = match self.world.below(4) {
            _ if is_bulk => 3,
            0 => 1 + self.world.below(3),
            _ => 0,
        };
        for _ in 0..starts {
            if self.world.outcome.kills < self.settings.times {
                self.kill_at_start(is_bulk)?;
            }
        }
        let took = self.start()?;
        self.world.outcome.restarts.push(millis(took));
        if size >= LARGE_KIB && self.broker.stored_kib() < size / 2.0 {
            self.world.outcome.compactions += 1;
        }
        self.look()?;
        let outcome = &self.world.outcome;
        eprintln!(
            "{} kills, the last {how}: {} published, {} acknowledged, {} faults; back after {:.0?}",
            outcome.kills,
            outcome.published,
            outcome.acked,
            outcome.faults.len(),
            took
        );
        Ok(())
    }

    /// Publishes up to a moment that is drawn; says which kind of moment.
    fn storm(&mut self) -> Result<&'static str, Failure> {
        let longest = Duration::from_millis(self.settings.storm_ms);
        let world = &mut self.world;
        let (how, until) = match world.below(4) {
            0 => ("after a burst", Until::Burst),
            1 => {
                let acks = world.outcome.acked + 1 + world.below(2_000) as u64;
                world.doomed = Some((acks, self.broker.process()));
                ("at an acknowledgement", Until::At(Instant::now() + 2 * longest))
            }
            _ => {
                let time = world.random.between(Duration::ZERO, longest);
                ("under load", Until::At(Instant::now() + time))
            }
        };
        let played = self.swarm.play(&mut Storm::new(world, until), "a storm", LIMIT);
        self.world.doomed = None;
        played.map_err(|failure| self.broker.explain(failure))?;
        if until == Until::Burst {
            thread::sleep(self.world.random.between(Duration::ZERO, Duration::from_millis(4)));
        }
        Ok(how)
    }

    fn bulk(&mut self) -> Result<&'static str, Failure> {
        play(&mut self.broker, &mut self.swarm, &mut Bulk::new(&mut self.world), "a bulk")?;
        Ok("with a large file")
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.broker.end(Signal::KILL)?;
        self.world.outcome.kills += 1;
        let Some(program) = &self.settings.after_kill else { return Ok(()) };
        let status = Command::new(program).status().and_then(|status| match status.success() {
            true => Ok(()),
            false => Err(std::io::Error::other(status.to_string())),
        });
        status.map_err(Failure::system(format!("run {}", program.display())))
    }

    /// Kills the broker while it starts.
    fn kill_at_start(&mut self, is_bulk: bool) -> Result<(), Failure> {
        // To make a file small takes longer than to open it.
        let longest =
            median(&self.world.outcome.restarts).max(10.0) * if is_bulk { 8.0 } else { 1.2 };
        let longest = Duration::from_secs_f64(longest / 1000.0);
        self.broker.start_again()?;
        thread::sleep(self.world.random.between(Duration::ZERO, longest));
        self.broker.check()?;
        self.world.outcome.kills_at_start += 1;
        self.kill()
    }

    fn start(&mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.broker.start_again()?;
        while !self.broker.is_listening()? {
            interrupt::check()?;
            let limit = LIMIT;
            if began.elapsed() > limit {
                let (what, missing) = ("the broker to start".into(), "`listening on`".into());
                return Err(Failure::Late { what, limit, missing });
            }
            thread::sleep(Duration::from_micros(500));
        }
        Ok(began.elapsed())
    }

    /// Reads back all that is retained; then subscribers come back, and one ends its session.
    fn look(&mut self) -> Result<(), Failure> {
        let Self { broker, swarm, world, .. } = self;
        let mut reading = ReadBack::new(world);
        play(broker, swarm, &mut reading, "what is retained")?;
        let found = reading.found;
        play(broker, swarm, &mut Resume::new(world, &found), "subscribers to come back")?;
        let number = world.below(2 * world.subscribers.len());
        let is_kept =
            |one: &subscriber::Subscriber| one.kept == Kept::Granted && one.at == At::Ready;
        if world.subscribers.get(number).is_some_and(is_kept) {
            play(broker, swarm, &mut EndSession::new(world, number), "a session to end")?;
        }
        Ok(())
    }
}

/// Plays a part to its end; a failure says so if the broker is gone.
fn play(
    broker: &mut Broker,
    swarm: &mut Swarm,
    part: &mut dyn Part,
    what: &str,
) -> Result<(), Failure> {
    swarm.play(part, what, LIMIT).map_err(|failure| broker.explain(failure))
}
