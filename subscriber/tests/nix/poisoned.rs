//! Other bytes than were signed make way for the right ones.

use std::fs;

use herald_proto::{rejection::Code, target::Integrity};

use crate::{
    asked::{gc_root, realise, refused},
    common::fleet::Fleet,
};

#[test]
fn other_bytes_under_a_good_cache_key_are_refused_and_make_way_for_the_right_ones() {
    let fleet = Fleet::new();
    let (used, system) = (fleet.build("0", &[]), fleet.build("1", &[]));
    let signed = Integrity::Closure(fleet.closure(&system));
    // Something of the closure is in use: it was there before, and is not touched.
    fleet.push(&used);
    fleet.in_host(&["nix-store", "--realise", used.as_str(), "--add-root", &gc_root(&fleet)]);
    let before = fleet.store_size();
    let units = fleet.requisite(&system, "-system-units");
    assert_ne!(units, fleet.requisite(&used, "-system-units"));
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&system);
    for _ in 0..2 {
        let answer = realise(&fleet, &system, signed.clone());
        let detail = refused(&answer, Code::ClosureMismatch, false);
        assert!(detail.contains("were deleted") && detail.contains("are in use here"), "{detail}");
        assert!(!fleet.has(&system) && !fleet.has(&units));
        assert_eq!(fleet.store_size(), before, "what is in use stays: {detail}");
    }
    // Nor do they stay where the program was stopped between fetching and comparing.
    fleet.in_host(&["nix-store", "--realise", system.as_str()]);
    let answer = realise(&fleet, &system, signed.clone());
    refused(&answer, Code::ClosureMismatch, false);
    assert!(!fleet.has(&units));

    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    fleet.push(&system);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

#[test]
fn a_path_that_was_here_with_other_bytes_and_is_in_use_is_left_alone_and_named() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let signed = Integrity::Closure(fleet.closure(&system));
    let units = fleet.requisite(&system, "-system-units");
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&units);
    fleet.in_host(&["nix-store", "--realise", units.as_str(), "--add-root", &gc_root(&fleet)]);
    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    fleet.push(&system);
    let answer = realise(&fleet, &system, signed.clone());
    let detail = refused(&answer, Code::ClosureMismatch, false);
    assert!(detail.contains(units.as_str()) && detail.contains("--repair-path"), "{detail}");
    assert!(fleet.has(&units) && !fleet.has(&system));

    // What the report says is what helps.
    fleet.in_host(&["nix-store", "--repair-path", units.as_str()]);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}
