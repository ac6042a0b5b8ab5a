//! Tests of `blocks`.
