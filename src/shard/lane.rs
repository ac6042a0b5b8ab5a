//! The shard's two directions to the coordinator. `engine` implements it with bounded queues
//! between threads, `sim` with queues that have a delay. No call blocks.

use alloc::boxed::Box;

use farm::messages::{FoundBlock, FromShard, ToShard};

/// A pair of bounded queues to and from the coordinator.
pub trait Lane {
    /// The next message from the coordinator.
    fn receive(&mut self) -> Option<ToShard>;

    /// Sends a message, or gives it back when the lane has no room outside its reserved slots.
    fn send(&mut self, message: FromShard) -> Result<(), FromShard>;

    /// Sends a block, which may use the reserved slots too. The shard holds a block that comes
    /// back and offers it again: no policy may drop one.
    fn send_block(&mut self, block: Box<FoundBlock>) -> Result<(), Box<FoundBlock>>;

    /// Whether every block that was sent is where the end of this process cannot lose it.
    fn blocks_are_saved(&self) -> bool;
}
