//! What the host's own Nix is set to, as far as that weakens what Herald builds on. It is told, and
//! never changed.

use super::command;
use crate::os::Os;

/// The two names of one command: that of today, and that of before Nix 2.20.
const SHOW: [&[&str]; 2] = [&["config", "show"], &["show-config"]];

/// Gives what is to be said about Nix's settings; nothing where Nix does not tell them.
pub async fn warnings(os: &dyn Os) -> Vec<String> {
    for show in SHOW {
        let mut ask = command::program("nix");
        ask.args(["--extra-experimental-features", "nix-command"]).args(show);
        if let Ok(settings) = command::output(os, &mut ask).await {
            return weaknesses(&settings);
        }
    }
    Vec::new()
}

fn weaknesses(settings: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in settings.lines().filter_map(|line| line.split_once(" = ")) {
        if name == "require-sigs" && value == "false" {
            found.push(
                "Nix has require-sigs = false here: whoever reaches its caches decides what is fetched, \
                 and only the digest of a release keeps it from being activated"
                    .to_owned(),
            );
        }
        let trusted = |cache: &&str| cache.contains("trusted=1") || cache.contains("trusted=true");
        if name == "substituters" {
            let caches = value.split(' ').filter(trusted);
            found.extend(caches.map(|cache| {
                format!("Nix takes from {cache} what nobody has signed (trusted, in substituters)")
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_take_unsigned_paths_are_told() {
        let good = "require-sigs = true\nsubstituters = https://cache.nixos.org/ https://a\n";
        assert!(weaknesses(good).is_empty());
        let bad = "require-sigs = false\nsubstituters = https://a file:///b?trusted=1\n";
        let told = weaknesses(bad);
        assert!(
            told[0].contains("require-sigs = false") && told[1].contains("file:///b"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}
