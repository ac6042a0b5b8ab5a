//! uring: under construction.
