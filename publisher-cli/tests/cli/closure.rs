//! The closure digest that operators sign, from a real Nix store.

use std::process::Command;

use herald_proto::{
    closure::{Manifest, manifest_path},
    store_path::StorePath,
};

use crate::support::{Broker, Desk, Host, exits, json, stdout};

/// A Nix store of its own, in the operator's folder.
struct Store<'a>(&'a Desk);

impl Store<'_> {
    fn environment(&self) -> Vec<(&'static str, std::path::PathBuf)> {
        let at = |name: &str| self.0.path("nix").join(name);
        vec![
            ("NIX_STORE_DIR", at("store")),
            ("NIX_STATE_DIR", at("var")),
            ("NIX_LOG_DIR", at("log")),
            ("NIX_CONF_DIR", at("etc")),
            ("NIX_REMOTE", "".into()),
        ]
    }

    fn nix(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args).envs(self.environment()).env("HOME", self.0.path("home"));
        let output = command.output().expect("Nix is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end_matches('"').trim().to_owned()
    }

    /// Makes a store path that refers to another one.
    fn add(&self) -> StorePath {
        let text = "builtins.toFile \"system\" \"needs ${builtins.toFile \"part\" \"a part\"}\"";
        let args = ["--eval", "--read-write-mode", "--expr", text];
        self.nix("nix-instantiate", &args).trim().trim_matches('"').parse().unwrap()
    }
}

#[test]
fn the_digest_covers_the_closure_as_the_nix_database_knows_it() {
    let desk = Desk::new();
    desk.fleet("mqtt://127.0.0.1:9", &[&Host::new("alpha", 1), &Host::new("beta", 2)]);
    let store = Store(&desk);
    let system = store.add();
    let whole = store.nix("nix-store", &["-qR", system.as_str()]);
    let whole: Vec<_> = ["--dump-db"].into_iter().chain(whole.lines()).collect();
    let dump = store.nix("nix-store", &whole) + "\n";
    let closure = Manifest::from_dump_db(&dump).unwrap().closure();
    assert_eq!(closure.paths, 2);

    let wanted = ["alpha", "beta"].map(|host| format!("{host}={system}"));
    let mut command = desk.command(&[
        "publish",
        "--dry-run",
        "--json",
        "--host",
        &wanted[0],
        "--host",
        &wanted[1],
    ]);
    let output = command.envs(store.environment()).output().unwrap();
    exits(&output, 0);
    for target in [0, 1].map(|at| json(&output)["targets"][at].clone()) {
        assert_eq!(target["integrity"], "closure");
        assert_eq!(target["closure_digest"], closure.digest.to_string());
        assert_eq!(target["closure_bytes"], closure.size);
        assert_eq!(target["closure_paths"], 2);
    }
}

#[test]
fn the_manifest_is_put_into_the_store_where_hosts_look_for_it_by_the_digest() {
    let desk = Desk::new();
    let store = Store(&desk);
    let system = store.add();
    let mut command = desk.command(&["manifest", "--json", system.as_str()]);
    let output = command.envs(store.environment()).output().unwrap();
    exits(&output, 0);
    let shown = &json(&output)["manifests"][0];
    assert_eq!(shown["toplevel"], system.as_str());
    let digest = shown["closure_digest"].as_str().unwrap().parse().unwrap();
    let path = manifest_path(system.store_dir(), &digest).unwrap();
    assert_eq!(shown["manifest"], path.as_str());
    let manifest = Manifest::read(&std::fs::read(path.as_path()).unwrap(), &digest).unwrap();
    assert!(manifest.contains(&system));

    let mut command = desk.command(&["manifest", system.as_str(), system.as_str()]);
    let output = command.envs(store.environment()).output().unwrap();
    assert_eq!(stdout(&output), format!("{path}\n{path}\n"));
}

#[test]
fn systems_and_manifests_are_copied_to_a_cache_before_anything_is_signed() {
    let desk = Desk::new();
    let broker = Broker::start();
    desk.fleet(&broker.url(), &[&Host::new("alpha", 1)]);
    let store = Store(&desk);
    let system = store.add();
    let wanted = format!("alpha={system}");
    let cache = desk.path("cache");
    let publish = |to: &str| {
        let mut command = desk.command(&["publish", "--host", &wanted, "--copy-to", to]);
        command.envs(store.environment()).output().unwrap()
    };
    let said = exits(&publish("file:///dev/null/cache"), 1);
    assert!(said.contains("nix copy --to") && said.contains("nothing was signed"), "{said}");
    exits(&publish(&format!("file://{}", cache.display())), 0);
    let infos = std::fs::read_dir(cache).unwrap().flatten();
    let infos: Vec<_> = infos.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert_eq!(infos.iter().filter(|name| name.ends_with(".narinfo")).count(), 3, "{infos:?}");
}

#[test]
fn without_nix_the_way_out_is_named() {
    let desk = Desk::new();
    desk.fleet("mqtt://127.0.0.1:9", &[&Host::new("alpha", 1)]);
    let wanted = format!("alpha={}", crate::support::path("new"));
    let mut command = desk.command(&["publish", "--dry-run", "--host", &wanted]);
    let said = exits(&command.env("PATH", desk.path("nothing")).output().unwrap(), 1);
    assert!(said.contains("cannot run nix-store") && said.contains("toplevel"), "{said}");
}
