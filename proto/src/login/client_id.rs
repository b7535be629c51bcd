//! The client id of a host: one for each, by which a broker tells hosts from all others.

use crate::host::{FleetId, HostId};

/// Gives a host's client id, `<fleet>:<host>`. No other host has it, as neither name may have a `:`;
/// and it has at most 127 bytes, as some brokers take no more than 128.
pub fn host_client_id(fleet: &FleetId, host: &HostId) -> String {
    format!("{fleet}:{host}")
}

/// Tells whether a client id is one that [`host_client_id`] gives.
pub fn is_host_client_id(client_id: &str) -> bool {
    client_id.split_once(':').is_some_and(|(fleet, host)| {
        fleet.parse::<FleetId>().is_ok() && host.parse::<HostId>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fleet: &str, host: &str) -> String {
        host_client_id(&fleet.parse().unwrap(), &host.parse().unwrap())
    }

    #[test]
    fn no_two_hosts_have_the_same_client_id() {
        let names = ["a", "a-b", "b", "b-c", "c", "a-b-c", "-"];
        let fleets = names.iter().chain(&["a_b", "_", "a-"]);
        let mut known = std::collections::BTreeSet::new();
        for fleet in fleets {
            for host in names.iter().filter(|name| **name != "-") {
                assert!(known.insert(id(fleet, host)), "{fleet} {host}");
            }
        }
    }

    #[test]
    fn the_longest_names_make_a_client_id_that_every_broker_takes() {
        let longest = "x".repeat(63);
        assert_eq!(id(&longest, &longest).len(), 127);
    }

    #[test]
    fn a_host_client_id_is_known_as_one_and_no_other_is() {
        assert!(is_host_client_id(&id("home", "web-1")));
        for other in ["", ":", "home", "home:", ":web-1", "home:web-1:x", "Home:web-1", "home: web"]
        {
            assert!(!is_host_client_id(other), "{other}");
        }
        assert!(!is_host_client_id("herald-0123456789abcdef"), "an operator's command");
    }
}
