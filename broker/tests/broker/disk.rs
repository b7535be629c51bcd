//! A disk that is full: nothing is stored, all else goes on, and it works again when there is room.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    BEACON, EVENT, ORDER, PRESENCE, STATUS,
    client::{Client, Connect},
    process::Site,
};

/// A small disk of its own, as the state's folder.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts it, or says why it can't.
    fn mount(site: &Site) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        fs::create_dir(&site.state).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m", "herald-test"])
            .arg(&site.state)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this machine lets nobody mount a tmpfs");
            return None;
        }
        Some(Self { folder: site.state.clone() })
    }

    fn fill(&self) {
        // The broker leaves 16 MiB free.
        fs::write(self.folder.join("ballast"), vec![1; 26 * 1024 * 1024]).unwrap();
    }

    fn clear(&self) {
        fs::remove_file(self.folder.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also where a broker that a failed test left behind still has its file open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

#[test]
fn on_a_full_disk_nothing_is_stored_and_all_else_goes_on_until_there_is_room() {
    let site = Site::with("");
    let Some(disk) = Disk::mount(&site) else { return };
    let broker = site.start();
    let address = broker.address();
    let mut operator = Client::connect(address, "operator");
    operator.retained(ORDER, "order");
    let connect = Connect::persistent("host");
    let mut host = connect.open(address);
    host.subscribe(ORDER);
    host.take();
    let mut watcher = Client::connect(address, "watcher");
    watcher.subscribe_all(&[(STATUS, 1), (PRESENCE, 1), (EVENT, 1)]);
    disk.fill();

    // What is to be kept is refused, and nobody gets it.
    let mut writer = Connect::new("writer").will(PRESENCE, "gone").open(address);
    writer.retain(STATUS, "lost");
    writer.assert_closed();
    // Its will too.
    broker.wait_for_refusals("not-stored", 2);
    // What is not, passes.
    operator.published(EVENT, "event");
    assert_eq!(watcher.take().text(), "event");
    // Who comes back to a session that is kept can ask for what it had, and read.
    host.vanish();
    let mut host = connect.resume(address);
    host.subscribe(ORDER);
    assert_eq!(host.take().text(), "order");
    let mut reader = Client::connect(address, "reader");
    reader.subscribe("herald/v1/home/desired/+/+");
    assert_eq!(reader.take().text(), "order");
    // New sessions that are to be kept are refused, and their wills with them.
    let refused = Connect {
        will: Some((EVENT.to_owned(), b"will".to_vec(), false)),
        ..Connect::persistent("new")
    };
    assert_eq!(refused.attempt(address).err(), Some(3));
    host.ask(&[(BEACON, 1)]);
    host.closed();
    broker.wait_for_refusals("not-stored", 4);
    operator.published(EVENT, "marker");
    assert_eq!(watcher.take().text(), "marker");
    assert!(broker.log().contains("make room"), "{}", broker.log());

    disk.clear();
    operator.retained(STATUS, "status");
    assert_eq!(watcher.take().text(), "status");
    let mut host = connect.resume(address);
    host.subscribe(STATUS);
    // The order may come again: that it was acknowledged could not be stored.
    host.take_until("status");
    host.disconnect();
    broker.kill();
    let broker = site.start();
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe_all(&[(ORDER, 1), (STATUS, 1), (PRESENCE, 1)]);
    assert_eq!(crate::client::texts(&[reader.take(), reader.take()]), ["order", "status"]);
    reader.assert_idle();
    broker.stop();
}
