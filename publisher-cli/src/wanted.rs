//! Which host should run what, as the operator wrote it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
};

use anyhow::{Context as _, bail};
use herald_proto::{host::HostId, store_path::StorePath};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The most bytes of a `--from` file: 100 for each of many hosts.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One `NAME=STORE_PATH`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    host: HostId,
    path: StorePath,
}

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (host, path) = text.split_once('=').context("expected NAME=STORE_PATH")?;
        Ok(Self { host: host.parse()?, path: store_path(path)? })
    }
}

/// Puts together what the options name.
///
/// # Errors
/// When a host is there twice, or the file can't be read.
pub(crate) fn collect(
    hosts: &[Wanted],
    from: Option<&Path>,
) -> anyhow::Result<BTreeMap<HostId, StorePath>> {
    let mut wanted = BTreeMap::new();
    let mut add = |host: HostId, path: StorePath| match wanted.insert(host.clone(), path) {
        Some(_) => bail!("the host {host} is given twice: give it one system"),
        None => Ok(()),
    };
    for one in hosts {
        add(one.host.clone(), one.path.clone())?;
    }
    if let Some(from) = from {
        let shown = from.display();
        for (host, path) in read(from).with_context(|| format!("cannot use {shown}"))?.0 {
            let path = store_path(&path).with_context(|| format!("{shown}: {host}"))?;
            add(host, path)?;
        }
    }
    Ok(wanted)
}

/// Reads a store path, or a link to one, such as what `nix-build` leaves.
///
/// # Errors
/// When it is neither.
pub(crate) fn store_path(text: &str) -> anyhow::Result<StorePath> {
    text.parse().or_else(|error| {
        let link = std::fs::canonicalize(text);
        let missing = link.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::NotFound);
        if missing && !text.is_empty() && !text.starts_with("/nix/store/") {
            if Path::new(text).is_symlink() {
                bail!("the link {text} leads to nothing that exists: build the system again");
            }
            bail!(
                "the link {text} does not exist, and that is no store path: build the system \
                 first, as by `nix build` or `nix-build`"
            );
        }
        let path = link.ok().and_then(|path| path.to_str()?.parse().ok());
        path.ok_or(error).map_err(anyhow::Error::from)
    })
}

fn read(from: &Path) -> anyhow::Result<Pairs> {
    let mut text = Vec::new();
    let file: Box<dyn Read> =
        if from == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(from)?) };
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The members of a JSON object, of which none is lost because its name is there twice.
struct Pairs(Vec<(HostId, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object {\"host\": \"store path\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";

    #[test]
    fn a_host_and_its_system_are_read() {
        let wanted: Wanted = format!("alpha={PATH}").parse().unwrap();
        assert_eq!((wanted.host.as_str(), wanted.path.as_str()), ("alpha", PATH));
        for bad in ["alpha", "alpha=", "alpha=/etc", "Alpha=/nix", "=/nix", &format!("={PATH}")] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_is_given_twice_is_refused() {
        let one: Wanted = format!("alpha={PATH}").parse().unwrap();
        let error = collect(&[one.clone(), one], None).unwrap_err();
        assert!(error.to_string().contains("alpha is given twice"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("hosts.json");
        std::fs::write(&from, format!("{{\"a\": \"{PATH}\", \"a\": \"{PATH}\"}}")).unwrap();
        let error = collect(&[], Some(&from)).unwrap_err();
        assert!(error.to_string().contains("a is given twice"), "{error}");
    }

    #[test]
    fn a_link_to_a_store_path_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let path = root.join("0123456789abcdfghijklmnpqrsvwxyz-a");
        std::fs::create_dir(&path).unwrap();
        let link = root.join("result");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(store_path(link.to_str().unwrap()).unwrap().as_path(), path);
        std::fs::remove_dir(&path).unwrap();
        let error = store_path(link.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("leads to nothing"), "{error}");
    }
}
