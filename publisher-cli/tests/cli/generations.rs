//! Hosts that were offline while the trust changed, and still have the one before.

use crate::support::{Answer, Desk, HOME, Host, Scene, Scripted, answers, exits, path, stdout};
use herald_proto::report::PhaseName;

fn key(desk: &Desk, name: &str) -> String {
    let output = desk.herald(&format!("key generate {name} --out {name}.key"));
    exits(&output, 0);
    stdout(&output).trim().to_owned()
}

fn trust(threshold: usize, keys: &[&String]) -> String {
    format!("fleet = \"{HOME}\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n")
}

#[test]
fn a_release_is_signed_for_every_trust_that_hosts_still_report() {
    let hosts = [Host::new("alpha", 1), Host::new("beta", 2)];
    let scene = Scene::new(&[&hosts[0], &hosts[1]]);
    let desk = &scene.desk;
    let (old, new) = (key(desk, "old"), key(desk, "new"));
    let (before, now) = (trust(1, &[&old]), trust(1, &[&new]));
    desk.write("trust.toml", &now);
    desk.write("trust-1.toml", &before);
    let fleet = |more: &str| {
        let both = [&Host::new("alpha", 1), &Host::new("beta", 2)];
        desk.fleet_with(&scene.broker.url(), &both, &format!("trust = \"trust.toml\"\n{more}"));
    };
    let succeeded = [Answer::Phase(PhaseName::Succeeded, None)];
    let [alpha, beta] = hosts;
    let connect = |host, trust: &str| {
        let script = answers(&[&succeeded, &succeeded]);
        Scripted::start_trusting(host, &scene.broker, trust, script)
    };
    let (alpha, beta) = (connect(alpha, &now), connect(beta, &before));
    let wanted = format!("--host alpha={0} --host beta={0} --integrity toplevel", path("new"));
    let publish = |more: &str| desk.herald(&format!("publish {wanted} {more}"));

    fleet("older_trusts = [\"trust-1.toml\"]");
    let said = exits(&publish("--key new.key"), 1);
    assert!(
        said.contains("0 of the 1 keys of the older trust") && said.contains(": beta;"),
        "{said}"
    );
    assert!(alpha.orders.try_recv().is_err(), "nothing was sent");
    exits(&publish("--key new.key --key old.key --watch --timeout 30s"), 0);
    alpha.order();
    beta.order();

    // The same by release file: what was signed by one generation only waits for the other.
    exits(&desk.herald(&format!("sign {wanted} --key new.key --out r.release")), 0);
    let said = exits(&desk.herald("publish --release r.release"), 1);
    assert!(said.contains("older trust") && said.contains("beta"), "{said}");
    let said = exits(&desk.herald("cosign r.release --key old.key --yes"), 0);
    assert!(said.contains("signed by new and old: enough"), "{said}");
    exits(&desk.herald("publish --release r.release --watch --timeout 30s"), 0);
    alpha.order();
    beta.order();

    // Of a trust that the fleet file does not list it is only known that it is another one.
    fleet("");
    exits(&desk.herald(&format!("sign {wanted} --key new.key --out s.release")), 0);
    let shown = desk.herald("cosign s.release --show");
    let said = exits(&shown, 0);
    assert!(said.contains("may refuse the release: beta"), "{said}");
    let said = exits(&publish("--key new.key"), 0);
    assert!(said.contains("may refuse the release: beta"), "{said}");
    let said = exits(&desk.herald(&format!("sign {wanted} --key old.key --out t.release")), 1);
    assert!(said.contains("old is not in [release]"), "{said}");
}

#[test]
fn older_trusts_of_another_fleet_or_without_a_trust_of_now_are_refused() {
    let desk = Desk::new();
    let own = stdout(&desk.herald("key public")).trim().to_owned();
    desk.write("trust.toml", &trust(1, &[&own]));
    desk.write("away.toml", &trust(1, &[&own]).replace(HOME, "away"));
    let alpha = Host::new("alpha", 1);
    for (more, expected) in [
        ("older_trusts = [\"trust.toml\"]", "set trust too"),
        ("trust = \"trust.toml\"\nolder_trusts = [\"away.toml\"]", "for the fleet away"),
        ("trust = \"trust.toml\"\nolder_trusts = [\"gone.toml\"]", "gone.toml"),
    ] {
        desk.fleet_with("mqtt://127.0.0.1:9", &[&alpha], more);
        let said = exits(&desk.herald("status"), 1);
        assert!(said.contains(expected), "{said}");
    }
}
