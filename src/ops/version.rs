//! Which build this is.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or "unknown" outside git.
pub const COMMIT: &str = env!("HEADFRAME_COMMIT");
/// The compiler's version.
pub const RUSTC: &str = env!("HEADFRAME_RUSTC");
/// What `--version` prints after the name.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HEADFRAME_COMMIT"), ")");
