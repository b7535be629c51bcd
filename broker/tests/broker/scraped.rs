//! The alerts in `examples/prometheus` are about what a broker says.

use std::{fs, path::Path, process::Command};

use crate::process::Site;

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/prometheus");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Gives what follows each occurrence of a text, as long as it is of these characters.
fn after<'a>(text: &'a str, before: &str, is_part: fn(char) -> bool) -> Vec<&'a str> {
    let rests = text.split(before).skip(1);
    rests.map(|rest| &rest[..rest.find(|it| !is_part(it)).unwrap_or(rest.len())]).collect()
}

#[test]
fn every_series_and_reason_of_the_alerts_is_one_that_a_broker_has() {
    let (alerts, broker) = (example("alerts.yml"), Site::with("").start());
    let said = broker.scrape();
    let names = after(&alerts, "herald_broker_", |it| it.is_ascii_lowercase() || it == '_');
    assert!(names.len() > 6, "{names:?}");
    for name in names {
        let (bare, labelled) =
            (format!("\nherald_broker_{name} "), format!("\nherald_broker_{name}{{"));
        assert!(
            said.contains(&bare) || said.contains(&labelled),
            "no herald_broker_{name}: {said}"
        );
    }
    for label in ["reason", "result"] {
        let values = [format!("{label}=\""), format!("{label}=~\"")];
        let values = values.iter().flat_map(|it| after(&alerts, it, |it| it != '"'));
        let values: Vec<_> = values.flat_map(|it| it.split('|')).collect();
        assert!(!values.is_empty(), "{label}");
        for value in values {
            assert!(said.contains(&format!("{label}=\"{value}\"")), "no {label} {value}: {said}");
        }
    }
}

#[test]
fn promtool_takes_the_configuration_and_the_alerts() {
    let site = Site::new();
    site.write("herald-alerts.yml", &example("alerts.yml"));
    let config = site.write("prometheus.yml", &example("prometheus.yml"));
    let Ok(checked) = Command::new("promtool").args(["check", "config"]).arg(config).output()
    else {
        return;
    };
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("rules found"), "{checked:?}");
}
