//! ops: under construction.
