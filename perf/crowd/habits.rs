//! What clients do, and how they come back after their connection has ended.

/// What the clients of one crowd do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Mine: subscribe, authorize, a share when one is due; every hash is a share.
    Miners,
    /// The same, with a difficulty that no share of theirs has: each is read, hashed and refused.
    Low,
    /// Send a subscribe byte by byte and never come to its end.
    Drip,
    /// Connect and say nothing.
    Silent,
    /// Send what is no protocol, again and again.
    Garbage,
    /// Connect and reset at once, again and again.
    Connects,
}

impl Habit {
    const ALL: [(Habit, &str); 6] = [
        (Habit::Miners, "miners"),
        (Habit::Low, "low"),
        (Habit::Drip, "drip"),
        (Habit::Silent, "silent"),
        (Habit::Garbage, "garbage"),
        (Habit::Connects, "connects"),
    ];

    /// The habit of this name.
    pub(crate) fn of(name: &str) -> Option<Habit> {
        Habit::ALL.iter().find(|(_, known)| *known == name).map(|(habit, _)| *habit)
    }

    /// Whether it ever wants work.
    pub(crate) fn mines(self) -> bool {
        matches!(self, Habit::Miners | Habit::Low)
    }

    /// What it gives as its password.
    pub(crate) fn password(self) -> &'static str {
        match self {
            Habit::Low => "d=1000000",
            _ => "x",
        }
    }
}

/// How a client comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackOff {
    /// All at once, which is worse than any firmware.
    AtOnce,
    /// As firmware does, by the client's number: half as cgminer and the makers' own miners derived
    /// from it, a quarter as ESP-Miner, a quarter as Braiins'.
    Firmware,
}

const MILLISECOND_NS: u64 = 1_000_000;
/// Where nobody listens and the habit knows no pause: the generator must not only retry.
const RETRY_NS: u64 = 100 * MILLISECOND_NS;
/// cgminer's `restart_stratum` loop.
const CGMINER_RETRY_NS: u64 = 5_000 * MILLISECOND_NS;
/// ESP-Miner closes, waits for a second, and tries again; after a failure it waits for five.
const ESP_FIRST_NS: u64 = 1_000 * MILLISECOND_NS;
const ESP_RETRY_NS: u64 = 5_000 * MILLISECOND_NS;
/// Braiins' waits are the Fibonacci numbers times this, to a limit.
const BRAIINS_UNIT_NS: u64 = 100 * MILLISECOND_NS;
const BRAIINS_MAX_NS: u64 = 5_000 * MILLISECOND_NS;

impl BackOff {
    /// How long a client waits after an end, when so many connects in a row have failed.
    pub(crate) fn wait_ns(self, number: u32, failures: u32) -> u64 {
        match (self, number % 4) {
            (BackOff::AtOnce, _) => u64::from(failures > 0) * RETRY_NS,
            (BackOff::Firmware, 0 | 1) => u64::from(failures > 0) * CGMINER_RETRY_NS,
            (BackOff::Firmware, 2) if failures == 0 => ESP_FIRST_NS,
            (BackOff::Firmware, 2) => ESP_RETRY_NS,
            (BackOff::Firmware, _) => (fibonacci(failures) * BRAIINS_UNIT_NS).min(BRAIINS_MAX_NS),
        }
    }
}

/// 1, 1, 2, 3, 5 …, no further than is ever waited for.
fn fibonacci(index: u32) -> u64 {
    let step = |(former, latter), _| (latter, former + latter);
    (0..index.min(20)).fold((1, 1), step).0
}
