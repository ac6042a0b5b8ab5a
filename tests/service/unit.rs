//! The unit of the package, judged by systemd's own tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{HEADFRAME, Home};

/// The exposure that is allowed, in tenths: what is left is inherent to a network service that
/// pins its threads.
const EXPOSURE_TENTHS_MAX: &str = "15";

/// The unit of the package.
fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/headframe.service")
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).arg(unit).env("SYSTEMD_COLORS", "0").output();
    output.expect("systemd-analyze is needed: `apt-get install systemd`, as tests/run does")
}

#[test]
fn little_is_exposed() {
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    let output = analyze(&["security", "--offline=true", "--no-pager", &threshold], &unit());
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().rev().find(|line| line.contains("exposure level")).unwrap_or("");
    println!("{last}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!last.is_empty(), "{said}");
}

/// With this program in place of the installed one, which is not there.
#[test]
fn every_line_is_understood() {
    let home = Home::new();
    let text = fs::read_to_string(unit()).expect("it is in the tree");
    let copy = home.path("headframe.service");
    fs::write(&copy, text.replace("/usr/bin/headframe", HEADFRAME)).expect("written");
    let output = analyze(&["verify", "--man=no", "--recursive-errors=no"], &copy);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("headframe.service"), "{said}");
}

/// The numbers that the program takes for granted.
#[test]
fn what_the_program_counts_on_is_there() {
    let text = fs::read_to_string(unit()).expect("it is in the tree");
    let lines = [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=10s",
        "WatchdogSignal=SIGABRT",
        "Restart=always",
        "RestartPreventExitStatus=64 69 78",
        "FileDescriptorStoreMax=64",
        "StateDirectory=headframe",
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}
