//! What a boot loader can do: boot a system once, and the default again after that.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::command;
use crate::os::Os;

/// How long telling the boot loader may take.
const TELL_LIMIT: Duration = Duration::from_secs(60);
/// Where systemd-boot says who it is: text in UTF-16, after four bytes of attributes.
const LOADER_INFO: &str =
    "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const GRUB_FOLDER: &str = "/boot/grub";
/// Where NixOS mounts the partition of systemd-boot, if it is told nothing else.
const ESP: &str = "/boot";
/// GRUB's environment block has this size, always, and begins like this.
const GRUB_BLOCK: usize = 1024;
const GRUB_HEAD: &str = "# GRUB Environment Block\n";
/// File systems that GRUB does not write to, and the beginnings of devices on which it does not.
const UNWRITABLE: [&str; 4] = ["btrfs", "zfs", "xfs", "f2fs"];
const UNWRITABLE_DEVICES: [&str; 2] = ["/dev/md", "/dev/mapper/"];

/// A boot loader that can boot a system once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum BootLoader {
    /// systemd-boot, through the EFI variable that `bootctl set-oneshot` sets.
    SystemdBoot,
    /// GRUB, through `next_entry` in its environment block.
    Grub {
        /// The folder with `grubenv`.
        #[serde(default = "grub_folder")]
        folder: PathBuf,
    },
    /// Another one, through a program: called with `set` and the toplevel, or with `clear`.
    Command {
        /// The program and its first arguments.
        program: Vec<String>,
    },
    /// One that can't.
    None,
}

impl BootLoader {
    /// Finds out which one booted this machine.
    pub fn detect(os: &dyn Os) -> Self {
        let info = os.read(Path::new(LOADER_INFO)).unwrap_or_default();
        let grub = Path::new(GRUB_FOLDER);
        if says_systemd_boot(&info) {
            return Self::SystemdBoot;
        }
        let mounts = os.read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let mounts = String::from_utf8_lossy(&mounts);
        if os.exists(&grub.join("grub.cfg")) && grub_can_write(grub, &mounts) {
            return Self::Grub { folder: grub.to_owned() };
        }
        Self::None
    }

    /// Tells whether it can boot a system once.
    pub fn has_one_shot(&self) -> bool {
        *self != Self::None
    }

    /// Gives a folder in the file system that holds its kernels, where that is known.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::SystemdBoot => Some(Path::new(ESP)),
            Self::Grub { folder } => Some(folder),
            Self::Command { .. } | Self::None => None,
        }
    }

    /// Has the next boot, and only that one, take the latest generation of a profile.
    ///
    /// # Errors
    /// What went wrong; the next boot takes the default then, or what was asked for.
    pub async fn boot_once(
        &self,
        os: &dyn Os,
        profile: &Path,
        toplevel: &Path,
    ) -> Result<(), String> {
        let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match self {
            Self::SystemdBoot => {
                let generation =
                    generation(os, profile).ok_or("the profile has no generation with a number")?;
                bootctl(os, &format!("nixos-{name}-generation-{generation}.conf")).await
            }
            // Its entries are in a menu of their own, the newest first.
            Self::Grub { folder } => {
                set_next_entry(os, folder, Some(&format!("NixOS - Profile '{name}'>0")))
                    .map_err(|error| format!("cannot write grubenv: {error}"))
            }
            Self::Command { program } => {
                let toplevel = toplevel.to_str().unwrap_or_default();
                run(os, program, &["set", toplevel]).await
            }
            Self::None => Err("this boot loader can't boot a system once".into()),
        }
    }

    /// Has the next boot take the default.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn boot_the_default(&self, os: &dyn Os) -> Result<(), String> {
        match self {
            Self::SystemdBoot => bootctl(os, "").await,
            Self::Grub { folder } => set_next_entry(os, folder, None)
                .map_err(|error| format!("cannot write grubenv: {error}")),
            Self::Command { program } => run(os, program, &["clear"]).await,
            Self::None => Ok(()),
        }
    }
}

async fn bootctl(os: &dyn Os, entry: &str) -> Result<(), String> {
    run(os, &["bootctl".to_owned()], &["set-oneshot", entry]).await
}

async fn run(os: &dyn Os, program: &[String], args: &[&str]) -> Result<(), String> {
    let (first, rest) = program.split_first().ok_or("no program is named")?;
    let mut command = command::program(first);
    let told = os.run(command.args(rest).args(args), TELL_LIMIT).await;
    told.map(drop).map_err(|error| error.to_string())
}

/// Gives the number of the generation that a profile points to: `herald-7-link`.
fn generation(os: &dyn Os, profile: &Path) -> Option<u64> {
    let link = os.read_link(profile).ok()?;
    link.file_name()?.to_str()?.strip_suffix("-link")?.rsplit_once('-')?.1.parse().ok()
}

fn says_systemd_boot(info: &[u8]) -> bool {
    let text: Vec<u16> = info
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&text).starts_with("systemd-boot")
}

