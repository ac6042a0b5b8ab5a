//! No share allocates: ten thousand of them through the whole data plane, counted by the allocator.
//!
//! What grows by design is grown before the count: the miners' duplicate tables by two tips of as
//! many shares (a table that has served a tip is used again), the pools by their reserve.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use session::ShareOutcome;

use crate::world::{World, job_id, submit};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator with the same arguments, and the counter is
// a constant-initialised thread-local without a destructor, so that touching it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s promises, and they are the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the place came from `System`, because every allocation here goes there.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the place came from `System`, because every allocation here goes there.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MINERS: u32 = 100;
const SHARES_PER_MINER: u32 = 100;

#[test]
fn ten_thousand_shares_allocate_nothing() {
    let mut world = World::new(MINERS as usize);
    world.new_tip();
    world.settle();
    let miners: Vec<_> = (0..MINERS).map(|number| world.miner(number)).collect();
    for tip in 0..3 {
        if tip > 0 {
            world.new_tip();
        }
        world.settle();
        let ids: Vec<String> = miners
            .iter()
            .map(|miner| {
                let text = world.ring.read(*miner);
                job_id(&text).expect("every miner has the job").to_owned()
            })
            .collect();
        // `read` took the buffers of the wire; the memory of the test is not the shard's.
        world.ring.wire.iter_mut().for_each(|wire| wire.reserve(64 * 1024));
        let shares: Vec<Vec<String>> = (0..SHARES_PER_MINER)
            .map(|nonce| ids.iter().map(|id| submit(nonce + 9, id, nonce)).collect())
            .collect();
        let before = ALLOCATIONS.get();
        for round in &shares {
            for (miner, share) in miners.iter().zip(round) {
                world.ring.deliver(*miner, share.as_bytes());
            }
            // Two turns: the shares and their replies, then the sends' completions.
            world.turn();
            world.turn();
        }
        let allocations = ALLOCATIONS.get() - before;
        println!("tip {tip}: {allocations} allocations for {} shares", MINERS * SHARES_PER_MINER);
        if tip == 2 {
            assert_eq!(allocations, 0, "a share in steady state allocates nothing");
        } else {
            assert!(allocations > 0 || tip > 0, "the count sees the tables grow");
        }
    }
    let accepted = world.counters.shares[ShareOutcome::Accepted as usize].value();
    assert_eq!(accepted, u64::from(3 * MINERS * SHARES_PER_MINER), "they were real shares");
    let replies: usize =
        miners.iter().map(|miner| world.ring.read(*miner).matches("\"result\":true").count()).sum();
    assert_eq!(replies as u32, MINERS * SHARES_PER_MINER);
}
