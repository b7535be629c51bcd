//! Writes what the fuzz targets begin with, for libFuzzer: `DIR/TARGET/NUMBER`.

use std::{env, ffi::OsString, fs, io, path::Path};

use herald_tests::fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).unwrap_or_else(|| OsString::from("corpus"));
    for (target, _) in TARGETS {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        let seeds = seeds(target);
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
