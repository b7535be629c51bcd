//! What clients subscribe to: a topic, or one of the few sets of topics that have a name.
//!
//! A filter is no pattern: a topic is in at most three of them, so that whoever dispatches looks
//! those up and matches nothing. What MQTT could ask for beyond them (`#`, a `+` elsewhere, shared
//! subscriptions) is no filter of ours.

use std::fmt::{self, Write as _};

use super::{Subject, Topic};
use crate::{
    host::{FleetId, HostId},
    text::Unparsable,
};

/// What a client subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// One topic.
    Exactly(Topic),
    /// A kind of topic, for every profile of a host. It matches nothing for a kind that has no
    /// topic for each profile, and is not parsed then.
    OfHost(FleetId, Kind, HostId),
    /// A kind of topic, for all of a fleet.
    Every(FleetId, Kind),
}

codes! {
    /// The kinds of topics of which there are many: for each host, release or token.
    pub enum Kind {
        /// Latest reports.
        Status = 0 => "status",
        /// Latest roll backs.
        Rollback = 1 => "rollback",
        /// Presences.
        Presence = 2 => "presence",
        /// All reports.
        Event = 3 => "event",
        /// Orders.
        Desired = 4 => "desired",
        /// What activations printed.
        Log = 5 => "log",
        /// Plans of releases.
        Release = 6 => "release",
        /// Decisions about releases.
        Decision = 7 => "decision",
        /// Requests to join.
        Enrol = 8 => "enrol",
        /// Pinned keys of hosts.
        Roster = 9 => "roster",
    }
}

impl Kind {
    /// Tells whether each profile of a host has a topic of this kind.
    pub const fn is_per_profile(self) -> bool {
        matches!(self, Self::Desired | Self::Status | Self::Rollback)
    }
}

impl Subject {
    /// Gives the kind of topic; none for the beacon, of which a fleet has one.
    pub const fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Desired(..) => Kind::Desired,
            Self::Status(..) => Kind::Status,
            Self::Rollback(..) => Kind::Rollback,
            Self::Presence(_) => Kind::Presence,
            Self::Event(_) => Kind::Event,
            Self::Log(_) => Kind::Log,
            Self::Release(_) => Kind::Release,
            Self::Decision(_) => Kind::Decision,
            Self::Enrol(_) => Kind::Enrol,
            Self::Roster(_) => Kind::Roster,
            Self::Beacon => return None,
        })
    }

    /// Gives the host that the topic is about, if it is about one.
    pub const fn host(&self) -> Option<&HostId> {
        match self {
            Self::Desired(host, _)
            | Self::Status(host, _)
            | Self::Rollback(host, _)
            | Self::Presence(host)
            | Self::Event(host)
            | Self::Log(host)
            | Self::Roster(host) => Some(host),
            Self::Release(_) | Self::Decision(_) | Self::Beacon | Self::Enrol(_) => None,
        }
    }
}

impl Topic {
    /// Gives every filter that matches the topic: one to three, the narrowest first.
    pub fn filters(&self) -> impl Iterator<Item = Filter> + use<> {
        let Self { fleet, subject } = self;
        let kind = subject.kind();
        let of_host = match (kind, subject.host()) {
            (Some(kind), Some(host)) if kind.is_per_profile() => {
                Some(Filter::OfHost(fleet.clone(), kind, host.clone()))
            }
            _ => None,
        };
        let every = kind.map(|kind| Filter::Every(fleet.clone(), kind));
        [Some(Filter::Exactly(self.clone())), of_host, every].into_iter().flatten()
    }

