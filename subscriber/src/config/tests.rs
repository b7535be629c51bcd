use super::*;

fn load(text: &str, trust: &str) -> Result<(Config, Trust), BadConfig> {
    let folder = tempfile::tempdir().unwrap();
    let trust_file = folder.path().join("trust.toml");
    fs::write(&trust_file, trust).unwrap();
    let file = folder.path().join("subscriber.toml");
    fs::write(&file, format!("{text}\ntrust = {trust_file:?}\n")).unwrap();
    Config::load(&file)
}

const MINIMAL: &str = "fleet = \"home\"\nhost = \"alpha\"\nbroker = \"mqtt://127.0.0.1\"";

fn trust(fleet: &str) -> String {
    let key = "k:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    format!("fleet = {fleet:?}\n[release]\nthreshold = 1\nkeys = [{key:?}]\n")
}

#[test]
fn three_settings_and_a_trust_file_are_enough() {
    let (config, _) = load(MINIMAL, &trust("home")).unwrap();
    assert_eq!(config.runner, Runner::Systemd);
    assert_eq!(config.store_dir, "/nix/store");
    assert_eq!(config.profiles.len(), 1);
    assert_eq!(config.login, LoginConfig::default());
    assert_eq!(config.session, SessionKind::Clean);
    assert_eq!(config.state, Lasting::Durable);
    let canary = |config: &Config| config.canary(&ProfileName::system());
    assert_eq!(canary(&config), Some("/nix/var/herald/system".into()));
    let (config, _) = load(&format!("{MINIMAL}\nstate = \"ephemeral\""), &trust("home")).unwrap();
    assert_eq!((config.state, canary(&config)), (Lasting::Ephemeral, None));
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    let home = trust("home");
    let cases = [
        (format!("{MINIMAL}\nrunnner = \"direct\""), home.clone(), "runnner"),
        (format!("{MINIMAL}\nstate_dir = \"var\""), home.clone(), "state_dir"),
        (format!("{MINIMAL}\nstore_dir = \"/nix/../store\""), home.clone(), "store_dir"),
        (format!("{MINIMAL}\nhealth_folder = \"h\""), home.clone(), "health_folder"),
        (format!("{MINIMAL}\ncontrol = \"control.sock\""), home.clone(), "control"),
        (format!("{MINIMAL}\nprofiles = {{}}"), home.clone(), "profiles"),
        (MINIMAL.replace("alpha", "al.pha"), home.clone(), "host name"),
        (format!("{MINIMAL}\nlogin = {{ kind = \"key\" }}"), home.clone(), "key"),
        (format!("{MINIMAL}\nlogin = {{ kind = \"none\", file = \"/f\" }}"), home.clone(), "file"),
        (
            format!("{MINIMAL}\nlogin = {{ kind = \"password\", file = \"f\" }}"),
            home.clone(),
            "login.file",
        ),
        (
            format!("{MINIMAL}\nlogin = {{ kind = \"password\", file = \"/f\" }}")
                .replace("127.0.0.1", "broker"),
            home.clone(),
            "home/alpha is not sent to mqtt://broker:1883",
        ),
        (format!("{MINIMAL}\ntls.certificate = \"/c\""), home.clone(), "both or neither"),
        (format!("{MINIMAL}\ntls.ca = \"ca.pem\""), home.clone(), "tls.ca"),
        (format!("{MINIMAL}\nconsent.deadline = \"soon\""), home.clone(), "consent"),
        (format!("{MINIMAL}\nactivation_output = \"off\""), home.clone(), "activation_output"),
        (format!("{MINIMAL}\nreboot.own_profile = \"p\""), home.clone(), "reboot.own_profile"),
        (format!("{MINIMAL}\nroom.store = \"12 parsecs\""), home.clone(), "12 parsecs"),
        (format!("{MINIMAL}\nroom.boot_folder = \"b\""), home.clone(), "room.boot_folder"),
        (format!("{MINIMAL}\nreboot.boot_loader.kind = \"lilo\""), home.clone(), "lilo"),
        (format!("{MINIMAL}\nwindow.opens = [\"Sat\"]"), home.clone(), "lasts"),
        (
            format!("{MINIMAL}\nallowed_substituters = [\"https://c.org?trusted=1\"]"),
            home.clone(),
            "c.org?trusted=1",
        ),
        (format!("{MINIMAL}\nretention.systems = 1"), home.clone(), "from 2 to 16"),
        (format!("{MINIMAL}\nsession = \"durable\""), home, "durable"),
        (MINIMAL.into(), trust("work"), "fleet work"),
        (MINIMAL.into(), trust("home").replace("= 1", "= 2"), "threshold"),
    ];
    for (text, trust, expected) in cases {
        let error = anyhow::Error::from(load(&text, &trust).unwrap_err());
        let error = format!("{error:#}");
        assert!(error.contains(expected) && error.contains(".toml"), "{error}");
    }
}
