//! What is refused before anything is armed: a new system that can't be switched to or has no
//! subscriber for this host, somebody else's switch, a full disk.

use std::{
    fs::{self, File},
    sync::Arc,
};

use herald_core::{Attempt, Cause, Claim, Failure, Procedure};
use herald_proto::{
    host::ProfileName,
    id::{BootId, ClosureDigest, ReleaseId, Sequence, TargetHash},
    rejection::Code,
    target::{Action, Health, Integrity, Limits, Target},
    time::Timestamp,
};
use herald_subscriber::{
    adapters::{activation::Activator, boot_loader::BootLoader, record::Records},
    config::{Profile, Restart, Runner},
    os::Linux,
    ports::Activation as _,
    room::{Room, Size},
};
use serde_json::json;

use crate::common::machine::{ATTEMPT, Machine};

const SWITCH: &str = "#!/bin/sh\necho $1 >>MACHINE/switched\n";

/// A machine on which the old system runs, with a new one that is fit for it.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.point("current", machine.previous.as_path());
    mark(&machine, r#"{"state_formats":[0]}"#);
    machine.replace_switch(&machine.target, SWITCH);
    machine
}

fn mark(machine: &Machine, text: &str) {
    fs::write(machine.target.as_path().join("herald.json"), text).unwrap();
}

fn inhibit(machine: &Machine) {
    fs::write(machine.target.as_path().join("switch-inhibitors"), "{}").unwrap();
}

fn attempt(machine: &Machine, procedure: Procedure) -> Attempt {
    let target = Target {
        host: "alpha".parse().unwrap(),
        profile: ProfileName::system(),
        system: "x86_64-linux".parse().unwrap(),
        toplevel: machine.target.clone(),
        action: Action::Switch,
        integrity: Integrity::Toplevel,
        limits: Limits::default(),
        health: Health::default(),
        expect_current: vec![],
        tolerated_units: vec![],
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![],
        substituters: vec![],
    };
    let time = Timestamp::from_millis(1_767_225_600_000);
    let attempt = json!({
        "number": ATTEMPT,
        "order": {
            "release": ReleaseId::new(time, &[7; 10]),
            "sequence": Sequence::new(1),
            "not_before": time,
            "expires_at": time,
            "hash": TargetHash::of(b"a target"),
            "target": target,
        },
        "closure": ClosureDigest::of(b"a closure"),
        "procedure": procedure,
        "baseline": {
            "previous": machine.previous,
            "profile": machine.previous,
            "boot_default": machine.previous,
            "failed_units": [],
            "connected": false,
            "boot": BootId::from_bytes([1; 16]),
        },
        "next": null,
    });
    serde_json::from_value(attempt).unwrap()
}

/// Arms, without a dead-man, as what is irreversible is.
async fn arm(machine: &Machine, procedure: Procedure, room: Room) -> Result<(), Failure> {
    let profile = Profile {
        profile: machine.link("system"),
        current: machine.link("current"),
        booted: machine.link("booted"),
        boot_default: Some(machine.link("default")),
    };
    let restart = Restart {
        command: vec![],
        loader: BootLoader::None,
        own_profile: machine.link("own"),
        is_last_resort: false,
    };
    let records = Records::on(Arc::new(Linux), machine.records.folder());
    let name = ProfileName::system();
    let activator = Activator::new(&name, &profile, Runner::Direct, restart, room, records);
    activator.arm(&attempt(machine, procedure), None).await
}

async fn refused(machine: &Machine, procedure: Procedure, room: Room) -> Cause {
    let failure = arm(machine, procedure, room).await.expect_err("it is refused");
    assert!(!failure.retry);
    assert_eq!(machine.records.holder(ATTEMPT), Claim::None, "nothing is armed");
    failure.cause
}

#[tokio::test]
async fn a_new_system_that_is_fit_is_armed_and_asked_only_where_it_knows_of_inhibitors() {
    let machine = machine();
    arm(&machine, Procedure::Switch, Room::default()).await.unwrap();
    assert_eq!(machine.records.holder(ATTEMPT), Claim::Armed);
    assert_eq!(machine.switched(), [""; 0]);
    inhibit(&machine);
    arm(&machine, Procedure::Test, Room::default()).await.unwrap();
    assert_eq!(machine.switched(), ["check"]);
}

#[tokio::test]
async fn a_switch_that_the_new_systems_check_refuses_is_said_to_need_a_reboot() {
    let machine = machine();
    inhibit(&machine);
    machine.replace_switch(
        &machine.target,
        "#!/bin/sh\necho \"Pre-switch check 'x' failed\" >&2; exit 1",
    );
    let cause = refused(&machine, Procedure::Switch, Room::default()).await;
    assert_eq!(cause.code, Code::RebootNeeded);
    assert!(cause.detail.as_str().contains("'x' failed"), "{}", cause.detail);

    machine.replace_switch(&machine.target, "#!/bin/sh\necho 'Could not acquire lock' >&2; exit 1");
    let cause = refused(&machine, Procedure::Switch, Room::default()).await;
    assert_eq!(cause.code, Code::ArmFailed, "somebody else's switch says nothing of this one");
}

#[tokio::test]
async fn a_switch_of_somebody_else_is_not_disturbed() {
    let machine = machine();
    fs::create_dir(machine.link("nixos")).unwrap();
    let lock = File::create(machine.link("nixos/switch-to-configuration.lock")).unwrap();
    lock.lock().unwrap();
    let cause = refused(&machine, Procedure::Switch, Room::default()).await;
    assert_eq!(cause.code, Code::ArmFailed);
}

#[tokio::test]
async fn a_new_system_whose_subscriber_can_t_go_on_here_is_refused() {
    let machine = machine();
    for text in ["", "{}", r#"{"state_formats":[7]}"#, r#"{"state_formats":[0],"profiles":[]}"#] {
        mark(&machine, text);
        let cause = refused(&machine, Procedure::Switch, Room::default()).await;
        assert_eq!(cause.code, Code::NotActivatable, "{text}: {}", cause.detail);
    }
    fs::remove_file(machine.target.as_path().join("herald.json")).unwrap();
    let cause = refused(&machine, Procedure::Reboot, Room::default()).await;
    assert_eq!(cause.code, Code::NotActivatable);
}

#[tokio::test]
async fn what_is_to_boot_needs_room_where_the_boot_loader_has_its_files() {
    let machine = machine();
    let boot_folder = Some(machine.scratch.path().to_owned());
    let room = Room { boot: Size::of_bytes(1 << 60), boot_folder, ..Room::default() };
    let cause = refused(&machine, Procedure::Switch, room.clone()).await;
    assert_eq!(cause.code, Code::DiskFull);
    assert!(cause.detail.as_str().contains(machine.scratch.text()), "{}", cause.detail);
    arm(&machine, Procedure::Test, room).await.unwrap();
}
