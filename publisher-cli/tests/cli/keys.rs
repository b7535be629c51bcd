//! Keys in every place and form from which they are read.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use crate::support::{Agent, Desk, Host, exits, json, keygen, path, stdout};

const NOWHERE: &str = "mqtt://127.0.0.1:9";

fn public(desk: &Desk, source: &str) -> String {
    let output = desk.run(&["key", "public", source]);
    exits(&output, 0);
    stdout(&output).trim().to_owned()
}

/// Says with which key a release would be signed.
fn dry_run(desk: &Desk, key: &str, with: &[(&str, &Path)]) -> Output {
    let wanted = format!("alpha={}", path("new"));
    let args = ["publish", "--host", &wanted, "--integrity", "toplevel", "--dry-run", "--json"];
    let mut command = desk.command(&args);
    command.args(["--key", key]).envs(with.iter().copied()).output().unwrap()
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1)]);
    desk
}

#[test]
fn openssh_s_keys_are_read_in_both_halves_and_sign() {
    let desk = desk();
    let file = keygen(&desk.path(""), "alice@laptop", "ed25519", "");
    let file = file.to_str().unwrap();
    let own = public(&desk, file);
    assert!(own.starts_with("alice@laptop:"), "{own}");
    assert_eq!(public(&desk, &format!("{file}.pub")), own);
    let named = desk.run(&["key", "public", file, "--name", "alice"]);
    assert_eq!(stdout(&named).trim(), own.replace("alice@laptop", "alice"));
    let signed = dry_run(&desk, file, &[]);
    exits(&signed, 0);
    assert_eq!(json(&signed)["keys"][0], "alice@laptop");
    let said = exits(&dry_run(&desk, &format!("{file}.pub"), &[]), 1);
    assert!(said.contains("public half") && said.contains("agent:alice@laptop"), "{said}");
    let nix = desk.write("nix.pub", &own);
    assert_eq!(public(&desk, nix.to_str().unwrap()), own);
}

#[test]
fn a_key_under_a_passphrase_and_one_of_another_type_are_refused_with_the_way_out() {
    let desk = desk();
    let locked = keygen(&desk.path(""), "locked", "ed25519", "a passphrase");
    let said = exits(&dry_run(&desk, locked.to_str().unwrap(), &[]), 1);
    assert!(said.contains("add it to ssh-agent with `ssh-add`"), "{said}");
    let ecdsa = keygen(&desk.path(""), "old", "ecdsa", "");
    let said = exits(&dry_run(&desk, ecdsa.to_str().unwrap(), &[]), 1);
    assert!(
        said.contains("ecdsa-sha2-nistp256") && said.contains("ssh-keygen -t ed25519"),
        "{said}"
    );
}

#[test]
fn an_openssh_key_that_others_can_read_is_refused_and_its_public_half_is_not() {
    let desk = desk();
    let file = keygen(&desk.path(""), "open", "ed25519", "");
    for bits in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits)).unwrap();
        let said = exits(&dry_run(&desk, file.to_str().unwrap(), &[]), 1);
        assert!(said.contains(&format!("chmod 600 {}", file.display())), "{said}");
    }
    let open = std::fs::Permissions::from_mode(0o644);
    let half = file
        .with_extension("")
        .with_file_name(format!("{}.pub", file.file_name().unwrap().to_str().unwrap()));
    std::fs::set_permissions(&half, open).unwrap();
    public(&desk, half.to_str().unwrap());
}

#[test]
fn an_agent_s_key_is_known_by_comment_fingerprint_or_its_name_in_the_trust_file() {
    let desk = desk();
    let agent = Agent::start();
    let socket = agent.socket();
    let with = [("SSH_AUTH_SOCK", socket.as_path())];
    let empty = exits(&dry_run(&desk, "agent:", &with), 1);
    assert!(empty.contains("ssh-agent has no Ed25519 key: add one"), "{empty}");
    let ecdsa = keygen(&desk.path(""), "ecdsa", "ecdsa", "");
    agent.ssh_add(&[ecdsa.to_str().unwrap()]);
    let key = agent.add("bob@laptop");
    let half = public(&desk, &format!("{}.pub", key.display())).replace("bob@laptop", "bob");
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1)], "trust = \"trust.toml\"");
    let trust = format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{half:?}]");
    desk.write("trust.toml", &trust);

    let listed = exits(&dry_run(&desk, "agent:nobody", &with), 1);
    let at = listed.find("SHA256:").unwrap();
    let fingerprint = &listed[at..at + 50];
    assert!(listed.contains("bob@laptop") && !listed.contains("ecdsa"), "{listed}");
    for name in ["", "bob", "bob@laptop", fingerprint] {
        exits(&dry_run(&desk, &format!("agent:{name}"), &with), 0);
    }
    agent.add("carol");
    let several = exits(&dry_run(&desk, "agent:", &with), 1);
    assert!(several.contains("several") && several.contains("carol (SHA256:"), "{several}");
    let shown = desk.command(&["key", "public", "agent:carol"]).envs(with).output().unwrap();
    assert!(stdout(&shown).starts_with("carol:"));
}

