//! What a host may run: what its operators ordered, each order once, one after another; and, after
//! an activation, what ran before it.

use std::fmt;

/// Everything that was ordered of a host, and what its own journal says that it did.
#[derive(Debug)]
pub(super) struct Ledger {
    installed: String,
    orders: Vec<String>,
    /// How many of the orders are over: done, or overtaken by one that was done.
    over: usize,
    runs: String,
    /// What ran before the last activation of an order.
    before: String,
}

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A system was activated.
    Forward(String),
    /// A system was activated as a way back.
    Back(String),
}

/// An activation that no order accounts for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unaccounted {
    /// It was never ordered.
    Unordered(String),
    /// It was ordered, but is over.
    Over(String),
    /// It is no way back from anything.
    NoWayBack(String),
}

impl Ledger {
    /// Begins with the system that the host was installed with.
    pub(super) fn new(installed: &str) -> Self {
        Self {
            installed: installed.to_owned(),
            orders: Vec::new(),
            over: 0,
            runs: installed.to_owned(),
            before: installed.to_owned(),
        }
    }

    /// Takes note of an order.
    pub(super) fn order(&mut self, system: &str) {
        self.orders.push(system.to_owned());
    }

    /// Takes note that the host is done with everything that was ordered.
    pub(super) fn settle(&mut self) {
        self.over = self.orders.len();
    }

    /// Tells whether the host may ever have run this system.
    pub(super) fn knows(&self, system: &str) -> bool {
        self.installed == system || self.orders.iter().any(|one| one == system)
    }

    /// Accounts for what the host did.
    pub(super) fn account(&mut self, entry: &Entry) -> Result<(), Unaccounted> {
        match entry {
            Entry::Forward(system) => {
                let left = self.orders.iter().enumerate().skip(self.over);
                let Some(place) = left.into_iter().find(|(_, one)| *one == system) else {
                    let known = self.orders.contains(system);
                    return Err(match known {
                        true => Unaccounted::Over(system.clone()),
                        false => Unaccounted::Unordered(system.clone()),
                    });
                };
                self.over = place.0 + 1;
                self.before = std::mem::replace(&mut self.runs, system.clone());
                Ok(())
            }
            Entry::Back(system) if *system == self.before || *system == self.runs => {
                self.runs.clone_from(system);
                Ok(())
            }
            Entry::Back(system) => Err(Unaccounted::NoWayBack(system.clone())),
        }
    }
}

impl Entry {
    /// Shell text that a system runs when it is activated, which writes a line. A way back is told
    /// by what it sets for the switch program, which then looks for no inhibitors.
    pub(super) const HOOK: &str =
        r#"echo "${NIXOS_NO_CHECK:+back }$TOPLEVEL" >>"$ROOT/activations""#;

    /// Reads a line.
    pub(super) fn read(line: &str) -> Self {
        match line.strip_prefix("back ") {
            Some(system) => Self::Back(system.to_owned()),
            None => Self::Forward(line.to_owned()),
        }
    }
}

impl fmt::Display for Unaccounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unordered(system) => write!(f, "{system}, which nobody ordered"),
            Self::Over(system) => write!(f, "{system} again, the order of which was over"),
            Self::NoWayBack(system) => write!(f, "{system} as a way back, which it is not"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(system: &str) -> Entry {
        Entry::read(system)
    }

    fn back(system: &str) -> Entry {
        Entry::read(&format!("back {system}"))
    }

    fn ledger(orders: &[&str]) -> Ledger {
        let mut ledger = Ledger::new("0");
        orders.iter().for_each(|order| ledger.order(order));
        ledger
    }

    #[test]
    fn orders_are_accounted_for_in_their_order_and_may_be_overtaken() {
        let mut ledger = ledger(&["1", "2", "3"]);
        assert_eq!(ledger.account(&forward("1")), Ok(()));
        assert_eq!(ledger.account(&forward("3")), Ok(()));
        assert_eq!(ledger.account(&forward("2")), Err(Unaccounted::Over("2".into())));
    }

    #[test]
    fn an_order_is_not_done_twice_but_the_same_system_can_be_ordered_again() {
        let mut ledger = ledger(&["1"]);
        assert_eq!(ledger.account(&forward("1")), Ok(()));
        assert_eq!(ledger.account(&forward("1")), Err(Unaccounted::Over("1".into())));
        ledger.order("1");
        assert_eq!(ledger.account(&forward("1")), Ok(()));
    }

    #[test]
    fn an_old_report_may_show_whatever_was_installed_or_ordered_and_nothing_else() {
        let mut ledger = ledger(&["1", "2"]);
        for system in ["1", "2"] {
            assert_eq!(ledger.account(&forward(system)), Ok(()));
        }
        assert!(["0", "1", "2"].iter().all(|system| ledger.knows(system)));
        assert!(!ledger.knows("9"));
    }

    #[test]
    fn what_was_never_ordered_or_is_settled_is_not_accounted_for() {
        let mut ledger = ledger(&["1", "2"]);
        assert_eq!(ledger.account(&forward("9")), Err(Unaccounted::Unordered("9".into())));
        ledger.settle();
        assert_eq!(ledger.account(&forward("2")), Err(Unaccounted::Over("2".into())));
    }

    #[test]
    fn a_way_back_leads_to_what_ran_before_and_nowhere_else() {
        let mut ledger = ledger(&["1", "2"]);
        assert_eq!(ledger.account(&forward("1")), Ok(()));
        assert_eq!(ledger.account(&forward("2")), Ok(()));
        assert_eq!(ledger.account(&back("0")), Err(Unaccounted::NoWayBack("0".into())));
        assert_eq!(ledger.account(&back("1")), Ok(()));
        assert_eq!(ledger.account(&back("1")), Ok(()), "it may be repeated");
        assert_eq!(ledger.account(&forward("2")), Err(Unaccounted::Over("2".into())));
    }
}
