//! The systems of the simulated machine, and where their links are.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use herald_proto::store_path::StorePath;

use super::rng::Rng;

/// The profile's link.
pub(crate) const PROFILE: &str = "/nix/var/nix/profiles/system";
/// The link to what runs.
pub(crate) const CURRENT: &str = "/run/current-system";
/// The link to what was booted.
pub(crate) const BOOTED: &str = "/run/booted-system";
/// The link to what boots next, in the boot loader's folder.
pub(crate) const BOOT_DEFAULT: &str = "/boot/default";
/// The link to what boots once, before the default.
pub(crate) const BOOT_ONCE: &str = "/boot/once";
/// The profile of systems that are booted once.
pub(crate) const OWN_PROFILE: &str = "/nix/var/nix/profiles/system-profiles/herald";
/// A person's own GC root of what they have built.
pub(crate) const PERSONS_RESULT: &str = "/nix/var/nix/gcroots/result";
/// The store.
pub(crate) const STORE: &str = "/nix/store";
/// The folder of all state.
pub(crate) const STATE_DIR: &str = "/var/lib/herald";
/// The profile's state folder.
pub(crate) const STATE: &str = "/var/lib/herald/system";
/// The folder of marks of what is not synced.
pub(crate) const UNSYNCED: &str = "/var/lib/herald/store.unsynced";
/// The folder of GC roots.
pub(crate) const ROOTS: &str = "/var/lib/herald/system/roots";

/// The trust file of the system that runs.
pub(crate) const TRUST: &str = "/etc/herald/trust.toml";
/// The same, in a system.
pub(crate) const OWN_TRUST: &str = "etc/herald/trust.toml";

/// What runs when a run begins.
pub(crate) static OLD: LazyLock<StorePath> = LazyLock::new(|| system('0', "old"));
/// What the order is about.
pub(crate) static TARGET: LazyLock<StorePath> = LazyLock::new(|| system('1', "target"));
/// What a newer order is about.
pub(crate) static NEWER: LazyLock<StorePath> = LazyLock::new(|| system('2', "newer"));
/// What a person at the machine has built.
pub(crate) static PERSONS: LazyLock<StorePath> = LazyLock::new(|| system('3', "persons"));

fn system(letter: char, name: &str) -> StorePath {
    let hash = letter.to_string().repeat(32);
    let path = format!("{STORE}/{hash}-nixos-system-{name}");
    path.parse().expect("a hash of Nix's letters and a name")
}

/// Lists a system's closure: what it needs first, itself last.
pub(crate) fn closure(toplevel: &StorePath) -> [StorePath; 3] {
    let own = toplevel.base_name().get(..1).unwrap_or("0").repeat(31);
    let path = |text: String| text.parse().expect("a hash of Nix's letters and a name");
    let libraries = path(format!("{STORE}/{}-libraries", "z".repeat(32)));
    [libraries, path(format!("{STORE}/{own}k-kernel")), toplevel.clone()]
}

/// Gives the content by which a store path's file is known to be whole.
pub(crate) fn content(path: &StorePath) -> &[u8] {
    path.base_name().as_bytes()
}

/// Gives the store path that a path is in, and what is below it.
pub(crate) fn in_store(path: &Path) -> Option<(StorePath, PathBuf)> {
    let below = path.strip_prefix(STORE).ok()?;
    let base = below.components().next()?;
    let store_path = Path::new(STORE).join(base).to_str()?.parse().ok()?;
    Some((store_path, below.strip_prefix(base).ok()?.to_owned()))
}

/// Prints store paths as `nix-store --dump-db` does.
pub(crate) fn dump(paths: &[StorePath]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for path in paths {
        let seed = path.as_str().bytes().fold(7, |sum, byte| Rng::mixed(sum, u64::from(byte)));
        let hash = format!("{seed:016x}").repeat(4);
        let whole = closure(path);
        let is_toplevel = path.name().starts_with("nixos-system-");
        let references = if is_toplevel { &whole[..2] } else { &[] };
        let _ = write!(text, "{path}\n{hash}\n1000\n\n{}\n", references.len());
        for reference in references {
            let _ = writeln!(text, "{reference}");
        }
    }
    text
}
