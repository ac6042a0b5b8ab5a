//! Tests of `jobs`.
