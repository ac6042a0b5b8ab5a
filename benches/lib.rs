//! benches: under construction.
