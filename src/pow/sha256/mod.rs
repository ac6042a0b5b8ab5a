//! Double SHA-256 behind one facade. [`Kernel`] is a plain value: made once, passed down, copied.

use core::cmp::Ordering;
use core::fmt;

/// A double SHA-256 in header (internal) byte order: as a number, least significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash256(pub [u8; 32]);

impl Hash256 {
    /// The previous hash of the first block, the outpoint of a coinbase.
    pub const ZERO: Hash256 = Hash256([0; 32]);
}

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

/// How this processor hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel {
    name: &'static str,
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
            KernelError::Unknown => f.write_str("no hash kernel has this name"),
            KernelError::Lacking { name } => {
                write!(f, "this processor cannot run the hash kernel {name}")
            }
        }
    }
}

impl core::error::Error for KernelError {}

impl Kernel {
    /// The best that this processor can do.
    pub fn detect() -> Kernel {
        Kernel { name: "scalar" }
    }

    /// The kernel of this name, for tests and comparisons.
    pub fn named(name: &str) -> Result<Kernel, KernelError> {
        Kernel::available().find(|kernel| kernel.name == name).ok_or(KernelError::Unknown)
    }

    /// Its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every kernel that this processor can run.
    pub fn available() -> impl Iterator<Item = Kernel> {
        [Kernel { name: "scalar" }].into_iter()
    }

    /// Double SHA-256 of any bytes.
    pub fn sha256d(&self, bytes: &[u8]) -> Hash256 {
        use sha2::Digest;
        Hash256(sha2::Sha256::digest(sha2::Sha256::digest(bytes)).into())
    }

    /// Double SHA-256 of many merkle nodes; `out` has as many places as `nodes`.
    pub fn hash_nodes(&self, nodes: &[[u8; 64]], out: &mut [Hash256]) {
        assert_eq!(nodes.len(), out.len(), "one place per node");
        for (node, out) in nodes.iter().zip(out) {
            *out = self.sha256d(node);
        }
    }
}
