//! What can be chosen about a simulated chain, and the limits of each choice.
//!
//! The file's `[node.simulation]` maps onto this; the file itself is not read here.

use std::fmt;

/// The easiest difficulty: regtest's own proof-of-work limit, bits 207fffff.
pub const DIFFICULTY_MIN: f64 = 4.656_542_373_906_924e-10;
/// The hardest: far beyond the main network, and compact bits still carry three exact bytes.
pub const DIFFICULTY_MAX: f64 = 1e18;
/// Own blocks faster than this would push the median time past ahead of the clock within hours.
pub const BLOCK_SECONDS_MIN: f64 = 0.1;
/// A month between two blocks: longer is "never", which is 0.
pub const BLOCK_SECONDS_MAX: f64 = 2_592_000.0;
/// So many of our transactions stay below 4,000,000 weight units with room for any coinbase.
pub const TRANSACTIONS_MAX: u32 = 8_000;
/// The history is really built and checked, block by block; this is beyond the last height at
/// which BIP34's push changes its form.
pub const START_HEIGHT_MAX: u32 = 40_000;
/// How often a growing mempool may make a new template; an hour is a stale one already.
pub const TEMPLATE_SECONDS_MAX: f64 = 3_600.0;
/// Longer than this a node is not slow but gone.
pub const ANSWER_SECONDS_MAX: f64 = 60.0;

/// What a simulated chain is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Network difficulty of the next block, as miners mean it (1 = bits 1d00ffff).
    pub difficulty: f64,
    /// Mean seconds between blocks that somebody else finds; 0: nobody else does.
    pub block_seconds: f64,
    /// How the other miners' blocks are spaced.
    pub spacing: Spacing,
    /// Transactions in a template, once coins have matured.
    pub transactions: u32,
    /// Probability, 0 to 1, that an own block arrives as a reorganisation.
    pub reorgs: f64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Height of the tip at start; below 101 no coin is mature, so templates start empty.
    pub start_height: u32,
    /// Seconds after which a mempool that has grown makes a new template on the same tip.
    pub template_seconds: f64,
    /// Seconds that the node takes to answer for a submitted block.
    pub answer_seconds: f64,
}

/// How the times between own blocks are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Always `block_seconds`.
    Fixed,
    /// Exponential with that mean, as mining is.
    Poisson,
}

/// A parameter outside its limits: the configuration's fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParameterError {
    /// The difficulty is not a number between [`DIFFICULTY_MIN`] and [`DIFFICULTY_MAX`].
    Difficulty(f64),
    /// Neither 0 nor between [`BLOCK_SECONDS_MIN`] and [`BLOCK_SECONDS_MAX`].
    BlockSeconds(f64),
    /// More than [`TRANSACTIONS_MAX`].
    Transactions(u32),
    /// Not a probability.
    Reorgs(f64),
    /// More than [`START_HEIGHT_MAX`].
    StartHeight(u32),
    /// Not above 0, or more than [`TEMPLATE_SECONDS_MAX`].
    TemplateSeconds(f64),
    /// Negative, or more than [`ANSWER_SECONDS_MAX`].
    AnswerSeconds(f64),
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            difficulty: 1.0,
            block_seconds: 30.0,
            spacing: Spacing::Poisson,
            transactions: 4_000,
            reorgs: 0.0,
            seed: 1,
            start_height: 200,
            template_seconds: 30.0,
            answer_seconds: 0.0,
        }
    }
}

impl Parameters {
    /// Checks every limit.
    ///
    /// # Errors
    /// Names the first parameter that is outside its limits.
    pub fn validate(&self) -> Result<(), ParameterError> {
        bits_of_difficulty(self.difficulty)?;
        let spaced = (BLOCK_SECONDS_MIN..=BLOCK_SECONDS_MAX).contains(&self.block_seconds);
        if self.block_seconds != 0.0 && !spaced {
            return Err(ParameterError::BlockSeconds(self.block_seconds));
        }
        if self.transactions > TRANSACTIONS_MAX {
            return Err(ParameterError::Transactions(self.transactions));
        }
        if !(0.0..=1.0).contains(&self.reorgs) {
            return Err(ParameterError::Reorgs(self.reorgs));
        }
        if self.start_height > START_HEIGHT_MAX {
            return Err(ParameterError::StartHeight(self.start_height));
        }
        if !(self.template_seconds > 0.0 && self.template_seconds <= TEMPLATE_SECONDS_MAX) {
            return Err(ParameterError::TemplateSeconds(self.template_seconds));
        }
        if !(0.0..=ANSWER_SECONDS_MAX).contains(&self.answer_seconds) {
            return Err(ParameterError::AnswerSeconds(self.answer_seconds));
        }
        Ok(())
    }
}

/// The compact bits of a difficulty: 65535 · 2^208 / difficulty, rounded down to three bytes, so
/// that the chain is never easier than was asked.
///
/// # Errors
/// The difficulty is outside its limits.
pub fn bits_of_difficulty(difficulty: f64) -> Result<u32, ParameterError> {
    if !(DIFFICULTY_MIN..=DIFFICULTY_MAX).contains(&difficulty) {
        return Err(ParameterError::Difficulty(difficulty));
    }
    // target = mantissa · 256^(size - 3); at difficulty 1 the mantissa is 00ffff and the size 1d.
    let mut mantissa = 65_535.0 / difficulty;
    let mut size = 0x1d_u32;
    while mantissa >= f64::from(0x80_0000) {
        mantissa /= 256.0;
        size += 1;
    }
    while mantissa < f64::from(0x8000) {
        mantissa *= 256.0;
        size -= 1;
    }
    Ok(size << 24 | mantissa as u32)
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterError::Difficulty(value) => {
                write!(
                    f,
                    "difficulty {value} is not within {DIFFICULTY_MIN:e} to {DIFFICULTY_MAX:e}"
                )
            }
            ParameterError::BlockSeconds(value) => write!(
                f,
                "block_seconds {value} is neither 0 nor within {BLOCK_SECONDS_MIN} to \
                 {BLOCK_SECONDS_MAX}"
            ),
            ParameterError::Transactions(value) => {
                write!(f, "transactions {value} is more than {TRANSACTIONS_MAX}")
            }
            ParameterError::Reorgs(value) => write!(f, "reorgs {value} is not within 0 to 1"),
            ParameterError::StartHeight(value) => {
                write!(f, "start_height {value} is more than {START_HEIGHT_MAX}")
            }
            ParameterError::TemplateSeconds(value) => {
                write!(f, "template_seconds {value} is not within 0 to {TEMPLATE_SECONDS_MAX}")
            }
            ParameterError::AnswerSeconds(value) => {
                write!(f, "answer_seconds {value} is not within 0 to {ANSWER_SECONDS_MAX}")
            }
        }
    }
}

impl std::error::Error for ParameterError {}
