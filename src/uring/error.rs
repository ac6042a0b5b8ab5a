//! Why a ring cannot be had, whose fault it is, and what to do about it. Made by `probe.rs` and
//! `ring.rs`; `headframe check` and `run` print it as it is.

use std::fmt;

use rustix::io::Errno;

use crate::Feature;

/// The host cannot give a ring. Every text names the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UringError {
    /// The kernel has no io_uring, or a sandbox answers as if it had none (ENOSYS).
    Absent,
    /// io_uring is switched off for this process: by sysctl or by a seccomp filter (EPERM).
    Forbidden,
    /// The kernel is too old: these features are missing.
    Missing(Vec<Feature>),
    /// No memory for the ring, or the locked-memory limit is too small (ENOMEM).
    Memory,
    /// The limit on open files is reached (EMFILE, ENFILE).
    Files,
    /// A setting of ours that no kernel accepts.
    Misuse(&'static str),
    /// Any other refusal of the kernel.
    Os {
        /// What was tried.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

impl UringError {
    /// What a failed system call of the set-up means.
    pub(crate) fn from_os(what: &'static str, error: &std::io::Error) -> UringError {
        UringError::from_errno(what, error.raw_os_error().unwrap_or(0))
    }

    pub(crate) fn from_errno(what: &'static str, errno: i32) -> UringError {
        match Errno::from_raw_os_error(errno) {
            Errno::NOSYS => UringError::Absent,
            Errno::PERM | Errno::ACCESS => UringError::Forbidden,
            Errno::NOMEM => UringError::Memory,
            Errno::MFILE | Errno::NFILE => UringError::Files,
            _ => UringError::Os { what, errno },
        }
    }
}

impl fmt::Display for UringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UringError::Absent => f.write_str(
                "this kernel offers no io_uring (ENOSYS): run Linux 6.1 or later, and in a \
                 container allow the system calls io_uring_setup, io_uring_enter and \
                 io_uring_register",
            ),
            UringError::Forbidden => f.write_str(
                "io_uring is forbidden here (EPERM): set `sysctl kernel.io_uring_disabled=0`, or \
                 in a container use a seccomp profile that allows io_uring",
            ),
            UringError::Missing(features) => {
                f.write_str("the kernel lacks what the shards need of io_uring: ")?;
                for (at, feature) in features.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{feature}")?;
                }
                f.write_str("; run Linux 6.1 or later")
            }
            UringError::Memory => f.write_str(
                "no memory for an io_uring ring (ENOMEM): raise the locked-memory limit \
                 (LimitMEMLOCK=, ulimit -l) or the memory limit of the service",
            ),
            UringError::Files => f.write_str(
                "no file descriptor left for an io_uring ring: raise the open-files limit \
                 (LimitNOFILE=, ulimit -n)",
            ),
            UringError::Misuse(what) => write!(f, "a ring cannot be made like this: {what}"),
            UringError::Os { what, errno } => {
                let text = std::io::Error::from_raw_os_error(*errno);
                write!(f, "{what} failed: {text}")
            }
        }
    }
}

impl std::error::Error for UringError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_its_remedy() {
        let told = |errno: Errno| UringError::from_errno("x", errno.raw_os_error()).to_string();
        assert!(told(Errno::NOSYS).contains("Linux 6.1"));
        assert!(told(Errno::PERM).contains("kernel.io_uring_disabled=0"));
        assert!(told(Errno::NOMEM).contains("LimitMEMLOCK"));
        assert!(told(Errno::MFILE).contains("LimitNOFILE"));
        let missing = UringError::Missing(vec![Feature::DeferTaskrun, Feature::MultishotReceive]);
        assert!(missing.to_string().contains("IORING_SETUP_DEFER_TASKRUN, multishot receive"));
    }
}
