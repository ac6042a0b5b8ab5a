//! What the configured sizes allow: how a coinbase's script is shared out, how many miners can be
//! told apart, how many can connect. `check` prints it; nothing here is measured.

use std::fmt::Write;

use crate::config::Config;
use crate::config::payout::{
    EXTRANONCE1_BYTES, HEIGHT_PUSH_BYTES_MAX, SCRIPT_SIG_BYTES_MAX, TIP_BYTES,
};

/// Bits of a header that a miner rolls beside its extranonce2: the nonce, and the version.
const HEADER_BITS: u32 = 32 + 16;

/// The table, a line each. `connections` is how many miners may connect.
pub(crate) fn table(config: &Config, connections: usize) -> Vec<String> {
    let rolled = usize::from(config.extranonce2_size());
    let signature = config.payout.signature.len();
    let all = HEIGHT_PUSH_BYTES_MAX + TIP_BYTES + EXTRANONCE1_BYTES + rolled + signature;
    let granted = EXTRANONCE1_BYTES + rolled;
    let mut row = String::new();
    // A string takes everything.
    let _ = write!(
        row,
        "  {:<10} {granted:>7} {EXTRANONCE1_BYTES:>11} {rolled:>11} {:>10}",
        "own blocks",
        prefixes(),
    );
    vec![
        format!(
            "coinbase script: height {HEIGHT_PUSH_BYTES_MAX} + tip {TIP_BYTES} + extranonce1 \
             {EXTRANONCE1_BYTES} + extranonce2 {rolled} + signature {signature} = {all} of \
             {SCRIPT_SIG_BYTES_MAX} bytes"
        ),
        "extranonce:  granted extranonce1 extranonce2     miners".to_owned(),
        row,
        format!("capacity: {connections} miners at once; {}", pace(rolled)),
    ]
}

/// Miners that one group can tell apart; the first prefix is nobody's.
fn prefixes() -> u64 {
    256_u64.pow(EXTRANONCE1_BYTES as u32) - 1
}

/// How fast one miner may be before it repeats itself within one second of `ntime`.
fn pace(rolled: usize) -> String {
    /// Beyond any machine that will be built: no bound worth a word.
    const BITS_MAX: u32 = 72;
    let bits = HEADER_BITS + 8 * rolled as u32;
    match bits {
        BITS_MAX.. => "each may be as fast as it likes".to_owned(),
        bits => format!("each up to {:.0} PH/s", 2_f64.powi(bits as i32) / 1e15),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(text: &str) -> Vec<String> {
        let read = Config::parse(Path::new("farm.toml"), text).expect("a good file");
        table(&read.0, 20_000)
    }

    #[test]
    fn the_script_is_added_up_and_the_miners_are_counted() {
        let lines = of("[listen]\nextranonce2_size = 8\n[node]\nsimulated = true\n\
                        [payout]\nsignature = \"/farm-7/\"\n");
        assert_eq!(
            lines,
            [
                "coinbase script: height 5 + tip 2 + extranonce1 4 + extranonce2 8 + signature 8 \
                 = 27 of 100 bytes",
                "extranonce:  granted extranonce1 extranonce2     miners",
                "  own blocks      12           4           8 4294967295",
                "capacity: 20000 miners at once; each may be as fast as it likes",
            ]
        );
    }

    #[test]
    fn a_small_extranonce_bounds_a_machine() {
        let lines = of("[listen]\nextranonce2_size = 2\n[node]\nsimulated = true\n");
        assert!(lines[3].ends_with("each up to 18447 PH/s"), "{lines:?}");
    }
}