/// Tells whether GRUB can forget an entry after it took it: it writes to blocks, without knowing
/// of RAID, LVM, or file systems that copy on write. If it can't, "once" would be "always".
fn grub_can_write(folder: &Path, mounts: &str) -> bool {
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let point = Path::new(place.split(' ').nth(4)?);
            let mut kind = kind.split(' ');
            folder.starts_with(point).then_some((point, kind.next()?, kind.next()?))
        })
        .max_by_key(|(point, ..)| point.components().count());
    mount.is_some_and(|(_, kind, device)| {
        !UNWRITABLE.contains(&kind)
            && !UNWRITABLE_DEVICES.iter().any(|prefix| device.starts_with(prefix))
    })
}

/// Sets or removes `next_entry`, and keeps the other variables. The block is written in place: GRUB
/// knows it by its blocks.
fn set_next_entry(os: &dyn Os, folder: &Path, entry: Option<&str>) -> io::Result<()> {
    let path = folder.join("grubenv");
    let before = match os.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && entry.is_none() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => String::from_utf8(text?).map_err(io::Error::other)?,
    };
    let others = before.lines().filter(|line| {
        !line.starts_with('#') && !line.starts_with("next_entry=") && line.contains('=')
    });
    let mut block = GRUB_HEAD.to_owned();
    for line in others {
        block.push_str(line);
        block.push('\n');
    }
    if let Some(entry) = entry {
        block.push_str(&format!("next_entry={entry}\n"));
    }
    if block.len() > GRUB_BLOCK {
        return Err(io::Error::other("there is no room left in it"));
    }
    block.push_str(&"#".repeat(GRUB_BLOCK - block.len()));
    os.overwrite(&path, block.as_bytes())
}

fn grub_folder() -> PathBuf {
    GRUB_FOLDER.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::Linux;

    #[tokio::test]
    async fn grub_is_told_in_its_environment_block_and_other_variables_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grubenv");
        let grub = BootLoader::Grub { folder: folder.path().to_owned() };
        grub.boot_the_default(&Linux).await.unwrap();
        assert!(!path.exists(), "nothing was asked for, so nothing is made");
        let block = format!("{GRUB_HEAD}saved_entry=2\n");
        fs::write(&path, format!("{block}{}", "#".repeat(GRUB_BLOCK - block.len()))).unwrap();
        let profile = Path::new("/nix/var/nix/profiles/system-profiles/herald");
        for _ in 0..2 {
            grub.boot_once(&Linux, profile, Path::new("/t")).await.unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.len(), GRUB_BLOCK);
            let expected =
                format!("{GRUB_HEAD}saved_entry=2\nnext_entry=NixOS - Profile 'herald'>0\n#");
            assert!(text.starts_with(&expected), "{text}");
        }
        grub.boot_the_default(&Linux).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().matches("entry").count(), 1);
    }

    #[tokio::test]
    async fn a_command_is_told_what_to_boot_and_its_failure_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script = format!("echo $0 $* >{}", file.display());
        let program = ["sh", "-c", &script].map(str::to_owned).to_vec();
        let loader = BootLoader::Command { program };
        loader.boot_once(&Linux, Path::new("/p"), Path::new("/toplevel")).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "set /toplevel\n");
        loader.boot_the_default(&Linux).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "clear\n");
        let program = ["false"].map(str::to_owned).to_vec();
        assert!(BootLoader::Command { program }.boot_the_default(&Linux).await.is_err());
        assert!(
            BootLoader::None.boot_once(&Linux, Path::new("/p"), Path::new("/t")).await.is_err()
        );
    }

    #[test]
    fn grub_is_trusted_to_forget_only_where_it_can_write() {
        let mount = |kind: &str, device: &str| {
            format!(
                "1 0 8:1 / / rw - btrfs /dev/sdb rw\n2 1 8:1 / /boot rw,noatime shared:1 - {kind} \
                 {device} rw\n"
            )
        };
        let cases = [
            ("ext4", "/dev/sda1", true),
            ("vfat", "/dev/nvme0n1p1", true),
            ("btrfs", "/dev/sda1", false),
            ("zfs", "pool/boot", false),
            ("ext4", "/dev/md0", false),
            ("ext4", "/dev/mapper/vg-boot", false),
        ];
        for (kind, device, expected) in cases {
            let can = grub_can_write(Path::new("/boot/grub"), &mount(kind, device));
            assert_eq!(can, expected, "{kind} on {device}");
        }
        assert!(!grub_can_write(Path::new("/boot/grub"), ""));
    }

    #[test]
    fn a_generation_and_systemd_boot_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let profile = folder.path().join("herald");
        std::os::unix::fs::symlink("herald-12-link", &profile).unwrap();
        assert_eq!(generation(&Linux, &profile), Some(12));
        let info: Vec<u8> = [6, 0, 0, 0]
            .into_iter()
            .chain("systemd-boot 257\0".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert!(says_systemd_boot(&info));
        assert!(!says_systemd_boot(b"") && !says_systemd_boot(b"\x06\0\0\0g\0r\0u\0b\0"));
    }
}
