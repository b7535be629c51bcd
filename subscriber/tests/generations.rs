//! Old generations are deleted by a process of its own, with real Nix.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod common;

use std::fs;

use common::fleet::Fleet;
use herald_proto::store_path::StorePath;

/// Runs the process that deletes old generations, as after an attempt that has committed.
fn prune(
    fleet: &Fleet,
    attempt: u64,
    target: &StorePath,
    previous: &StorePath,
    path: Option<&str>,
) {
    let links = ["booted", "default"].map(|name| fleet.scratch.file(name));
    let job = serde_json::json!({
        "profile": profile(fleet),
        "target": target,
        "made": true,
        "generations": {"last": 2},
        "previous": previous,
        "links": links,
    });
    let (folder, attempt) = (fleet.scratch.text(), attempt.to_string());
    let path = path.map(|path| format!("PATH={path}"));
    let mut command = vec!["env"];
    command.extend(path.as_deref());
    command.extend([env!("CARGO_BIN_EXE_herald-subscriber"), "prune", "--folder", folder]);
    let job = job.to_string();
    command.extend(["--attempt", &attempt, "--job", &job]);
    fleet.in_host(&command);
}

fn profile(fleet: &Fleet) -> String {
    fleet.scratch.file("hosts/alpha/profiles/system").to_str().unwrap().to_owned()
}

/// Lists the numbers of the profile's generations.
fn generations(fleet: &Fleet) -> Vec<u64> {
    let names = fs::read_dir(fleet.scratch.file("hosts/alpha/profiles")).unwrap().flatten();
    let number = |name: String| name.strip_prefix("system-")?.strip_suffix("-link")?.parse().ok();
    let mut all: Vec<_> =
        names.filter_map(|entry| number(entry.file_name().into_string().unwrap())).collect();
    all.sort_unstable();
    all
}

#[test]
fn generations_that_herald_made_are_deleted_but_for_the_newest_and_those_in_use() {
    let fleet = Fleet::new();
    let systems: Vec<_> = (0..8).map(|number| fleet.system(&number.to_string())).collect();
    let set = |system: &StorePath| {
        fleet.in_host(&["nix-store", "--realise", system.as_str()]);
        fleet.in_host(&["nix-env", "--profile", &profile(&fleet), "--set", system.as_str()]);
    };
    let in_use = |link: &str, system: &StorePath| {
        std::os::unix::fs::symlink(system.as_path(), fleet.scratch.file(link)).unwrap();
    };
    let problems =
        |attempt: u64| fs::read_to_string(fleet.scratch.file(&format!("pruned-{attempt}")));
    in_use("booted", &systems[1]);
    in_use("default", &systems[3]);

    // A person's; then Herald's, generation by generation.
    set(&systems[0]);
    for number in 1..6 {
        set(&systems[number]);
        prune(&fleet, number as u64, &systems[number], &systems[number - 1], None);
        assert_eq!(problems(number as u64).unwrap().trim(), "problems = []");
    }
    // 1 is a person's, 2 was booted, 4 boots next, 5 and 6 are the newest.
    assert_eq!(generations(&fleet), [1, 2, 4, 5, 6]);
    fleet.collect_garbage();
    let there: Vec<_> = systems[..6].iter().map(|system| fleet.has(system)).collect();
    assert_eq!(there, [true, true, false, true, true, true]);

    // What could not be deleted is deleted the next time; a previous system stays.
    set(&systems[6]);
    prune(&fleet, 6, &systems[6], &systems[4], Some("/nowhere"));
    assert_eq!(problems(6).unwrap().trim(), "problems = []", "5 is the previous one's");
    set(&systems[7]);
    prune(&fleet, 7, &systems[7], &systems[6], Some("/nowhere"));
    let said = problems(7).unwrap();
    assert!(said.contains("nix-env"), "{said}");
    assert_eq!(generations(&fleet), [1, 2, 4, 5, 6, 7, 8]);
    prune(&fleet, 8, &systems[7], &systems[6], None);
    assert_eq!(generations(&fleet), [1, 2, 4, 7, 8]);
}
