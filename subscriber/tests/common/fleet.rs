//! An operator with a signed cache, and a host whose store is filled from it: the quickstart's
//! library with real Nix, in one folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use herald_proto::{
    closure::{MANIFEST_NAME, Manifest},
    store_path::StorePath,
    target::Closure,
};

use super::Scratch;

/// The name of every test's host.
const HOST: &str = "alpha";

/// A fleet of one host with an empty store.
pub(crate) struct Fleet {
    pub(crate) scratch: Scratch,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let fleet = Self { scratch: Scratch::new() };
        fleet.shell(r#"fleet_make "$FLEET"; host_make "$1""#, &[HOST]);
        fleet
    }

    /// Builds a system on the operator's side.
    pub(crate) fn build(&self, label: &str, arguments: &[&str]) -> StorePath {
        let all: Vec<&str> = [HOST, label].into_iter().chain(arguments.iter().copied()).collect();
        self.shell(r#"build_system "$@""#, &all).trim().parse().expect("a store path")
    }

    /// Signs a system and copies it to the cache.
    pub(crate) fn push(&self, system: &StorePath) {
        self.shell(r#"cache_push "$@""#, &[system.as_str()]);
    }

    /// Puts the manifest of a system as it is now into the operator's store, and gives its path.
    pub(crate) fn manifest(&self, system: &StorePath) -> StorePath {
        let file = self.scratch.file(MANIFEST_NAME);
        fs::write(&file, self.content(system).to_string()).unwrap();
        let file = file.to_str().expect("the paths of tests are text");
        let added = self.on_operator(&["nix-store", "--add-fixed", "sha256", file]);
        added.trim().parse().expect("a store path")
    }

    /// Builds a system and puts it in the cache.
    pub(crate) fn system(&self, label: &str) -> StorePath {
        let system = self.build(label, &[]);
        self.push(&system);
        system
    }

    /// Replaces the key with which the cache is signed by one that the host knows nothing of.
    pub(crate) fn lose_cache_key(&self) {
        self.shell(
            r#"rm "$FLEET/cache.key"
            as_nix "$FLEET/operator" nix-store --generate-binary-cache-key \
                stranger-1 "$FLEET/cache.key" "$FLEET/stranger.pub""#,
            &[],
        );
    }

    /// Gives what the operator would sign: from the operator's own database.
    pub(crate) fn closure(&self, system: &StorePath) -> Closure {
        self.content(system).closure()
    }

    fn content(&self, system: &StorePath) -> Manifest {
        let dump = "nix-store --query --requisites \"$0\" | xargs nix-store --dump-db";
        let dump = self.on_operator(&["sh", "-c", dump, system.as_str()]);
        Manifest::from_dump_db(&dump).expect("a whole closure")
    }

    /// Runs a program as the host sees the world, and gives what it printed.
    pub(crate) fn in_host(&self, command: &[&str]) -> String {
        let all: Vec<&str> = [HOST].into_iter().chain(command.iter().copied()).collect();
        self.shell(r#"in_host "$@""#, &all)
    }

    /// Runs a program with the operator's Nix, and gives what it printed.
    pub(crate) fn on_operator(&self, command: &[&str]) -> String {
        self.shell(r#"as_nix "$FLEET/operator" "$@""#, command)
    }

    /// Gives the path of a system's closure whose name ends like that.
    pub(crate) fn requisite(&self, system: &StorePath, end: &str) -> StorePath {
        let listed = self.on_operator(&["nix-store", "-qR", system.as_str()]);
        let found = listed.lines().find(|path| path.ends_with(end));
        found.and_then(|path| path.parse().ok()).expect("it is in the closure")
    }

    /// Gives the archive of a path in the cache.
    pub(crate) fn archive(&self, path: &StorePath) -> PathBuf {
        let info = format!("cache/{}.narinfo", &path.base_name()[..32]);
        let info = fs::read_to_string(self.scratch.file(&info)).expect("it is in the cache");
        let url = info.lines().find_map(|line| line.strip_prefix("URL: "));
        self.scratch.file("cache").join(url.expect("an archive has an address"))
    }

    /// Gives a path other bytes on the operator's side, which Nix there takes for good, and so the
    /// cache's key signs.
    pub(crate) fn poison(&self, path: &StorePath, file: &str) -> Poisoned {
        let at = path.as_path().join(file);
        let good = fs::read(&at).expect("a file of the path");
        let poisoned = Poisoned { path: path.clone(), file: at, good };
        poisoned.write(self, b"# not what was built\n");
        poisoned
    }

    /// Runs the host's garbage collector.
    pub(crate) fn collect_garbage(&self) {
        self.in_host(&["nix-store", "--gc"]);
    }

    /// Tells whether a system is in the host's store.
    pub(crate) fn has(&self, system: &StorePath) -> bool {
        self.store().join(system.base_name()).exists()
    }

    /// Gives the folder that lies over the store where the host looks at it.
    pub(crate) fn store(&self) -> PathBuf {
        self.scratch.file("hosts/alpha/store")
    }

    /// Tells how many objects the host's store holds.
    pub(crate) fn store_size(&self) -> usize {
        let entries = fs::read_dir(self.store()).unwrap().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    }

    /// Runs a line of shell with the functions of the quickstart's library.
    fn shell(&self, script: &str, arguments: &[&str]) -> String {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/lib.sh");
        let script =
            format!(r#"set -euo pipefail; . "$0"; FLEET=$(realpath "$1"); shift; {script}"#);
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(&script).arg(library).arg(self.scratch.path()).args(arguments);
        let output = bash.output().expect("bash can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} {arguments:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).expect("what it prints is text")
    }
}

/// A path of the operator's store with other bytes than were built.
pub(crate) struct Poisoned {
    path: StorePath,
    file: PathBuf,
    good: Vec<u8>,
}

impl Poisoned {
    /// Brings the bytes back that were built.
    pub(crate) fn cure(self, fleet: &Fleet) {
        self.write(fleet, &self.good);
    }

    fn write(&self, fleet: &Fleet, bytes: &[u8]) {
        let content = fleet.scratch.file("content");
        fs::write(&content, bytes).unwrap();
        // Registered again with the hash that the path has then; its references stay.
        let script = r#"
            references=$(nix-store --query --references "$1")
            chmod u+w "$(dirname "$2")" "$2"
            cat "$3" >"$2"
            touch -d @1 "$2" && chmod 444 "$2"
            { echo "$1"; echo; echo "$references" | grep -c . || true; echo "$references" | grep . || true; } |
                nix-store --register-validity --reregister
        "#;
        let [path, file, content] = [self.path.as_path(), &self.file, &content]
            .map(|path| path.to_str().expect("the paths of tests are text"));
        fleet.on_operator(&["sh", "-euc", script, "sh", path, file, content]);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Store paths are read-only, which stops all but root from removing them.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.scratch.path()).status();
    }
}
