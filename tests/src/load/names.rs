//! The simulated fleet's names: its hosts and their topics.

/// The fleet.
pub(crate) const FLEET: &str = "load";

/// The profiles of each host that has statuses to collect.
pub(crate) const PROFILES: [&str; 3] = ["system", "home", "work"];

/// The topic that all hosts follow.
pub(crate) const BEACON: &str = "herald/v1/load/beacon";

/// All statuses.
pub(crate) const EVERY_STATUS: &str = "herald/v1/load/status/+/+";

/// Names a host.
pub(crate) fn host(number: usize) -> String {
    format!("host-{number:05}")
}

/// Names the topic of a host's order.
pub(crate) fn desired(number: usize) -> String {
    format!("herald/v1/{FLEET}/desired/{}/system", host(number))
}

/// Names the topic of the `number`-th status, of three for each host.
pub(crate) fn status(number: usize) -> String {
    let (host_number, profile) = (number / PROFILES.len(), PROFILES[number % PROFILES.len()]);
    format!("herald/v1/{FLEET}/status/{}/{profile}", host(host_number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_proto::topic::{Filter, Kind, Topic};

    #[test]
    fn every_topic_is_one_of_heralds() {
        for text in [BEACON.into(), desired(0), desired(123_456), status(0), status(29_999)] {
            assert!(text.parse::<Topic>().is_ok(), "{text}");
        }
        let every = Filter::Every(FLEET.parse().unwrap(), Kind::Status);
        assert_eq!(every.to_string(), EVERY_STATUS);
    }
}
