//! With the manifest in the cache a host plans its room, and names what differs.

use std::fs;

use herald_proto::{
    closure::MANIFEST_NAME,
    id::ClosureDigest,
    rejection::Code,
    store_path::StorePath,
    target::{Closure, Integrity},
};

use crate::{
    asked::{Request, ask, gc_root, realise, refused, target},
    common::fleet::Fleet,
};

/// Puts a system and its manifest in the cache.
fn push_with_manifest(fleet: &Fleet, system: &StorePath) -> StorePath {
    let manifest = fleet.manifest(system);
    fleet.push(system);
    fleet.push(&manifest);
    manifest
}

#[test]
fn what_differs_is_named_by_the_manifest_and_only_that_is_deleted() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let signed = Integrity::Closure(fleet.closure(&system));
    let manifest = fleet.manifest(&system);
    let units = fleet.requisite(&system, "-system-units");
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&system);
    fleet.push(&manifest);
    let paths = fleet.closure(&system).paths;
    for _ in 0..2 {
        let answer = realise(&fleet, &system, signed.clone());
        let detail = refused(&answer, Code::ClosureMismatch, false);
        let named = format!("1 path differs: {units} has other bytes; 1 of these were deleted");
        assert!(detail.contains(&named), "{detail}");
        assert!(!fleet.has(&system) && !fleet.has(&units));
        // What needs it went too; all else stays to be used: the manifest, and most of the closure.
        assert!(fleet.has(&manifest));
        assert!(fleet.store_size() as u64 > paths / 2, "{} of {paths}", fleet.store_size());
    }

    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    fleet.push(&system);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

#[test]
fn a_path_in_use_with_other_bytes_is_named_alone_with_the_remedy_that_helps() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let signed = Integrity::Closure(fleet.closure(&system));
    let units = fleet.requisite(&system, "-system-units");
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&units);
    fleet.in_host(&["nix-store", "--realise", units.as_str(), "--add-root", &gc_root(&fleet)]);
    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    // Something else of it is in use as well, and is what it should be.
    let hook = fleet.requisite(&system, "-hook");
    push_with_manifest(&fleet, &system);
    fleet.in_host(&[
        "nix-store",
        "--realise",
        hook.as_str(),
        "--add-root",
        &format!("{}2", gc_root(&fleet)),
    ]);
    let answer = realise(&fleet, &system, signed.clone());
    let detail = refused(&answer, Code::ClosureMismatch, false);
    let named = format!("1 path differs: {units} has other bytes; 0 of these were deleted");
    assert!(detail.contains(&named) && !detail.contains(hook.as_str()), "{detail}");
    let remedy = "1 are in use here and stay: repair them (nix-store --repair-path)";
    assert!(detail.contains(remedy), "{detail}");

    fleet.in_host(&["nix-store", "--repair-path", units.as_str()]);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

#[test]
fn an_extent_that_was_signed_wrongly_and_a_lack_of_room_are_found_before_anything_is_fetched() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let manifest = push_with_manifest(&fleet, &system);
    let found = fleet.closure(&system);
    let signed = Closure { size: found.size + 1, ..found };
    let answer = realise(&fleet, &system, Integrity::Closure(signed));
    let detail = refused(&answer, Code::ClosureMismatch, false);
    assert!(detail.contains("publish it again"), "{detail}");
    assert_eq!(fleet.store_size(), 1, "the manifest alone: {detail}");
    assert!(fleet.has(&manifest));

    // A release for another system than the digest is of.
    let other = fleet.build("2", &[]);
    fleet.push(&other);
    let answer = realise(&fleet, &other, Integrity::Closure(found));
    let detail = refused(&answer, Code::ClosureMismatch, false);
    assert!(detail.contains("is not in the closure that was signed for it"), "{detail}");
    assert_eq!(fleet.store_size(), 1);

    let target = Box::new(target(&system, Integrity::Closure(found)));
    let request = Request::Realise { target, recorded: None, margin: Some(1 << 60) };
    let answer = ask(&fleet, &request);
    assert!(refused(&answer, Code::DiskFull, true).contains("make room"));
    assert_eq!(fleet.store_size(), 1);
    let answer = realise(&fleet, &system, Integrity::Closure(found));
    assert_eq!(answer.closure, Some(found.digest), "{answer:?}");
}

#[test]
fn a_manifest_that_is_not_the_signed_one_is_believed_in_nothing_and_holds_nothing_up() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let manifest = push_with_manifest(&fleet, &system);
    let found = fleet.closure(&system);
    // Another text under the manifest's name: Nix itself compares it with the name, so it is put into
    // the host's own store and database, where nothing stands before the digest.
    let script = r#"
        echo forged >"$1" && touch -d @1 "$1" && chmod 444 "$1"
        { echo "$1"; echo; echo 0; } | nix-store --register-validity --reregister
    "#;
    fleet.in_host(&["sh", "-euc", script, "sh", manifest.as_str()]);
    let answer = realise(&fleet, &system, Integrity::Closure(found));
    assert_eq!(answer.closure, Some(found.digest), "{answer:?}");
    assert!(manifest.as_str().ends_with(MANIFEST_NAME));

    // One that Nix finds wrong, and none at all.
    for cached in ["forged", ""] {
        let fleet = Fleet::new();
        let system = fleet.build("1", &[]);
        let manifest = push_with_manifest(&fleet, &system);
        let archive = fleet.archive(&manifest);
        match cached {
            "" => fs::remove_file(archive).unwrap(),
            text => fs::write(archive, text).unwrap(),
        }
        let digest: ClosureDigest = fleet.closure(&system).digest;
        let answer = realise(&fleet, &system, Integrity::Closure(fleet.closure(&system)));
        assert_eq!(answer.closure, Some(digest), "{answer:?}");
        assert!(!fleet.has(&manifest));
    }
}
