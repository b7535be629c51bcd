//! Finding and reading the fleet file, and the trust file that it names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use herald_client::BrokerUrl;
use herald_fleet::{
    editing::{BadText, Editing},
    fleet::Fleet,
    generations::Generations,
};
use herald_proto::{host::HostId, trust::Trust};

use crate::{
    access::{Access, AccessOptions},
    cli::Global,
    folders, signed_file,
};

const NAME: &str = "fleet.toml";

/// A fleet file that was read.
#[derive(Debug)]
pub(crate) struct FleetFile {
    pub(crate) path: PathBuf,
    pub(crate) fleet: Fleet,
    pub(crate) broker: BrokerUrl,
    /// What of its ways to the broker the command line replaces.
    given: AccessOptions,
    /// The trust files that it names, read too.
    pub(crate) generations: Option<Generations>,
}

impl FleetFile {
    /// Reads the fleet file that the operator means.
    pub(crate) fn load(global: &Global) -> anyhow::Result<Self> {
        let path = find(global)?;
        let shown = path.display();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the fleet file {shown}"))?;
        let wrong = || format!("the fleet file {shown} can't be used");
        let fleet = Fleet::from_toml(&text).with_context(wrong)?;
        let broker = fleet.broker().parse().with_context(wrong)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |setting: &str| format!("{setting} in the fleet file {shown}");
        let older = fleet.older_trusts().map(|trust| load_trust(&folder.join(trust)));
        let older = older.collect::<Result<Vec<_>, _>>();
        let older = older.with_context(|| named("older_trusts"))?;
        let generations = match fleet.trust() {
            Some(trust) => {
                let current = load_trust(&folder.join(trust)).with_context(|| named("trust"))?;
                Some(Generations::new(fleet.id(), current, older).with_context(wrong)?)
            }
            None if !older.is_empty() => {
                bail!("the fleet file {shown} has older_trusts and no trust: set trust too")
            }
            None => None,
        };
        for trust in generations.iter().flat_map(Generations::all) {
            fleet.check_apart(trust).with_context(wrong)?;
        }
        let given = global.access.clone();
        Ok(Self { generations, path, fleet, broker, given })
    }

    /// Changes the file's hosts and tokens, and reads it again. The text is that of the moment, whatever
    /// was read before; it is put in its place at once, and only if it is a fleet file still.
    pub(crate) fn edit(
        &mut self,
        change: impl FnOnce(&mut Editing) -> Result<(), BadText>,
    ) -> anyhow::Result<()> {
        let shown = self.path.display().to_string();
        let cannot = || format!("cannot change the fleet file {shown}");
        // What a link leads to is changed, not the link.
        let path = self.path.canonicalize().with_context(cannot)?;
        let text = std::fs::read_to_string(&path).with_context(cannot)?;
        let mut editing = Editing::of(&text).with_context(cannot)?;
        change(&mut editing).with_context(cannot)?;
        let text = editing.to_string();
        let fleet = Fleet::from_toml(&text).with_context(cannot)?;
        for trust in self.generations.iter().flat_map(Generations::all) {
            fleet.check_apart(trust).with_context(cannot)?;
        }
        let mode = std::fs::metadata(&path).with_context(cannot)?.permissions();
        signed_file::replace(&path, text.as_bytes()).with_context(|| {
            format!("cannot change the fleet file {shown}: see that this user may write its folder")
        })?;
        std::fs::set_permissions(&path, mode).with_context(cannot)?;
        self.fleet = fleet;
        Ok(())
    }

    /// Gives the trust as it is now, and before.
    pub(crate) fn require_trust(&self) -> anyhow::Result<&Generations> {
        let path = self.path.display();
        let none = || {
            format!(
                "{path} names no trust file, which says who must sign: set trust = \"trust.toml\""
            )
        };
        self.generations.as_ref().with_context(none)
    }

    /// Gives all that a connection to the broker needs; reads keys and passwords for it.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.given.access(&self.fleet, &self.broker, folder)
    }

    /// Checks that hosts are in the file.
    pub(crate) fn require<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a HostId>,
    ) -> anyhow::Result<()> {
        let unknown = hosts.into_iter().filter(|host| self.fleet.host(host).is_none());
        let unknown: Vec<_> = unknown.collect();
        let Some(first) = unknown.first() else { return Ok(()) };
        let names: Vec<_> = unknown.iter().map(|host| host.as_str()).collect();
        let (names, path) = (names.join(", "), self.path.display());
        let remedy = if let Some(similar) = self.similar(first) {
            format!("did you mean {similar}? `herald host list` shows all")
        } else if self.fleet.token(first).is_some() {
            format!(
                "{first} has a token: once it asks, let it in with `herald host enrol {first}`; if the \
                 token was lost, make another one with `herald host token {first}`"
            )
        } else {
            format!(
                "let it in with `herald host token {first}`, or add [hosts.{first}] with the key \
                 that `herald-subscriber public-key` prints there"
            )
        };
        bail!("the fleet file {path} has no host {names}: {remedy}");
    }

    /// Gives the host whose name is most like another, as by a slip of the keyboard.
    fn similar(&self, name: &HostId) -> Option<&HostId> {
        let distance = |host: &HostId| strsim::osa_distance(host.as_str(), name.as_str());
        // Of short names a half is the same by chance.
        let most = (name.as_str().len() / 3).min(2);
        let near = self.fleet.hosts().map(|host| (distance(host), host));
        let near = near.filter(|(distance, _)| *distance <= most);
        near.min_by_key(|(distance, _)| *distance).map(|(_, host)| host)
    }

    /// Checks that there is any host.
    pub(crate) fn require_hosts(&self) -> anyhow::Result<()> {
        if self.fleet.hosts().len() == 0 {
            bail!(
                "the fleet file {} has no hosts: let one in with `herald host token NAME`, or add \
                 [hosts.NAME] with the key that `herald-subscriber public-key` prints there",
                self.path.display()
            );
        }
        Ok(())
    }
}

/// Reads a trust file.
pub(crate) fn load_trust(path: &Path) -> anyhow::Result<Trust> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the trust file {shown}"))?;
    Trust::from_toml(&text).with_context(|| format!("the trust file {shown} can't be used"))
}

fn find(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(path) = &global.fleet_file {
        return Ok(path.clone());
    }
    let here = PathBuf::from(NAME);
    let there = folders::config().map(|folder| folder.join(NAME));
    let places = [Some(here), there].into_iter().flatten();
    let places: Vec<PathBuf> = places.collect();
    if let Some(found) = places.iter().find(|path| path.exists()) {
        return Ok(found.clone());
    }
    let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    bail!(
        "there is no fleet file at {}: write one, or name it with --fleet-file or HERALD_FLEET",
        places.join(" or ")
    );
}
