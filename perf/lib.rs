//! perf: under construction.
