//! The process that gives a new system an entry in the boot loader, and has it booted once.
//!
//! The old system stays the default all along: it is the old one's `boot` that is run. Like a
//! commit this outlives the subscriber, as a boot loader's installer must not be cut off.

use std::{io, path::Path};

use crate::{
    adapters::{
        activation::SWITCH_PROGRAM,
        command,
        record::{ArmedRecord, Outcome, RebootRecord, Records},
    },
    commit::{BOOT_LIMIT, SET_LIMIT, Which},
    durable,
    os::{Os, System},
};

/// The link to the program that watches over a system which was booted once; it stays, and is of no
/// meaning where nothing is armed.
const DEAD_MAN_LINK: &str = "dead-man";

/// Prepares, and writes down how that went.
///
/// # Errors
/// When the record can't be read or the result can't be written.
pub async fn run(os: System, args: Which) -> anyhow::Result<()> {
    let records = Records::on(os, &args.folder);
    let record = records.read(args.attempt)?;
    let problems = prepare(&records, &record).await.err().into_iter().collect();
    records.write_prepared(args.attempt, &Outcome { problems })?;
    Ok(())
}

async fn prepare(records: &Records, record: &ArmedRecord) -> Result<(), String> {
    let os = &**records.os();
    let RebootRecord { own_profile, loader, program, .. } =
        record.reboot.as_ref().ok_or("the armed record is not about a reboot")?;
    link_dead_man(records, program).map_err(|error| format!("linking the dead-man: {error}"))?;
    remove_profile(os, own_profile).map_err(|error| error.to_string())?;
    if let Some(folder) = own_profile.parent() {
        os.make_folder(folder).map_err(|error| error.to_string())?;
    }
    let mut set = command::program("nix-env");
    set.arg("--profile").arg(own_profile).arg("--set").arg(record.target.as_path());
    os.run(&mut set, SET_LIMIT).await.map_err(|error| error.to_string())?;
    let mut boot = command::program(record.previous.as_path().join(SWITCH_PROGRAM));
    boot.arg("boot").env("NIXOS_NO_CHECK", "1");
    os.run(&mut boot, BOOT_LIMIT).await.map_err(|error| error.to_string())?;
    loader.boot_once(os, own_profile, record.target.as_path()).await
}

/// Has a link name this program, for the unit of the new system that watches over its boot: the new
/// system's own subscriber may be what does not work.
fn link_dead_man(records: &Records, program: &Path) -> io::Result<()> {
    let link = records.folder().join(DEAD_MAN_LINK);
    let temporary = link.with_extension("new");
    let _ = records.os().remove(&temporary);
    records.os().symlink(program, &temporary)?;
    durable::rename(&**records.os(), &temporary, &link)
}

/// Removes a profile with its generations; boot loaders forget it when `boot` is run next.
///
/// # Errors
/// What the file system said.
pub fn remove_profile(os: &dyn Os, profile: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (profile.parent(), profile.file_name()) else {
        return Ok(());
    };
    let prefix = format!("{}-", name.to_string_lossy());
    let entries = match os.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for found in entries {
        let text = found.to_string_lossy();
        let number = text.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("-link"));
        if found == name || number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            os.remove(&folder.join(&found))?;
        }
    }
    Ok(())
}
