//! No secret comes out of the command, whatever it does and however much it is asked to say.

use std::process::Output;

use crate::support::{Agent, Desk, Host, Scene, keygen, path, stderr, stdout};

/// What a secret key must not be seen as: its seed and both halves, in base64 and hexadecimal.
struct Forbidden(Vec<String>);

impl Forbidden {
    fn of(nix_text: &str) -> Self {
        let encoded = nix_text.trim().split_once(':').unwrap().1;
        let bytes = decode(encoded);
        assert_eq!(bytes.len(), 64);
        let hex: String = bytes[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        let debug = format!("{:?}", &bytes[..8]);
        // 30 bytes are 40 letters at every place where base64 may begin.
        let mut all = vec![hex.clone(), hex.to_uppercase(), encoded[..40].to_owned()];
        all.push(debug.trim_matches(['[', ']']).to_owned());
        Self(all)
    }

    #[track_caller]
    fn check(&self, what: &str, output: &Output) {
        for text in [stdout(output), stderr(output)] {
            for secret in &self.0 {
                assert!(!text.contains(secret.as_str()), "{what} shows the secret: {text}");
            }
        }
    }
}

fn decode(base64: &str) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for letter in base64.bytes().filter(|letter| *letter != b'=') {
        let value = letters.iter().position(|known| *known == letter).unwrap();
        buffer = (buffer << 6) | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    bytes
}

#[test]
fn no_subcommand_shows_a_secret_key_however_much_it_says() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let desk = &scene.desk;
    let _alpha = scene.connect(alpha, &[]);
    let trust =
        format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{:?}]", scene.operator);
    desk.write("trust.toml", &trust);
    let more = "trust = \"trust.toml\"\nlogin = { kind = \"signed\", key = \"login.key\", name = \"ops\" }";
    desk.fleet_with(&scene.broker.url(), &[&Host::new("alpha", 1)], more);
    let secret = std::fs::read_to_string(desk.keys().join("alice.key")).unwrap();
    desk.write("login.key", &secret);
    desk.herald("key generate other --out other.key");
    let forbidden = Forbidden::of(&secret);
    let other = Forbidden::of(&std::fs::read_to_string(desk.path("other.key")).unwrap());
    std::fs::set_permissions(
        desk.path("login.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let (new, text) = (path("new"), secret.trim());
    desk.write("broken.key", &secret[..secret.len() - 9]);
    desk.write("wide.key", &secret);
    desk.write("damaged.key", &secret.replace('=', "A"));
    let publish = format!("publish --host alpha={new} --integrity toplevel");
    let sign = format!("sign --host alpha={new} --integrity toplevel --out r.release");
    let mut failed = 0;
    for command in [
        "key generate alice",
        "key generate new --out new.key",
        "key public",
        "key public wide.key",
        "key public broken.key",
        "key public damaged.key",
        "key public env:SECRET",
        &format!("key public {text}"),
        &publish,
        &format!("{publish} --key env:SECRET --out orders"),
        &format!("{publish} --key {text}"),
        &format!("{publish} --key other.key"),
        &format!("{publish} --key wide.key"),
        &format!("{publish} --dry-run --json"),
        &sign,
        &sign,
        "cosign r.release --yes",
        "cosign r.release --show --json",
        "cosign r.release --yes --key other.key",
        "cosign r.release --merge",
        "publish --release r.release",
        "publish --release r.release --watch --timeout 100ms --json",
        "status",
        "status --json",
        "listen --for 100ms",
        "rollback alpha",
        "verify orders/alpha.system.order",
        "verify alice.key",
        "completions bash",
        "publish --help",
        "cosign --help",
        "key public --help",
        "--help",
        "nonsense",
    ] {
        let args: Vec<_> = command.split_whitespace().chain(["-vvv"]).collect();
        let mut run = desk.command(&args);
        run.env("SECRET", text).env("RUST_BACKTRACE", "1");
        let output = run.output().unwrap();
        failed += u32::from(!output.status.success());
        forbidden.check(command, &output);
        other.check(command, &output);
        // Also where the key itself was put, where its place is asked for.
        run.env("HERALD_KEY", text).env("HERALD_LOGIN_KEY", text);
        let output = run.output().unwrap();
        forbidden.check(command, &output);
    }
    assert!(failed < 20, "{failed} commands failed: the test shows little");
}

#[test]
fn an_openssh_key_does_not_show_either() {
    let desk = Desk::new();
    desk.fleet("mqtt://127.0.0.1:9", &[&Host::new("alpha", 1)]);
    let agent = Agent::start();
    let file = keygen(&desk.path(""), "alice", "ed25519", "");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('-')).collect();
    desk.write("cut.key", &text[..text.len() / 2]);
    let wanted = format!("alpha={}", path("new"));
    for key in [file.to_str().unwrap(), "cut.key", "agent:alice", text.as_str()] {
        let args = ["publish", "--host", &wanted, "--integrity", "toplevel", "--dry-run", "-vvv"];
        let mut command = desk.command(&args);
        command.args(["--key", key]).env("SSH_AUTH_SOCK", agent.socket());
        let output = command.output().unwrap();
        for said in [stdout(&output), stderr(&output)] {
            // The first line is the same in every key.
            assert!(lines[1..].iter().all(|line| !said.contains(line)), "{key}: {said}");
        }
    }
}
