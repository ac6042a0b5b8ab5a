//! Tells the program which commit and compiler it was built from. No network, no build time; a
//! tree outside git says "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=HEADFRAME_COMMIT={}", commit());
    println!("cargo:rustc-env=HEADFRAME_RUSTC={}", compiler());
    // Also when HEAD does not move: a commit on the same branch changes the branch's own file.
    let git = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git");
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        let path = git.join(name);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn commit() -> String {
    let asked = ["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short=12", "HEAD"];
    output(Command::new("git").args(asked)).unwrap_or_else(|| "unknown".to_owned())
}

fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output(Command::new(rustc).arg("--version"));
    let word = version.and_then(|text| text.split(' ').nth(1).map(str::to_owned));
    word.unwrap_or_else(|| "unknown".to_owned())
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