#[test]
fn an_agent_that_is_not_there_or_locked_is_told_as_such() {
    let desk = desk();
    let said = exits(&dry_run(&desk, "agent:bob", &[]), 1);
    assert!(said.contains("SSH_AUTH_SOCK is not set"), "{said}");
    let gone = desk.path("gone.sock");
    let said = exits(&dry_run(&desk, "agent:bob", &[("SSH_AUTH_SOCK", &gone)]), 1);
    assert!(said.contains("gone.sock"), "{said}");
}

#[test]
fn an_agent_that_answers_nonsense_or_signs_something_else_is_refused() {
    use std::io::{Read as _, Write as _};
    let desk = desk();
    let key = keygen(&desk.path(""), "bob", "ed25519", "");
    let line = std::fs::read_to_string(format!("{}.pub", key.display())).unwrap();
    let trusted = public(&desk, &format!("{}.pub", key.display()));
    let trust = format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{trusted:?}]");
    desk.write("trust.toml", &trust);
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1)], "trust = \"trust.toml\"");
    let key = herald_fleet::openssh::read_public(&line).unwrap();
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    let blob = [string(b"ssh-ed25519"), string(key.as_bytes())].concat();
    let listed = [&[12, 0, 0, 0, 1][..], &string(&blob), &string(b"bob")].concat();
    let other = [string(b"ssh-ed25519"), string(&[1; 64])].concat();
    let wrong = [&[14][..], &string(&other)].concat();
    for (answers, expected) in [
        (vec![vec![0xff; 3]], "answers with a message of the type 255"),
        (vec![vec![12, 255, 255, 255, 255]], "ends too early"),
        (vec![listed.clone(), vec![5]], "ssh-agent did not sign with the key bob"),
        (vec![listed, wrong], "the signature by bob is none"),
    ] {
        let socket = desk.path("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let serve = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut request = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut request).unwrap();
                let length = (answer.len() as u32).to_be_bytes();
                stream.write_all(&[&length[..], &answer].concat()).unwrap();
            }
        });
        let broker = crate::support::Broker::start();
        desk.fleet_with(&broker.url(), &[&Host::new("alpha", 1)], "trust = \"trust.toml\"");
        let wanted = format!("alpha={}", path("new"));
        let args = ["publish", "--host", &wanted, "--integrity", "toplevel", "--key", "agent:bob"];
        let output = desk.command(&args).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        let said = exits(&output, 1);
        assert!(said.contains(expected), "{said}");
        serve.join().unwrap();
    }
}

#[test]
fn a_key_comes_from_a_variable_or_a_credential_for_programs() {
    let desk = desk();
    let secret = std::fs::read_to_string(desk.keys().join("alice.key")).unwrap();
    let variable = [("CI_KEY", Path::new(secret.trim()))];
    let signed = dry_run(&desk, "env:CI_KEY", &variable);
    assert_eq!(json(&signed)["keys"][0], "alice");
    assert!(exits(&dry_run(&desk, "env:CI_KEY", &[]), 1).contains("CI_KEY is not set"));
    let empty = [("CI_KEY", Path::new(""))];
    assert!(exits(&dry_run(&desk, "env:CI_KEY", &empty), 1).contains("CI_KEY is empty"));

    let folder = desk.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("herald"), &secret).unwrap();
    let with = [("CREDENTIALS_DIRECTORY", folder.as_path())];
    assert_eq!(json(&dry_run(&desk, "credential:herald", &with))["keys"][0], "alice");
    for (name, with, expected) in [
        ("herald", &[][..], "LoadCredential=herald"),
        ("other", &with[..], "credentials/other"),
        ("../fleet.toml", &with[..], "no name of a credential"),
    ] {
        let said = exits(&dry_run(&desk, &format!("credential:{name}"), with), 1);
        assert!(said.contains(expected), "{said}");
    }
}
