//! Tests of `coordinator`.
