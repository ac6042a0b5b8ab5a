//! The fence around every call into a session: a panic there costs one connection, not the shard.
//! The shard cannot catch unwinding itself (it has no std), so its host passes the fence in.

/// A guarded call has panicked; what it was working on is not to be touched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs a call and turns its panic into a value. `engine` and `sim` implement it with
/// `catch_unwind`.
pub trait Guard {
    /// The call's result, or [`Panicked`] when it unwound.
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked>;
}

/// No fence: a panic unwinds through the shard. For tests and instruction counts, where a panic
/// must be seen at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGuard;

impl Guard for NoGuard {
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked> {
        Ok(call())
    }
}
