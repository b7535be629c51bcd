//! Who may do what: a pure table over topics and filters.
//!
//! The roles guard what a stolen login could bury or overhear. They do not protect hosts from
//! orders: those are signed, and a host obeys no broker. `docs/access.md` has the table in words.

use herald_proto::host::HostId;
use herald_proto::topic::{Filter, Kind, Subject, Topic};

use crate::principal::{Principal, Role};

/// Tells whether a principal may publish on a topic. A message is retained just where the topic's
/// kind says so, whoever publishes it.
pub fn may_publish(principal: &Principal, topic: &Topic, retained: bool) -> bool {
    retained == topic.is_retained()
        && match principal {
            Principal::Anonymous => true,
            Principal::Host { fleet, host } => {
                *fleet == topic.fleet && host_writes(host, &topic.subject)
            }
            Principal::Candidate { fleet, token, .. } => {
                *fleet == topic.fleet && topic.subject == Subject::Enrol(*token)
            }
            Principal::Member { fleet, role, .. } => {
                *fleet == topic.fleet && member_writes(*role, &topic.subject)
            }
        }
}

/// Tells whether a principal may subscribe to a filter: to all that it matches, or not at all.
pub fn may_subscribe(principal: &Principal, filter: &Filter) -> bool {
    match principal {
        Principal::Anonymous => true,
        Principal::Host { fleet, host } => {
            fleet == filter.fleet()
                && match filter {
                    Filter::Exactly(topic) => host_reads(host, &topic.subject),
                    Filter::OfHost(_, kind, of) => of == host && kind.is_per_profile(),
                    Filter::Every(..) => false,
                }
        }
        Principal::Candidate { fleet, host, .. } => match filter {
            Filter::Exactly(topic) => {
                *fleet == topic.fleet && topic.subject == Subject::Roster(host.clone())
            }
            Filter::OfHost(..) | Filter::Every(..) => false,
        },
        Principal::Member { fleet, role, .. } => {
            fleet == filter.fleet()
                && match filter {
                    Filter::Exactly(topic) => member_reads(*role, topic.subject.kind()),
                    Filter::OfHost(_, kind, _) | Filter::Every(_, kind) => {
                        member_reads(*role, Some(*kind))
                    }
                }
        }
    }
}

/// A host speaks for itself only.
fn host_writes(host: &HostId, subject: &Subject) -> bool {
    match subject {
        Subject::Status(of, _)
        | Subject::Rollback(of, _)
        | Subject::Presence(of)
        | Subject::Event(of)
        | Subject::Log(of) => of == host,
        Subject::Desired(..)
        | Subject::Release(_)
        | Subject::Decision(_)
        | Subject::Beacon
        | Subject::Enrol(_)
        | Subject::Roster(_) => false,
    }
}

/// A host reads its orders and what it said itself (a will or another session may have spoken for
/// it), and what is said about a release that it can name: its own order names one. It sees no
/// other host, and so has no filter for all releases either.
fn host_reads(host: &HostId, subject: &Subject) -> bool {
    match subject {
        Subject::Desired(of, _)
        | Subject::Status(of, _)
        | Subject::Rollback(of, _)
        | Subject::Presence(of)
        | Subject::Roster(of) => of == host,
        Subject::Release(_) | Subject::Decision(_) | Subject::Beacon => true,
        Subject::Event(_) | Subject::Log(_) | Subject::Enrol(_) => false,
    }
}

fn member_writes(role: Role, subject: &Subject) -> bool {
    match (role, subject) {
        (Role::Operator, Subject::Desired(..) | Subject::Release(_) | Subject::Roster(_)) => true,
        // To take away a request that was used, or to hand in one of a host that can't.
        (Role::Operator, Subject::Enrol(_)) => true,
        (Role::Rollout, Subject::Decision(_) | Subject::Beacon) => true,
        // To relay a fallback that operators signed. A stolen login could bury an order with it,
        // which hosts report as withheld, and could deploy nothing.
        (Role::Rollout, Subject::Desired(..)) => true,
        (Role::Operator | Role::Rollout | Role::Monitor, _) => false,
    }
}

fn member_reads(role: Role, kind: Option<Kind>) -> bool {
    match (role, kind) {
        (_, Some(Kind::Unknown(_))) => false,
        (Role::Operator | Role::Rollout, _) => true,
        // Orders name store paths and logs hold what programs printed: neither is for dashboards.
        (Role::Monitor, Some(Kind::Desired | Kind::Log | Kind::Enrol)) => false,
        (Role::Monitor, _) => true,
    }
}

#[cfg(test)]
mod tests;
