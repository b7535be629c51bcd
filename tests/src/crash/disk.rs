//! A disk on which only what was synced survives a power cut.
//!
//! In each folder, what was done and not synced survives in part: some first steps of it. Folders
//! are independent of each other. A file whose content was not synced may be whole, cut off or
//! empty. That is no worse than what file systems promise, and worse than most are.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::rng::Rng;

/// What lives in memory: gone at each boot, but not at a soft-reboot.
const MEMORY: &str = "/run";

/// The disk, and what is in memory like one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    folders: BTreeMap<PathBuf, Folder>,
    files: Vec<File>,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    now: Names,
    synced: Names,
    since: Vec<Change>,
}

type Names = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(usize),
    Link(PathBuf),
}

#[derive(Debug, Clone)]
enum Change {
    Make(String, Entry),
    Remove(String),
    Move(String, String),
}

#[derive(Debug, Clone)]
struct File {
    content: Vec<u8>,
    synced: bool,
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Make(name, entry) => drop(names.insert(name.clone(), entry.clone())),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
        }
    }
}

impl Disk {
    pub(crate) fn make_folder(&mut self, path: &str) {
        self.folders.entry(path.into()).or_default();
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.entry(path)? {
            Entry::File(file) => Ok(self.files[*file].content.clone()),
            Entry::Link(to) => self.read(&path.parent().unwrap_or(path).join(to)),
        }
    }

    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.entry(path)? {
            Entry::Link(to) => Ok(to.clone()),
            Entry::File(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Tells whether there is a file, or a link to one; whatever a link to the store names counts.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        match self.entry(path) {
            Ok(Entry::File(_)) => true,
            Ok(Entry::Link(to)) => self.exists(&path.parent().unwrap_or(path).join(to)),
            Err(_) => false,
        }
    }

    pub(crate) fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Ok(self.folder(folder)?.now.keys().cloned().collect())
    }

    /// Lists the folders in a folder.
    pub(crate) fn folders(&self, folder: &Path) -> Vec<String> {
        let below = self.folders.keys().filter(|path| path.parent() == Some(folder));
        below.filter_map(|path| name_of(path).ok()).collect()
    }

    /// Makes a file whose content is not synced.
    pub(crate) fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let number = self.files.len();
        self.change(path, |name| Change::Make(name, Entry::File(number)))?;
        self.files.push(File { content: content.to_vec(), synced: false });
        Ok(())
    }

    pub(crate) fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        if let Entry::File(file) = *self.entry(path)? {
            self.files[file].synced = true;
        }
        Ok(())
    }

    pub(crate) fn symlink(&mut self, to: &Path, link: &Path) -> io::Result<()> {
        if self.entry(link).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(link, |name| Change::Make(name, Entry::Link(to.to_owned())))
    }

    /// Renames within a folder.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.entry(from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let old = name_of(from)?;
        self.change(to, |name| Change::Move(old, name))
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.entry(path)?;
        self.change(path, Change::Remove)
    }

    pub(crate) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        let folder = self.folder_mut(folder)?;
        folder.synced.clone_from(&folder.now);
        folder.since.clear();
        Ok(())
    }

    /// Syncs all that is below a path.
    pub(crate) fn sync_below(&mut self, root: &Path) {
        for (path, folder) in &mut self.folders {
            if path.starts_with(root) {
                folder.synced.clone_from(&folder.now);
                folder.since.clear();
                for entry in folder.now.values() {
                    if let Entry::File(file) = entry {
                        self.files[*file].synced = true;
                    }
                }
            }
        }
    }

    /// Loses what was not synced.
    pub(crate) fn cut(&mut self, rng: &mut Rng) {
        // Often all or nothing: that is where most mistakes show.
        let style = rng.below(4);
        for folder in self.folders.values_mut() {
            let kept = match style {
                0 => 0,
                1 => folder.since.len(),
                _ => rng.below(folder.since.len() + 1),
            };
            let mut names = std::mem::take(&mut folder.synced);
            for change in &folder.since[..kept] {
                change.apply(&mut names);
            }
            *folder = Folder { now: names.clone(), synced: names, since: Vec::new() };
        }
        for file in self.files.iter_mut().filter(|file| !file.synced) {
            let kept = match style {
                0 => 0,
                1 => file.content.len(),
                _ => rng.choose(&[0, file.content.len() / 2, file.content.len()]),
            };
            file.content.truncate(kept);
            file.synced = true;
        }
        self.forget_memory();
    }

    /// Loses what is in memory.
    pub(crate) fn forget_memory(&mut self) {
        for (path, folder) in &mut self.folders {
            if path.starts_with(MEMORY) {
                *folder = Folder::default();
            }
        }
    }

    /// Gives what a link would say after a power cut in which the least survives.
    pub(crate) fn synced_link(&self, path: &Path) -> Option<PathBuf> {
        match self.folder(path.parent()?).ok()?.synced.get(path.file_name()?.to_str()?)? {
            Entry::Link(to) => Some(to.clone()),
            Entry::File(_) => None,
        }
    }

    /// Tells whether a file is there with this content, whatever happens.
    pub(crate) fn is_safe(&self, path: &Path, content: &[u8]) -> bool {
        let entry = path.parent().and_then(|folder| self.folder(folder).ok()).and_then(|folder| {
            let name = path.file_name()?.to_str()?;
            let untouched = folder.synced.get(name) == folder.now.get(name);
            folder.synced.get(name).filter(|_| untouched)
        });
        match entry {
            Some(Entry::File(file)) => {
                self.files[*file].synced && self.files[*file].content == content
            }
            _ => false,
        }
    }

    fn folder(&self, path: &Path) -> io::Result<&Folder> {
        self.folders.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn folder_mut(&mut self, path: &Path) -> io::Result<&mut Folder> {
        self.folders.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn entry(&self, path: &Path) -> io::Result<&Entry> {
        let folder = self.folder(path.parent().unwrap_or(path))?;
        folder.now.get(&name_of(path)?).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, path: &Path, make: impl FnOnce(String) -> Change) -> io::Result<()> {
        let name = name_of(path)?;
        let folder = self.folder_mut(path.parent().unwrap_or(path))?;
        let change = make(name);
        change.apply(&mut folder.now);
        folder.since.push(change);
        Ok(())
    }
}

fn name_of(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        let mut disk = Disk::default();
        disk.make_folder("/var");
        disk
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_lost() {
        let (a, b) = (Path::new("/var/a"), Path::new("/var/b"));
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = disk();
            disk.write(a, b"whole").unwrap();
            disk.sync_file(a).unwrap();
            disk.sync_folder(Path::new("/var")).unwrap();
            disk.write(b, b"whole").unwrap();
            disk.cut(&mut Rng::new(seed));
            assert_eq!(disk.read(a).unwrap(), b"whole");
            match disk.read(b) {
                Err(_) => lost += 1,
                Ok(content) if content == b"whole" => kept += 1,
                Ok(_) => torn += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 20, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_rename_that_was_not_synced_leaves_the_old_or_the_new_file() {
        let (file, new) = (Path::new("/var/file"), Path::new("/var/new"));
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut disk = disk();
            for (path, content) in [(file, b"old"), (new, b"new")] {
                disk.write(path, content).unwrap();
                disk.sync_file(path).unwrap();
            }
            disk.sync_folder(Path::new("/var")).unwrap();
            disk.rename(new, file).unwrap();
            disk.cut(&mut Rng::new(seed));
            found.insert(disk.read(file).unwrap());
        }
        assert_eq!(found, [b"new".to_vec(), b"old".to_vec()].into());
    }
}
