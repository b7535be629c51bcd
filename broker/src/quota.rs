//! How much one login may make the broker keep, and listen for.
//!
//! Topics are bounded by whose they are, as the store does not know who wrote them: those of a host
//! by its profiles, all others together. Nobody in particular, which is anyone on this machine, is
//! bounded by the limits of connections and topics alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use herald_proto::topic::{Subject, Topic};

use crate::principal::Principal;

/// Filters of a host beside those for its profiles: presence, roster, beacon, and some to spare.
const HOST_FILTERS: usize = 16;
/// Filters of a candidate: its entry in the roster, in a few connections, as the network may leave some
/// behind.
const CANDIDATE_FILTERS: usize = 8;
/// Filters of a host for each profile: order, report, roll back, release, decision, and one to spare.
const PROFILE_FILTERS: usize = 6;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most profiles of a host: topics of a kind that are for each profile.
    pub profiles: usize,
    /// Most retained messages, those of hosts included, that leave room for one of a new topic that is
    /// no host's own.
    pub retained: usize,
    /// Most persistent sessions of a login that is no host's: of a host there is one.
    pub sessions: usize,
    /// Most filters of a login, in all its sessions.
    pub filters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { profiles: 16, retained: 300_000, sessions: 16, filters: 200_000 }
    }
}

impl Limits {
    /// Tells how many filters a principal may have.
    pub fn filters_of(&self, principal: &Principal) -> usize {
        match principal {
            Principal::Host { .. } => HOST_FILTERS + PROFILE_FILTERS * self.profiles,
            Principal::Candidate { .. } => CANDIDATE_FILTERS,
            Principal::Member { .. } => self.filters,
            Principal::Anonymous => usize::MAX,
        }
    }

    /// Tells how many persistent sessions a principal may have.
    fn sessions_of(&self, principal: &Principal) -> usize {
        match principal {
            Principal::Member { .. } => self.sessions,
            // Of a host none is kept but under its own client id.
            Principal::Host { .. } | Principal::Anonymous => usize::MAX,
            Principal::Candidate { .. } => 0,
        }
    }

    /// Tells whether there is room for a message of a topic that has none yet, where so many messages
    /// are retained. `of_host` counts the topics that begin with something, up to a number.
    ///
    /// # Errors
    /// Those of `of_host`.
    pub fn have_room<E>(
        &self,
        topic: &str,
        retained: u64,
        of_host: impl FnOnce(&str, usize) -> Result<usize, E>,
    ) -> Result<bool, E> {
        // It was parsed when it came in.
        let Ok(parsed) = topic.parse::<Topic>() else { return Ok(true) };
        let has_profile = match parsed.subject {
            // One for each host, and hosts have logins.
            Subject::Presence(_) => return Ok(true),
            Subject::Status(..) | Subject::Rollback(..) => true,
            Subject::Desired(..) if retained < self.retained as u64 => true,
            _ => return Ok(retained < self.retained as u64),
        };
        let Some((host, _)) = topic.rsplit_once('/').filter(|_| has_profile) else {
            return Ok(true);
        };
        Ok(of_host(&format!("{host}/"), self.profiles)? < self.profiles)
    }
}

/// What each login has.
#[derive(Debug, Default)]
pub struct Holdings {
    owners: Mutex<HashMap<Arc<str>, Holding>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Holding {
    sessions: usize,
    filters: usize,
}

impl Holdings {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Holding>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session that is kept already.
    pub fn found_session(&self, owner: &Arc<str>) {
        self.change(owner, |holding| holding.sessions += 1);
    }

    /// Takes a persistent session, if the principal may have another one.
    #[must_use]
    pub fn take_session(&self, owner: &Arc<str>, principal: &Principal, limits: &Limits) -> bool {
        let most = limits.sessions_of(principal);
        self.change(owner, |holding| {
            let has_room = holding.sessions < most;
            holding.sessions += usize::from(has_room);
            has_room
        })
    }

    /// Gives one back.
    pub fn give_session(&self, owner: &Arc<str>) {
        self.change(owner, |holding| holding.sessions = holding.sessions.saturating_sub(1));
    }

    /// Takes a filter, if there are fewer than so many.
    #[must_use]
    pub fn take_filter(&self, owner: &Arc<str>, most: usize) -> bool {
        self.change(owner, |holding| {
            let has_room = holding.filters < most;
            holding.filters += usize::from(has_room);
            has_room
        })
    }

    /// Gives so many back.
    pub fn give_filters(&self, owner: &Arc<str>, count: usize) {
        self.change(owner, |holding| holding.filters = holding.filters.saturating_sub(count));
    }

    fn change<T>(&self, owner: &Arc<str>, change: impl FnOnce(&mut Holding) -> T) -> T {
        let mut owners = self.lock();
        let changed = change(owners.entry(Arc::clone(owner)).or_default());
        if owners.get(owner) == Some(&Holding::default()) {
            owners.remove(owner);
            if owners.len() < owners.capacity() / 4 {
                owners.shrink_to_fit();
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Role;

    const LIMITS: Limits = Limits { profiles: 2, retained: 10, sessions: 2, filters: 3 };

    fn has_room(topic: &str, retained: u64, of_host: usize) -> bool {
        let count = |prefix: &str, most: usize| -> Result<usize, ()> {
            assert!(topic.starts_with(prefix) && prefix.ends_with("/web-1/"), "{prefix}");
            Ok(of_host.min(most))
        };
        LIMITS.have_room(topic, retained, count).unwrap()
    }

    #[test]
    fn a_host_has_room_for_its_profiles_whatever_others_keep_and_others_up_to_the_total() {
        for (kind, retained, of_host, expected) in [
            ("status/web-1/a", 1_000, 1, true),
            ("status/web-1/a", 0, 2, false),
            ("rollback/web-1/a", 1_000, 0, true),
            ("rollback/web-1/a", 0, 9, false),
            ("presence/web-1", 1_000, 0, true),
            ("desired/web-1/a", 9, 1, true),
            ("desired/web-1/a", 9, 2, false),
            ("desired/web-1/a", 10, 0, false),
            ("beacon", 9, 0, true),
            ("beacon", 10, 0, false),
            ("roster/web-1", 10, 0, false),
        ] {
            let topic = format!("herald/v1/home/{kind}");
            assert!(topic.parse::<Topic>().is_ok(), "{topic}");
            assert_eq!(
                has_room(&topic, retained, of_host),
                expected,
                "{kind} {retained} {of_host}"
            );
        }
    }

    #[test]
    fn a_login_takes_no_more_than_it_may_and_gives_back_what_it_took() {
        let holdings = Holdings::default();
        let owner: Arc<str> = "home/alice".into();
        let alice = Principal::Member {
            fleet: "home".parse().unwrap(),
            name: "alice".into(),
            role: Role::Operator,
        };
        holdings.found_session(&owner);
        assert!(holdings.take_session(&owner, &alice, &LIMITS));
        assert!(!holdings.take_session(&owner, &alice, &LIMITS));
        holdings.give_session(&owner);
        assert!(holdings.take_session(&owner, &alice, &LIMITS));
        let most = LIMITS.filters_of(&alice);
        assert!((0..3).all(|_| holdings.take_filter(&owner, most)));
        assert!(!holdings.take_filter(&owner, most));
        assert!(holdings.take_filter(&"home/bob".into(), most), "another's are its own");
        holdings.give_filters(&"home/bob".into(), 1);
        holdings.give_filters(&owner, 3);
        holdings.give_session(&owner);
        holdings.give_session(&owner);
        assert!(holdings.lock().is_empty(), "forgets who has nothing");
    }
}
