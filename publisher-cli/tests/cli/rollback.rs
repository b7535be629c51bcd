//! `herald rollback`.

use herald_proto::{rejection::Code, report::PhaseName, target::Integrity};

use crate::support::{Answer, Host, Scene, Scripted, exits, json, path, stdout};

/// A scene with this host, connected, and with one that never is.
fn scene(host: Host, lists: &[&[Answer]]) -> (Scene, Scripted) {
    let scene = Scene::new(&[&host, &Host::new("silent", 9)]);
    let host = scene.connect(host, lists);
    (scene, host)
}

#[test]
fn a_roll_back_orders_what_ran_before_and_only_instead_of_what_runs() {
    let done = Answer::Phase(PhaseName::Succeeded, None);
    let host = Host::new("alpha", 1).with_previous("before");
    let (scene, alpha) = scene(host, &[&[done]]);
    let output = scene.desk.herald("rollback alpha --watch --json");
    exits(&output, 0);
    assert_eq!(json(&output)["hosts"][0]["outcome"], "succeeded");
    let target = alpha.order().target;
    assert_eq!(target.toplevel.as_str(), path("before"));
    assert_eq!(target.expect_current, [path("old").parse().unwrap()]);
    assert_eq!(target.integrity, Integrity::Recorded);
}

#[test]
fn a_host_without_a_record_says_so() {
    let failed = Answer::Phase(PhaseName::Rejected, Some(Code::NotRecorded));
    let host = Host::new("alpha", 1).with_previous("before");
    let (scene, _alpha) = scene(host, &[&[failed]]);
    let output = scene.desk.herald("rollback alpha --watch");
    exits(&output, 4);
    assert!(stdout(&output).contains("not-recorded"));
}

#[test]
fn a_host_without_a_previous_system_or_a_report_can_not_be_rolled_back() {
    let (scene, _alpha) = scene(Host::new("alpha", 1), &[]);
    let said = exits(&scene.desk.herald("rollback alpha"), 1);
    assert!(said.contains("alpha can't be rolled back: it reports no previous"), "{said}");
    let said = exits(&scene.desk.herald("rollback alpha silent --connect-timeout 300ms"), 1);
    assert!(said.contains("silent (no report)"), "{said}");
}

#[test]
fn a_dry_run_of_a_roll_back_sends_nothing() {
    let host = Host::new("alpha", 1).with_previous("before");
    let (scene, alpha) = scene(host, &[]);
    let output = scene.desk.herald("rollback alpha --dry-run --json");
    exits(&output, 0);
    assert_eq!(json(&output)["targets"][0]["toplevel"], path("before"));
    assert!(alpha.orders.try_recv().is_err());
}
