//! Tells the boot loader of the machine that it runs on what to boot, through the subscriber's own
//! adapter: `detect`, `once PROFILE TOPLEVEL` or `default`. `tests/power/run --loaders` runs it in
//! machines with real boot loaders.

use std::{path::Path, process::ExitCode};

use herald_subscriber::{adapters::boot_loader::BootLoader, os::Linux};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let loader = BootLoader::detect(&Linux);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match arguments[..] {
        ["detect"] => {
            println!("{loader:?}");
            Ok(())
        }
        ["once", profile, toplevel] => {
            loader.boot_once(&Linux, Path::new(profile), Path::new(toplevel)).await
        }
        ["default"] => loader.boot_the_default(&Linux).await,
        _ => Err("detect, once PROFILE TOPLEVEL, or default".to_owned()),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boot_once: {error}");
            ExitCode::FAILURE
        }
    }
}
