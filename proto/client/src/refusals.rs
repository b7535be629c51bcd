//! Births that the broker refuses by closing the connection: they must not keep a client away for
//! ever from what it could still do.

use std::{collections::HashMap, time::Duration};

use herald_proto::topic::Topic;
use tokio::time::Instant;
use tracing::error;

use crate::{ConnectionLost, Message, connection::End, outbox::MOST_REFUSALS};

/// For how long a refused birth is left out.
const LEFT_OUT: Duration = Duration::from_secs(5 * 60);

/// Which births were refused, and which are left out of greetings for that.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// The topic of the birth that was refused last, and on how many connections in a row.
    suspect: Option<(Topic, u32)>,
    /// Until when births on these topics are left out.
    left_out: HashMap<Topic, Instant>,
}

impl Refusals {
    /// Takes out the births that are not to be sent now.
    pub(crate) fn leave_out(&mut self, births: &mut Vec<Message>, now: Instant) {
        self.left_out.retain(|_, until| now < *until);
        births.retain(|birth| !self.left_out.contains_key(&birth.topic));
    }

    /// Notes how a connection ended, and for how long it was of use. Attempts that did not come as
    /// far as the births say nothing about them.
    pub(crate) fn note(&mut self, end: &End, worked: Duration, now: Instant) {
        let End::Lost(ConnectionLost::BirthRefused { topic, size }) = end else {
            if !worked.is_zero() {
                self.suspect = None;
            }
            return;
        };
        let before = self.suspect.take().filter(|(suspect, _)| suspect == topic);
        let connections = before.map_or(0, |(_, connections)| connections) + 1;
        if connections < MOST_REFUSALS {
            self.suspect = Some((topic.clone(), connections));
            return;
        }
        error!(
            %topic, size, connections,
            "the broker refuses this birth message, which is left out for five minutes: check that this \
             client may publish there, and that the broker takes messages of this size"
        );
        self.left_out.insert(topic.clone(), now + LEFT_OUT);
    }
}

#[cfg(test)]
mod tests {
    use herald_proto::topic::Subject;

    use super::*;

    fn topic(host: &str) -> Topic {
        Topic::new("home".parse().unwrap(), Subject::Presence(host.parse().unwrap()))
    }

    fn refused(host: &str) -> End {
        End::Lost(ConnectionLost::BirthRefused { topic: topic(host), size: 1 })
    }

    fn left(refusals: &mut Refusals, now: Instant) -> usize {
        let mut births = vec![Message::new(topic("a"), "a"), Message::new(topic("b"), "b")];
        refusals.leave_out(&mut births, now);
        births.len()
    }

    #[test]
    fn a_birth_refused_five_times_in_a_row_is_left_out_for_an_hour_and_the_others_are_not() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..4 {
            refusals.note(&refused("a"), Duration::ZERO, now);
            refusals.note(&End::Lost(ConnectionLost::Closed), Duration::ZERO, now);
        }
        assert_eq!(left(&mut refusals, now), 2);
        refusals.note(&refused("a"), Duration::ZERO, now);
        assert_eq!(left(&mut refusals, now), 1);
        assert_eq!(left(&mut refusals, now + LEFT_OUT), 2);
    }

    #[test]
    fn a_connection_that_worked_or_another_birth_starts_the_count_again() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let worked = End::Lost(ConnectionLost::Closed);
        for end in [worked, refused("b")] {
            for _ in 0..4 {
                refusals.note(&refused("a"), Duration::ZERO, now);
            }
            let lasted = Duration::from_secs(u64::from(!matches!(
                end,
                End::Lost(ConnectionLost::BirthRefused { .. })
            )));
            refusals.note(&end, lasted, now);
        }
        refusals.note(&refused("a"), Duration::ZERO, now);
        assert_eq!(left(&mut refusals, now), 2);
    }
}
