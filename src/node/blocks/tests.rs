//! Tests of `blocks`: the journal over a storage that fails, and the clerk's way of a block.
