//! Where a host is with an order, by what it signed.

use herald_proto::{
    order::Order,
    presence::{Liveness, Presence},
    report::{PhaseName, Report},
};

/// Where a host is with the order that truly stands on its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It is done with it; how.
    Ended(String),
    /// It says why it does not go on.
    Waits(String),
    /// Neither; what is known.
    UnderWay(String),
}

impl Place {
    /// Judges by the host's latest report and presence.
    pub(super) fn of(report: &Report, presence: &Presence, order: &Order) -> Self {
        if presence.liveness != Liveness::Online {
            return Self::UnderWay("it is not connected".to_owned());
        }
        let refusal = report.refusal.as_ref().filter(|it| it.message == order.message);
        let said = report.code.map_or_else(String::new, |code| format!(" ({code})"));
        let phase = report.phase;
        let is_about = report.order.is_some_and(|about| {
            about.sequence == order.release.sequence && about.target == order.hash
        });
        match refusal {
            // What needs somebody to come and look is no ending to be content with.
            _ if is_about && phase == PhaseName::Degraded => {
                Self::UnderWay(format!("it is degraded{said}"))
            }
            _ if is_about && phase.is_terminal() => Self::Ended(format!("{phase}{said}")),
            Some(refusal) => Self::Waits(format!("refused ({})", refusal.code)),
            None if is_about && phase == PhaseName::Waiting && report.code.is_some() => {
                Self::Waits(format!("{phase}{said}"))
            }
            None if is_about => Self::UnderWay(format!("it is {phase}{said}")),
            None => Self::UnderWay(format!("it is {phase}{said} with another order")),
        }
    }
}

#[cfg(test)]
mod tests {
    use herald_proto::{
        WIRE_VERSION,
        host::ProfileName,
        id::{BootId, Incarnation, MessageDigest, Sequence, TrustDigest},
        key::SecretKey,
        rejection::Code,
        report::{OrderName, Refusal, Systems},
        signing::verify_any_order,
        time::Timestamp,
        trust::Trust,
    };

    use super::*;
    use crate::Forgery;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn report() -> Report {
        Report {
            version: WIRE_VERSION,
            host: "alpha".parse().unwrap(),
            profile: ProfileName::system(),
            incarnation: Incarnation::from_bytes([1; 16]),
            number: 1,
            time: NOW,
            boot: BootId::from_bytes([2; 16]),
            agent: "0.1.0".parse().unwrap(),
            trust: TrustDigest::from_bytes([3; 32]),
            phase: PhaseName::Succeeded,
            code: None,
            detail: None,
            order: None,
            refusal: None,
            progress: None,
            systems: Systems::default(),
            failed_units: vec![],
            hold: None,
        }
    }

    fn presence() -> Presence {
        Presence {
            version: WIRE_VERSION,
            host: "alpha".parse().unwrap(),
            session: 1,
            liveness: Liveness::Online,
            incarnation: Incarnation::from_bytes([1; 16]),
            boot: BootId::from_bytes([2; 16]),
            time: NOW,
            agent: "0.1.0".parse().unwrap(),
            beat: 0,
            beacon: None,
            hearing: None,
            taken: vec![],
        }
    }

    /// Gives an order, what a host that has just succeeded with it says, and that it is there.
    fn scene() -> (Order, Report, Presence) {
        let key = SecretKey::from_seed("a".parse().unwrap(), &[1; 32]).unwrap();
        let path = format!("/nix/store/{}-x", "0".repeat(32));
        let sealed = Forgery::new("alpha", &path).seal(&[&key]);
        let trust =
            format!("fleet = \"test\"\n[release]\nthreshold = 1\nkeys = [\"{}\"]\n", key.public());
        let trust = Trust::from_toml(&trust).unwrap();
        let order = verify_any_order(&sealed, &trust).unwrap().into_inner();
        let mut report = report();
        report.order = Some(OrderName {
            release: order.release.id,
            target: order.hash,
            sequence: order.release.sequence,
        });
        (order, report, presence())
    }

    #[test]
    fn who_is_done_with_the_order_that_stands_has_ended() {
        let (order, report, presence) = scene();
        assert_eq!(Place::of(&report, &presence, &order), Place::Ended("succeeded".to_owned()));
    }

    #[test]
    fn who_is_away_degraded_under_way_or_with_another_order_has_not() {
        let (order, report, presence) = scene();
        let stuck = |change: &dyn Fn(&mut Report, &mut Presence)| {
            let (mut report, mut presence) = (report.clone(), presence.clone());
            change(&mut report, &mut presence);
            let place = Place::of(&report, &presence, &order);
            assert!(matches!(place, Place::UnderWay(_)), "{place:?}");
        };
        stuck(&|_, presence| presence.liveness = Liveness::Offline);
        stuck(&|report, _| report.phase = PhaseName::Degraded);
        stuck(&|report, _| report.phase = PhaseName::Realising);
        stuck(&|report, _| report.phase = PhaseName::Waiting);
        stuck(&|report, _| report.order = None);
        stuck(&|report, _| {
            let about = report.order.as_mut().unwrap();
            about.sequence = Sequence::new(about.sequence.number() - 1);
        });
    }

    #[test]
    fn who_says_why_waits_but_only_about_this_very_order() {
        let (order, mut report, presence) = scene();
        report.order = None;
        let mut refused = |message| {
            let detail = "no beacon".parse().unwrap();
            report.refusal = Some(Refusal { message, code: Code::Stale, detail });
            Place::of(&report, &presence, &order)
        };
        assert_eq!(refused(order.message), Place::Waits("refused (stale)".to_owned()));
        let other = refused(MessageDigest::of(b"noise"));
        assert!(matches!(other, Place::UnderWay(_)), "{other:?}");
    }
}
