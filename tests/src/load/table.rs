//! The figures of a run: kept by side, printed side by side, and given as JSON.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    settings::{Settings, Side},
    stats::{median, millis},
};

/// Ours over theirs, by the figure that is compared.
const RATIOS: [(&str, &str); 9] = [
    ("connect_ratio", "connect_ms"),
    ("connect_cpu_ratio", "connect_cpu_ms"),
    ("rss_ratio", "rss_per_connection_kib"),
    ("rss_tls_ratio", "rss_per_tls_connection_kib"),
    ("fanout_p99_ratio", "fanout_p99_ms"),
    ("fanout_cpu_ratio", "fanout_cpu_ms"),
    ("orders_ratio", "orders_per_second"),
    ("retained_ratio", "retained_ms"),
    ("idle_cpu_ratio", "idle_cpu_percent"),
];

/// Figures of ours that have a name of their own at the top of the JSON.
const OWN: [&str; 12] = [
    "rss_per_connection_kib",
    "orders_per_second",
    "durable_publishes_per_second",
    "retained_30000_ms",
    "idle_cpu_percent",
    "restart_first_connack_ms",
    "restart_all_back_s",
    "kill_first_connack_ms",
    "kill_all_back_s",
    "soak_rss_growth_kib",
    "connect_ms",
    "fanout_p99_ms",
];

const NOTE: &str = "\
Medians of the rounds. mosquitto runs at its best: without persistence, so that nothing of it is
durable, and an acknowledged message is lost when it stops. Its listen backlog is 100: of more
handshakes at once some wait a second for TCP to try again, which connect_ms shows and
connect_cpu_ms does not. The generator shares the processors with the broker; fanout_queued_ms is
how long the broker waited for one in each fan-out, so much of it means a busy machine.";

/// All figures, each as often as it was measured.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    figures: BTreeMap<(Side, &'static str), Vec<f64>>,
    /// The names as they came, for the table.
    order: Vec<&'static str>,
}

impl Ledger {
    /// Adds a figure.
    pub(crate) fn add(&mut self, side: Side, name: &'static str, value: f64) {
        self.figures.entry((side, name)).or_default().push(value);
        if !self.order.contains(&name) {
            self.order.push(name);
        }
    }

    /// Adds a time, in milliseconds.
    pub(crate) fn time(&mut self, side: Side, name: &'static str, time: Duration) {
        self.add(side, name, millis(time));
    }

    fn median(&self, side: Side, name: &'static str) -> Option<f64> {
        self.figures.get(&(side, name)).map(|values| median(values))
    }

    fn ratio(&self, name: &'static str) -> Option<f64> {
        let (ours, theirs) = (self.median(Side::Ours, name)?, self.median(Side::Theirs, name)?);
        (theirs > 0.0).then_some(ours / theirs)
    }

    /// Lays the medians out for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<34}{:>12}{:>12}{:>8}\n", "", "ours", "mosquitto", "ratio");
        let cell = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for name in &self.order {
            let (ours, theirs) = (self.median(Side::Ours, name), self.median(Side::Theirs, name));
            let _ = writeln!(
                text,
                "{name:<34}{:>12}{:>12}{:>8}",
                cell(ours),
                cell(theirs),
                cell(self.ratio(name))
            );
        }
        text + NOTE
    }

    /// Gives everything as JSON, in one line.
    pub(crate) fn json(&self, settings: &Settings) -> String {
        let mut top = Map::new();
        top.insert("hosts".into(), settings.hosts.into());
        top.insert("rounds".into(), settings.rounds.into());
        top.insert("seed".into(), settings.seed.into());
        let sessions = format!("{:?}", settings.sessions).to_lowercase();
        top.insert("sessions".into(), sessions.into());
        top.insert("theirs_is_durable".into(), false.into());
        for (ratio, name) in RATIOS {
            if let Some(value) = self.ratio(name) {
                top.insert(ratio.into(), rounded(value));
            }
        }
        for name in OWN {
            if let Some(value) = self.median(Side::Ours, name) {
                top.insert(name.into(), rounded(value));
            }
        }
        for side in [Side::Ours, Side::Theirs] {
            let of_side = self.figures.iter().filter(|((of, _), _)| *of == side);
            let figures: Map<String, Value> = of_side
                .map(|((_, name), values)| {
                    let all: Vec<Value> = values.iter().copied().map(rounded).collect();
                    ((*name).into(), json!({ "median": rounded(median(values)), "all": all }))
                })
                .collect();
            top.insert(format!("{side:?}").to_lowercase(), figures.into());
        }
        Value::from(top).to_string()
    }
}

/// Keeps three digits after the point, which is more than such measurements have.
fn rounded(value: f64) -> Value {
    ((value * 1000.0).round() / 1000.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (ours, theirs) in [(100, 200), (900, 250), (110, 220)] {
            ledger.time(Side::Ours, "fanout_p99_ms", Duration::from_millis(ours));
            ledger.time(Side::Theirs, "fanout_p99_ms", Duration::from_millis(theirs));
        }
        ledger.add(Side::Ours, "restart_all_back_s", 2.5);
        ledger
    }

    #[test]
    fn the_ratio_is_of_the_medians_and_absent_where_one_side_was_not_measured() {
        let settings = Settings::parse_from(["load", "--hosts", "7"]);
        let json: Value = serde_json::from_str(&ledger().json(&settings)).unwrap();
        assert_eq!(json["hosts"], 7);
        assert_eq!(json["fanout_p99_ratio"], 0.5);
        assert_eq!(json["restart_all_back_s"], 2.5);
        assert_eq!(json["ours"]["fanout_p99_ms"]["all"], json!([100.0, 900.0, 110.0]));
        assert_eq!(json["theirs"]["fanout_p99_ms"]["median"], 220.0);
        assert!(json.get("connect_ratio").is_none());
    }

    #[test]
    fn the_table_has_a_line_for_each_figure() {
        let table = ledger().table();
        assert!(table.contains("fanout_p99_ms") && table.contains("0.50"), "{table}");
        assert_eq!(table.lines().filter(|line| line.contains("restart_all_back_s")).count(), 1);
    }
}
