//! The node that needs nothing installed: a chain of its own.

mod parameters;

pub use parameters::{
    BLOCK_SECONDS_MAX, BLOCK_SECONDS_MIN, DIFFICULTY_MAX, DIFFICULTY_MIN, ParameterError,
    Parameters, START_HEIGHT_MAX, Spacing, TEMPLATE_SECONDS_MAX, TRANSACTIONS_MAX,
    bits_of_difficulty,
};
