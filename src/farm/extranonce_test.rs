//! Tests of `extranonce`.
