//! A disk in a test's hands: the real daemon's writes to its journal and its history hang or find
//! no room for as long as the test wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Daemon, HEADFRAME, Home};

/// A library for LD_PRELOAD, and the file that tells it what the disk does.
pub(crate) struct Disk {
    library: PathBuf,
    mood: PathBuf,
}

impl Disk {
    pub(crate) fn new(home: &Home) -> Disk {
        let (source, library) = (home.path("disk.c"), home.path("disk.so"));
        fs::write(&source, include_str!("disk.c")).expect("written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        assert!(compiler.status().expect("tests/run installs a C compiler").success());
        let disk = Disk { library, mood: home.path("disk") };
        disk.turn("works");
        disk
    }

    /// A daemon that writes to this disk.
    pub(crate) fn start(&self, file: &Path) -> Daemon {
        let mut command = Command::new(HEADFRAME);
        command.arg("run").arg("--config").arg(file).stderr(Stdio::piped());
        command.env("LD_PRELOAD", &self.library).env("HEADFRAME_TEST_DISK", &self.mood);
        Daemon::of(command.spawn().expect("it runs"))
    }

    /// What it does from now on: `works`, `hangs`, or is `full`. Moved into its place, so that the
    /// disk never reads half a word.
    pub(crate) fn turn(&self, mood: &str) {
        let new = self.mood.with_extension("new");
        fs::write(&new, mood).expect("written");
        fs::rename(&new, &self.mood).expect("moved");
    }
}
