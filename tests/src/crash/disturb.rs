//! What comes in between, as it happens to the simulated machine.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio::time::Instant;

use super::{
    order,
    rng::Rng,
    scenario::{Disturbance, Outcome},
    world::{Machine, Order},
};

impl Machine {
    pub(super) fn disturb(&mut self, what: Disturbance, actor: u64) {
        match what {
            Disturbance::KillSubscriber => self.kill_subscriber(),
            Disturbance::KillActor => self.kill_process(actor),
            Disturbance::KillAll => {
                self.kill_subscriber();
                for pid in self.units.values().filter_map(|unit| unit.pid).collect::<Vec<_>>() {
                    self.kill_process(pid);
                }
            }
            Disturbance::SoftReboot => {
                self.units.retain(|_, unit| unit.survives);
                let kept = self.units.values().filter_map(|unit| unit.pid).collect();
                self.end_all_but(&kept);
                self.order(Order::SoftReboot);
            }
            Disturbance::PowerCut => self.cut_power(),
            Disturbance::Reboot => {
                self.disk.sync_below(Path::new("/"));
                self.end_all();
                self.disk.forget_memory();
                self.order(Order::Boot);
            }
            Disturbance::DiskFull => self.fill_disk(Duration::from_secs(7)),
            Disturbance::DiskFullLong => self.fill_disk(Duration::from_secs(120)),
            Disturbance::PersonSwitches | Disturbance::PersonTests | Disturbance::PersonBoots => {
                self.monitor.person = true;
                self.order(Order::Person(what));
            }
            Disturbance::PersonCollects => self.order(Order::Person(what)),
            Disturbance::Suspend => {
                self.skew += 3 * 3600 * 1000;
                self.cut_network(Duration::from_secs(4));
            }
            Disturbance::ClockForward => self.skew += 3600 * 1000,
            Disturbance::ClockBack => self.skew -= 23 * 3600 * 1000,
            Disturbance::Outage => self.cut_network(Duration::from_secs(6)),
            Disturbance::NewOrder => self.publish(order::newer()),
            Disturbance::CorruptMessage => self.publish_bad(order::corrupt()),
            // It asks for a switch, which can't show that a kernel does not come up: that is not to be
            // the first one to come.
            Disturbance::ReplayedMessage
                if self.scenario.outcome == Outcome::NoBoot && !self.monitor.has_taken() => {}
            Disturbance::ReplayedMessage => self.publish_bad(order::older()),
        }
    }

    /// Loses power, with what was not synced.
    pub(crate) fn cut_power(&mut self) {
        self.end_all();
        let mut rng = Rng::new(self.rng.next());
        self.disk.cut(&mut rng);
        self.order(Order::Boot);
    }

    fn fill_disk(&mut self, span: Duration) {
        self.full_until = Some(Instant::now() + span);
    }

    fn cut_network(&mut self, span: Duration) {
        self.outage_until = Some(Instant::now() + span);
        self.change_network();
        self.order(Order::Network(span));
    }

    /// Publishes a good order.
    pub(crate) fn publish(&mut self, order: &order::Message) {
        self.published = self.published.max(order.sequence);
        self.retained.clone_from(&order.bytes);
        self.change_network();
    }

    fn publish_bad(&mut self, bytes: &[u8]) {
        self.retained = bytes.to_vec();
        self.change_network();
        self.order(Order::Republish(Duration::from_secs(3)));
    }

    /// Kills what `kill -9` would, and lets systemd do what its unit asks for.
    pub(crate) fn kill_process(&mut self, pid: u64) {
        if self.subscriber == Some(pid) {
            return self.kill_subscriber();
        }
        if self.person == Some(pid) {
            self.cut_person_off();
        }
        if self.is_alive(pid) {
            self.end(pid);
            self.unit_failed(pid);
        }
    }

    /// Does what systemd does when the process of a unit ended badly.
    pub(crate) fn unit_failed(&mut self, pid: u64) {
        let failed = self.units.iter_mut().find(|(_, unit)| unit.pid == Some(pid));
        let Some((name, unit)) = failed else { return };
        let name = name.clone();
        unit.pid = None;
        if unit.restart {
            self.order(Order::Restart(name));
        } else {
            self.units.remove(&name);
        }
    }

    fn kill_subscriber(&mut self) {
        if let Some(pid) = self.subscriber.take() {
            self.end(pid);
            self.order(Order::StartSubscriber(Duration::from_secs(1)));
        }
    }

    /// Restarts the subscriber, as a switch does whose system has another one.
    pub(crate) fn restart_subscriber(&mut self) {
        if let Some(pid) = self.subscriber.take() {
            self.end(pid);
        }
        self.order(Order::StartSubscriber(Duration::from_millis(100)));
    }

    fn cut_person_off(&mut self) {
        self.monitor.person_cut_off |= self.person.take().is_some();
    }

    fn end_all(&mut self) {
        self.units.clear();
        self.end_all_but(&BTreeSet::new());
    }

    fn end_all_but(&mut self, kept: &BTreeSet<u64>) {
        self.up = false;
        self.user_space += 1;
        self.change_network();
        self.subscriber = None;
        self.cut_person_off();
        for pid in self.alive.keys().copied().filter(|pid| !kept.contains(pid)).collect::<Vec<_>>()
        {
            self.end(pid);
        }
    }
}
