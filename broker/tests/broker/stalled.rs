//! A disk that takes nothing any more, and answers nothing: what hangs is to be seen from outside.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    ORDER, STATUS,
    client::{Client, Packet},
    process::{Broker, Site},
    wait::LIMIT,
};

const DISK: u64 = 96 * 1024 * 1024;
/// A beat is due each quarter of this.
const WATCHDOG: Duration = Duration::from_millis(400);

fn does(program: &str, args: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A file system in a file, as the state's folder.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it, or says why it can't.
    fn mount(site: &Site) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount a file system and freeze it");
            return None;
        }
        fs::create_dir(&site.state).unwrap();
        let image = site.path("image");
        File::create(&image).unwrap().set_len(DISK).unwrap();
        let mounted = does("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image])
            && does("mount", &["-o".as_ref(), "loop".as_ref(), &image, &site.state]);
        if !mounted {
            eprintln!("skipped: this machine lets nobody mount a file system that is in a file");
            return None;
        }
        Some(Self(site.state.clone()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        does("umount", &["--lazy".as_ref(), &self.0]);
    }
}

/// A disk that answers no write for as long as this lives.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn freeze(disk: &'a Disk) -> Self {
        assert!(does("fsfreeze", &["--freeze".as_ref(), &disk.0]));
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        does("fsfreeze", &["--unfreeze".as_ref(), &self.0.0]);
    }
}

/// Starts a broker as systemd does, with its socket at `notify`.
fn start_watched(site: &Site) -> Broker {
    let mut command = site.command(&["--listen", "127.0.0.1:0", "--anonymous"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    site.spawn(command)
}

#[test]
fn the_watchdog_hears_nothing_while_the_store_hangs_and_again_when_it_goes_on() {
    let site = Site::new();
    let Some(disk) = Disk::mount(&site) else { return };
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    let told = |patience| {
        let mut message = [0; 64];
        socket.set_read_timeout(Some(patience)).unwrap();
        match socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8(message[..length].to_vec()).unwrap()),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                None
            }
        }
    };
    let broker = start_watched(&site);
    let mut client = Client::connect(broker.address(), "client");
    client.retained(STATUS, "status");
    assert_eq!(told(LIMIT).as_deref(), Some("READY=1\n"));
    assert_eq!(told(LIMIT).as_deref(), Some("WATCHDOG=1\n"));

    let frozen = Frozen::freeze(&disk);
    client.retain(ORDER, "order");
    // A beat or two may have been on their way. What counts as quiet is five times what systemd waits.
    let beats = (0..100).take_while(|_| told(5 * WATCHDOG).is_some()).count();
    assert!(beats < 100, "the watchdog is fed while nothing can be stored");
    // The broker lives, and what is not to be stored goes on.
    client.ping();
    drop(frozen);
    assert_eq!(told(LIMIT).as_deref(), Some("WATCHDOG=1\n"));
    assert!(matches!(client.receive(), Ok(Packet::PubAck(_))));
    broker.stop();
}

#[test]
fn a_systemd_that_hears_nothing_holds_up_neither_clients_nor_the_end() {
    let site = Site::new();
    let _deaf = UnixDatagram::bind(site.path("notify")).unwrap();
    let others = UnixDatagram::unbound().unwrap();
    others.connect(site.path("notify")).unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send(b"STATUS=of another service\n").is_ok() {}
    let broker = start_watched(&site);
    let mut client = Client::connect(broker.address(), "client");
    client.retained(STATUS, "status");
    client.ping();
    broker.stop();
}
