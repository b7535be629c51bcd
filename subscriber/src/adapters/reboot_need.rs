//! Whether a system needs a reboot to have its whole effect.

use std::{collections::BTreeMap, fs, path::Path};

use herald_proto::text::Prose;

/// What is loaded at boot and stays; links into the store, but the last, which is a text.
const LOADED: [&str; 4] = ["kernel", "initrd", "kernel-modules", "kernel-params"];
/// What a running system can't be switched over; nixpkgs' own check compares it in the same way.
const INHIBITORS: &str = "switch-inhibitors";

/// Says what of a system differs from what was booted, and which switch inhibitors differ from
/// those of what runs; none where a switch is enough. What one of the two does not have differs
/// in nothing: containers have no kernel.
pub fn reboot_needed(booted: &Path, running: &Path, target: &Path) -> Option<Prose> {
    let loaded = LOADED.into_iter().filter(|name| differ(&booted.join(name), &target.join(name)));
    let mut differing: Vec<String> = loaded.map(str::to_owned).collect();
    let (current, new) =
        (inhibitors(&running.join(INHIBITORS)), inhibitors(&target.join(INHIBITORS)));
    let inhibits = |(name, value): (String, String)| {
        (current.get(&name)? != &value).then(|| format!("switch inhibitor {name}"))
    };
    differing.extend(new.into_iter().filter_map(inhibits));
    let what = differing.join(", ");
    (!what.is_empty()).then(|| Prose::lossy(&format!("it takes a reboot, as these differ: {what}")))
}

fn differ(old: &Path, new: &Path) -> bool {
    match (fs::canonicalize(old), fs::canonicalize(new)) {
        (Ok(a), Ok(b)) if a == b => false,
        (Ok(a), Ok(b)) if a.is_file() && b.is_file() && old.ends_with("kernel-params") => {
            fs::read(a).ok() != fs::read(b).ok()
        }
        (Ok(_), Ok(_)) => true,
        _ => false,
    }
}

/// Reads the inhibitors of a system: names, and what they stand for.
fn inhibitors(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::PathBuf};

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        /// Makes a system of these: a name and what its link names, or the text of a file.
        fn system(&self, name: &str, parts: &[(&str, &str)]) -> PathBuf {
            let system = self.0.path().join(name);
            fs::create_dir_all(&system).unwrap();
            for (part, value) in parts {
                if LOADED[..3].contains(part) {
                    let path = self.0.path().join(value);
                    fs::write(&path, value).unwrap();
                    symlink(path, system.join(part)).unwrap();
                } else {
                    fs::write(system.join(part), value).unwrap();
                }
            }
            system
        }
    }

    #[test]
    fn another_kernel_its_parts_or_inhibitors_take_a_reboot_and_what_is_missing_does_not() {
        let machine = Machine(tempfile::tempdir().unwrap());
        let base = [
            ("kernel", "kernel-1"),
            ("initrd", "initrd-1"),
            ("kernel-modules", "modules-1"),
            ("kernel-params", "quiet"),
            ("switch-inhibitors", r#"{"dbus": "1", "gone": "1"}"#),
        ];
        let old = machine.system("old", &base);
        let cases = [
            ("same", None, None),
            ("kernel", Some(("kernel", "kernel-2")), Some("kernel")),
            ("initrd", Some(("initrd", "initrd-2")), Some("initrd")),
            ("modules", Some(("kernel-modules", "modules-2")), Some("kernel-modules")),
            ("params", Some(("kernel-params", "debug")), Some("kernel-params")),
            (
                "inhibitors",
                Some(("switch-inhibitors", r#"{"dbus": "2", "new": "1"}"#)),
                Some("switch inhibitor dbus"),
            ),
            ("unreadable", Some(("switch-inhibitors", "?")), None),
        ];
        for (name, change, expected) in cases {
            let parts = base.map(|part| match change {
                Some(change) if change.0 == part.0 => change,
                _ => part,
            });
            let new = machine.system(name, &parts);
            let found = reboot_needed(&old, &old, &new).map(|what| what.to_string());
            let expected =
                expected.map(|what| format!("it takes a reboot, as these differ: {what}"));
            assert_eq!(found, expected, "{name}");
            let container = machine.system("container", &[]);
            assert_eq!(reboot_needed(&container, &container, &new), None, "{name}");
        }
    }
}
