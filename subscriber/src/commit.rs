//! The process that makes a system the profile's and the boot's.
//!
//! It outlives the subscriber, which may be stopped at any time: a boot loader's installer that is
//! cut off in the middle leaves neither the old nor the new system.

use std::{path::PathBuf, time::Duration};

use crate::{
    adapters::{
        activation::SWITCH_PROGRAM,
        command,
        record::{Outcome, Records},
        switch_folder::{FOREIGN_SWITCH_LIMIT, SwitchFolder},
        systems::store_path_at,
    },
    durable,
    os::System,
    prepare_reboot::remove_profile,
};

/// How long setting a profile may take.
pub(crate) const SET_LIMIT: Duration = Duration::from_secs(60);
/// How long the boot loader's installer may take: writing to a slow disk takes minutes.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Which attempt to do something for.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The profile's state folder.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// The attempt's number.
    #[arg(long)]
    pub(crate) attempt: u64,
}

/// Commits, and writes down how that went.
///
/// # Errors
/// When the record can't be read or the result can't be written.
pub async fn run(os: System, args: Which) -> anyhow::Result<()> {
    let records = Records::on(os.clone(), &args.folder);
    let record = records.read(args.attempt)?;
    let mut set = command::program("nix-env");
    set.arg("--profile").arg(&record.profile).arg("--set").arg(record.target.as_path());
    let mut boot = command::program(record.target.as_path().join(SWITCH_PROGRAM));
    boot.arg("boot");
    // Where it is not free in time, `boot` says so.
    SwitchFolder::beside(&record.current).wait_until_free(&*os, FOREIGN_SWITCH_LIMIT).await;
    let committed = async {
        // What was proved is the new system, running. What only boots next proves nothing.
        let proved = record.activates || record.reboot.is_some();
        if let Some(system) = store_path_at(&*os, &record.current)
            && proved
            && system != record.target
            && system != record.previous
        {
            return Err(format!("{system} was activated meanwhile; nothing was touched"));
        }
        if record.profile_is_anothers(&os) {
            return Err(format!("somebody set {} meanwhile", record.profile.display()));
        }
        // Before `boot`, so that the menu of the boot loader forgets the entry with the profile.
        if let Some(reboot) = &record.reboot {
            remove_profile(&*os, &reboot.own_profile)
                .map_err(|error| format!("removing {}: {error}", reboot.own_profile.display()))?;
        }
        os.run(&mut set, SET_LIMIT).await.map_err(|error| error.to_string())?;
        // Nix does not: after a power cut the profile could name the old system, and the boot
        // loader the new one.
        durable::sync_parent(&*os, &record.profile)
            .map_err(|error| format!("making {} durable: {error}", record.profile.display()))?;
        os.run(&mut boot, BOOT_LIMIT).await.map_err(|error| error.to_string())
    };
    let problems = committed.await.err().into_iter().collect();
    records.write_committed(args.attempt, &Outcome { problems })?;
    Ok(())
}
