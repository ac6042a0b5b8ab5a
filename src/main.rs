//! headframe: the Stratum V1/V2 front of a Bitcoin mining farm.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
