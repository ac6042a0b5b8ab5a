//! Templates that cannot be.
