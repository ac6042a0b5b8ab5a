//! Double SHA-256 behind one facade.
//!
//! [`Kernel`] is a plain value: `engine` makes it once, everybody else gets it passed down. It
//! holds a `plan`, a table that says which of the `kernels` hashes a batch of how many. `dispatch`
//! cuts batches up accordingly. `cpu` says what the processor can run; `words` is what all share.
//!
//! Not here: what is hashed. Kernels read a `Work` as `share` prepared it.

mod cpu;
mod dispatch;
pub(crate) mod kernels;
mod plan;
pub(crate) mod words;

use core::cmp::Ordering;
use core::fmt;

use cpu::Features;
use plan::{PLANS, Plan};

/// A double SHA-256 in header (internal) byte order: as a number, least significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash256(pub [u8; 32]);

impl Hash256 {
    /// The previous hash of the first block, the outpoint of a coinbase.
    pub const ZERO: Hash256 = Hash256([0; 32]);
}

/// Ordered as a number.
impl Ord for Hash256 {
    fn cmp(&self, other: &Hash256) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Hash256 {
    fn partial_cmp(&self, other: &Hash256) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Hex as people read it: most significant byte first.
impl fmt::Display for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash256({self})")
    }
}

/// How this processor hashes. It exists only for what the processor can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Invariant: `Features::detected()` has all that the plan needs. The kernels' safety
    /// rests on it.
    plan: &'static Plan,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.plan.name)
    }
}

/// A kernel that cannot be had by this name. The operator's fault, or the host's lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelError {
    /// No kernel has this name.
    Unknown,
    /// The processor or its operating system lacks what the kernel needs.
    Lacking {
        /// The kernel's name.
        name: &'static str,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::Unknown => {
                f.write_str("no hash kernel has this name; there are:")?;
                PLANS.iter().try_for_each(|plan| write!(f, " {}", plan.name))
            }
            KernelError::Lacking { name } => {
                write!(f, "this processor cannot run the hash kernel {name}; it can run:")?;
                Kernel::available().try_for_each(|kernel| write!(f, " {}", kernel.name()))
            }
        }
    }
}

impl core::error::Error for KernelError {}

impl Kernel {
    /// The best that this processor can do, by the measured tables.
    pub fn detect() -> Kernel {
        Kernel::available().next().expect("ring runs everywhere")
    }

    /// The kernel of this name, for tests and comparisons.
    pub fn named(name: &str) -> Result<Kernel, KernelError> {
        let plan = PLANS.iter().find(|plan| plan.name == name).ok_or(KernelError::Unknown)?;
        match Features::detected().has(plan.needs) {
            true => Ok(Kernel { plan }),
            false => Err(KernelError::Lacking { name: plan.name }),
        }
    }

    /// Its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        self.plan.name
    }

    /// Every kernel that this processor can run, the one of [`Kernel::detect`] first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        let features = Features::detected();
        PLANS.iter().filter(move |plan| features.has(plan.needs)).map(|plan| Kernel { plan })
    }

    /// **Not SHA-256**: a cheap mix, for instruction counts of everything around the hashing.
    #[cfg(feature = "stub-hash")]
    pub fn stub() -> Kernel {
        Kernel { plan: &plan::STUB }
    }
}
