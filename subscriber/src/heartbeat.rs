//! What the host says of itself on its presence: its birth on each connection, heartbeats while
//! there is one, and its death, which it signs in advance.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_client::Message;
use herald_core::State;
use herald_proto::{
    WIRE_VERSION,
    beacon::Freshness,
    host::ProfileName,
    id::{Incarnation, Sequence},
    presence::{Hearing, Liveness, Presence, TakenOrder},
    signing::sign_as_host,
    time::Timestamp,
    topic::Subject,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{clock, link::Speaker};

/// The longest time between two heartbeats.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// For how long at most a heartbeat is put off, so that a fleet does not speak all at once.
const SPREAD: Duration = Duration::from_secs(10);
/// How long something else may stand on the host's own presence before the host says it again: the
/// death of an older connection, which a broker tells late, is mostly overtaken by its birth.
const REASSERT: Duration = Duration::from_secs(5);

/// What heartbeats tell, and the place of the last one.
pub struct Vitals {
    speaker: Arc<Speaker>,
    told: Mutex<Told>,
    news: Notify,
    /// From 0 to 1: where in the spread this host is.
    share: f64,
}

#[derive(Default)]
struct Told {
    session: Option<(u64, Incarnation)>,
    beat: u64,
    profiles: BTreeMap<ProfileName, Sequence>,
    beacon: Option<Timestamp>,
    floor: Timestamp,
    /// The payload that was said last.
    said: Vec<u8>,
    /// When something else than that was seen on the topic.
    contradicted: Option<Instant>,
    due: Option<Instant>,
    /// Whether the log says that no beacons come.
    is_stale: bool,
}

impl Vitals {
    /// Begins with nothing to tell. The seed spreads the heartbeats of a fleet.
    pub fn new(speaker: Arc<Speaker>, seed: u64) -> Self {
        let share = (seed % 1_024) as f64 / 1_024.0;
        Self { speaker, told: Mutex::default(), news: Notify::new(), share }
    }

    /// Takes note of a profile's state. A beacon that is news is repeated soon.
    pub fn keep_in_mind(&self, profile: &ProfileName, state: &State) {
        let mut told = self.told();
        if let Some(taken) = state.taken {
            told.profiles.insert(profile.clone(), taken.sequence);
        }
        told.floor = told.floor.max(state.floor);
        if state.beacon > told.beacon {
            told.beacon = state.beacon;
            let spread = self.freshness().map_or(SPREAD, |it| SPREAD.min(it.interval() / 4));
            let due = Instant::now() + spread.mul_f64(self.share);
            told.due = Some(told.due.map_or(due, |known| known.min(due)));
            self.news.notify_one();
        }
    }

    /// Begins a session: gives its birth, and the death that the broker publishes at its end.
    pub fn begin(&self, session: u64, incarnation: Incarnation) -> (Message, Message) {
        let mut told = self.told();
        told.session = Some((session, incarnation));
        told.beat = 0;
        let death = self.sign(&mut told, Liveness::Offline);
        let birth = self.sign(&mut told, Liveness::Online);
        self.say(&mut told, &birth);
        (birth, death)
    }

    /// Takes note of what stands on the host's own presence.
    pub fn heard(&self, payload: &[u8]) {
        let mut told = self.told();
        told.contradicted = (payload != told.said).then(Instant::now);
        if told.contradicted.is_some() {
            self.news.notify_one();
        }
    }

    /// Gives a heartbeat whenever one is due and there is a connection.
    pub async fn beat(&self, connected: Rc<Cell<bool>>, mut send: impl FnMut(Message)) {
        loop {
            let due = self.due();
            tokio::select! {
                () = self.news.notified() => continue,
                () = sleep_until(due) => {}
            }
            let mut told = self.told();
            told.beat += 1;
            let heartbeat = self.sign(&mut told, Liveness::Online);
            self.say(&mut told, &heartbeat);
            // A connection that comes is greeted with all there is to say.
            if connected.get() {
                send(heartbeat);
            }
        }
    }

    fn due(&self) -> Instant {
        let told = self.told();
        let regular = told.due.unwrap_or_else(|| Instant::now() + PERIOD);
        let again = told.contradicted.map(|since| since + REASSERT);
        again.map_or(regular, |again| again.min(regular))
    }

    fn say(&self, told: &mut Told, message: &Message) {
        told.said.clone_from(&message.payload);
        told.contradicted = None;
        // Not late to say that no beacon came.
        let lapse = self.freshness().zip(told.beacon).map(|(it, beacon)| it.end_of(beacon));
        let until = lapse.map(|lapse| lapse.since(told.time())).filter(|left| !left.is_zero());
        let wait = until.map_or(PERIOD, |left| PERIOD.min(left + Duration::from_millis(1)));
        told.due = Some(Instant::now() + wait);
    }

    fn sign(&self, told: &mut Told, liveness: Liveness) -> Message {
        let (session, incarnation) = told.session.unwrap_or((0, Incarnation::from_bytes([0; 16])));
        let hearing =
            self.freshness().map(|freshness| match freshness.vouches(told.beacon, told.time()) {
                true => Hearing::Fresh,
                false => Hearing::Stale,
            });
        if liveness == Liveness::Online {
            let is_stale = hearing == Some(Hearing::Stale);
            let was_stale = std::mem::replace(&mut told.is_stale, is_stale);
            if is_stale && !was_stale {
                tracing::warn!(beacon = ?told.beacon, "no beacon for two intervals: new orders are not taken");
            }
        }
        let taken = told.profiles.iter();
        let presence = Presence {
            version: WIRE_VERSION,
            host: self.speaker.host.clone(),
            session,
            liveness,
            incarnation,
            boot: self.speaker.boot,
            time: clock::wall(),
            agent: self.speaker.agent.clone(),
            beat: told.beat,
            beacon: told.beacon,
            hearing,
            taken: taken
                .map(|(profile, sequence)| TakenOrder {
                    profile: profile.clone(),
                    sequence: *sequence,
                })
                .collect(),
        };
        let payload = sign_as_host(&presence, &self.speaker.fleet, &self.speaker.key);
        Message::new(self.speaker.topic(Subject::Presence(self.speaker.host.clone())), payload)
    }

    fn freshness(&self) -> Option<Freshness> {
        self.speaker.trust.in_force().freshness()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn time(&self) -> Timestamp {
        clock::wall().max(self.floor)
    }
}