    /// Visits the text of every filter that matches the topic, as [`Topic::filters`] gives them.
    ///
    /// It allocates nothing once `buffer` has grown to the longest topic: for dispatch from a map
    /// whose keys are texts.
    pub fn each_filter_text(&self, buffer: &mut String, mut visit: impl FnMut(&str)) {
        let mut show = |text: &dyn fmt::Display| {
            buffer.clear();
            // Writing to a String can't fail.
            let _ = write!(buffer, "{text}");
            visit(buffer);
        };
        show(self);
        let Some(kind) = self.subject.kind() else {
            return;
        };
        let every = Wildcard { fleet: &self.fleet, kind, host: None };
        let host = self.subject.host().filter(|_| kind.is_per_profile());
        if host.is_some() {
            show(&Wildcard { host, ..every });
        }
        show(&every);
    }
}

impl Filter {
    /// Tells whether the topic is one of those that the filter asks for.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Exactly(one) => one == topic,
            Self::OfHost(fleet, kind, host) => {
                kind.is_per_profile()
                    && *fleet == topic.fleet
                    && topic.subject.kind() == Some(*kind)
                    && topic.subject.host() == Some(host)
            }
            Self::Every(fleet, kind) => {
                *fleet == topic.fleet && topic.subject.kind() == Some(*kind)
            }
        }
    }

    /// Gives the fleet, outside of which it matches nothing.
    pub fn fleet(&self) -> &FleetId {
        match self {
            Self::Exactly(topic) => &topic.fleet,
            Self::OfHost(fleet, ..) | Self::Every(fleet, _) => fleet,
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(topic) => topic.fmt(f),
            &Self::OfHost(ref fleet, kind, ref host) => {
                Wildcard { fleet, kind, host: Some(host) }.fmt(f)
            }
            &Self::Every(ref fleet, kind) => Wildcard { fleet, kind, host: None }.fmt(f),
        }
    }
}

/// Reads what `Display` writes, and nothing else.
impl std::str::FromStr for Filter {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        if !text.contains(['+', '#', '$']) {
            return text.parse().map(Self::Exactly);
        }
        let unparsable = || {
            let expected = "a topic, or herald/v1/<fleet>/<kind>/ with a + for every host, \
                            profile, release or token, and no other wildcard";
            Unparsable::new("filter", text, expected)
        };
        let mut levels = text.strip_prefix("herald/v1/").ok_or_else(unparsable)?.split('/');
        let fleet = levels.next().unwrap_or_default().parse()?;
        let rest: Vec<&str> = levels.collect();
        let (kind, host) = match *rest {
            ["release", "+", "decision"] => (Some(Kind::Decision), None),
            [name, "+", "+"] => (named(name, true), None),
            [name, host, "+"] => (named(name, true), Some(host)),
            [name, "+"] => (named(name, false), None),
            _ => (None, None),
        };
        let kind = kind.ok_or_else(unparsable)?;
        Ok(match host {
            Some(host) => Self::OfHost(fleet, kind, host.parse()?),
            None => Self::Every(fleet, kind),
        })
    }
}

/// Finds the kind whose topics begin with a name and have one level or two after it.
fn named(name: &str, per_profile: bool) -> Option<Kind> {
    let kind = match name.parse().ok()? {
        // The one stands under `release`; the other is how `Kind` shows what it does not know.
        Kind::Decision | Kind::Unknown(_) => return None,
        _ if name.starts_with("unknown-") => return None,
        kind => kind,
    };
    (kind.is_per_profile() == per_profile).then_some(kind)
}

/// The text of a filter with a wildcard.
struct Wildcard<'a> {
    fleet: &'a FleetId,
    kind: Kind,
    host: Option<&'a HostId>,
}

impl fmt::Display for Wildcard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "herald/v1/{}/", self.fleet)?;
        match (self.kind, self.host) {
            (kind, Some(host)) => write!(f, "{kind}/{host}/+"),
            (Kind::Decision, None) => f.write_str("release/+/decision"),
            (kind, None) if kind.is_per_profile() => write!(f, "{kind}/+/+"),
            (kind, None) => write!(f, "{kind}/+"),
        }
    }
}

#[cfg(test)]
mod tests;
