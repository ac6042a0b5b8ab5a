//! Which family of firmware a miner says it is, and where families contradict each other.
//!
//! A name is a claim: it may choose between two harmless answers, and never decides who is trusted,
//! limited or credited. What all firmware takes is answered alike to all and is not here. The
//! session asks it at subscribe, the shard counts by it, the farm holds its coinbase against it.

/// A family of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Stock Antminer (bmminer).
    Antminer,
    /// Stock Antminer S21, which takes longer coinbases than those before it.
    AntminerS21,
    /// Bfgminer.
    Bfgminer,
    /// ESP-Miner: bitaxe.
    Bitaxe,
    /// Braiins OS (bosminer).
    Braiins,
    /// Cgminer, and with it every Avalon.
    Cgminer,
    /// Cpuminer (minerd).
    Cpuminer,
    /// ePIC's boards.
    Epic,
    /// Microcontrollers that mine for fun: NerdMiner and its relatives.
    Lottery,
    /// LuxOS.
    LuxOs,
    /// The probe with which MiningRigRentals tests a pool. Its rigs come with names of their own.
    MiningRigRentals,
    /// NerdAxe, NerdQAxe and their relatives.
    NerdAxe,
    /// NerdNOS: the code of NerdMiner in front of an ASIC.
    NerdNos,
    /// NiceHash, which sells hash rate of every kind of machine.
    NiceHash,
    /// Any name that is not known, and no name.
    Unknown,
    /// Vnish.
    Vnish,
    /// Stock Whatsminer (btminer).
    Whatsminer,
}

/// The longest coinbase that a class hashes as a whole, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaseLimit {
    /// The whole transaction without its witness.
    pub bytes: usize,
    /// Either half of it, where the firmware keeps them apart.
    pub half_bytes: Option<usize>,
}

impl Class {
    /// Every class, in the order of the enum.
    pub const ALL: [Class; 17] = [
        Class::Antminer,
        Class::AntminerS21,
        Class::Bfgminer,
        Class::Bitaxe,
        Class::Braiins,
        Class::Cgminer,
        Class::Cpuminer,
        Class::Epic,
        Class::Lottery,
        Class::LuxOs,
        Class::MiningRigRentals,
        Class::NerdAxe,
        Class::NerdNos,
        Class::NiceHash,
        Class::Unknown,
        Class::Vnish,
        Class::Whatsminer,
    ];

    /// The class of what a miner calls itself at subscribe. The first name that fits decides.
    pub fn of(user_agent: Option<&str>) -> Class {
        let agent = user_agent.unwrap_or_default();
        let first = agent.bytes().next().unwrap_or_default().to_ascii_lowercase();
        let found = names(first).iter().find(|(name, _)| begins(agent.as_bytes(), name));
        match found {
            Some((_, Class::Antminer)) if agent.contains(LUXMINER) => Class::LuxOs,
            found => found.map_or(Class::Unknown, |(_, class)| *class),
        }
    }

    /// A short name for logs and metrics, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Antminer => "antminer",
            Class::AntminerS21 => "antminer_s21",
            Class::Bfgminer => "bfgminer",
            Class::Bitaxe => "bitaxe",
            Class::Braiins => "braiins",
            Class::Cgminer => "cgminer",
            Class::Cpuminer => "cpuminer",
            Class::Epic => "epic",
            Class::Lottery => "lottery",
            Class::LuxOs => "luxos",
            Class::MiningRigRentals => "miningrigrentals",
            Class::NerdAxe => "nerdaxe",
            Class::NerdNos => "nerdnos",
            Class::NiceHash => "nicehash",
            Class::Unknown => "unknown",
            Class::Vnish => "vnish",
            Class::Whatsminer => "whatsminer",
        }
    }

    /// The fewest bytes of extranonce2 with which the class works: NiceHash refuses a pool that
    /// gives less, Whatsminer sends the same share twice, cgminer drops the connection.
    pub const fn extranonce2_size_min(self) -> u8 {
        match self {
            Class::NiceHash => 4,
            Class::Whatsminer => 3,
            _ => 2,
        }
    }

    /// Whether it waits for a difficulty before it authorizes. Others take any line between the
    /// answer to subscribe and the one to their next request for a fault.
    pub(crate) const fn awaits_difficulty(self) -> bool {
        matches!(self, Class::MiningRigRentals)
    }

    /// Where a miner of the class starts, at about 12 shares a minute, if that is known better than
    /// for all the others.
    pub fn start_difficulty(self) -> Option<f64> {
        match self {
            // 50 to 350 kH/s, and a few MH/s per core.
            Class::Lottery => Some(1.0 / 4_096.0),
            Class::Cpuminer => Some(1.0 / 128.0),
            // 0.5 to 1.2 TH/s, and a few of them together.
            Class::Bitaxe | Class::NerdNos => Some(1_024.0),
            Class::NerdAxe => Some(2_048.0),
            Class::NiceHash | Class::MiningRigRentals => self.difficulty_floor(),
            _ => None,
        }
    }

    /// Below it the class refuses the pool, or is so fast that it would flood it.
    pub fn difficulty_floor(self) -> Option<f64> {
        match self {
            // It asks for 500,000, which is no power of two.
            Class::NiceHash => Some(524_288.0),
            Class::MiningRigRentals => Some(1_048_576.0),
            Class::Cpuminer | Class::Lottery | Class::Unknown => None,
            // An ASIC; some of their firmware reads a fraction as zero.
            _ => Some(1.0),
        }
    }

    /// Whether any number is a difficulty for it: firmware of ASICs cuts down what is no power of
    /// two, and what is slow enough to need fractions reads them.
    pub fn takes_fractions(self) -> bool {
        matches!(self, Class::Cpuminer | Class::Lottery)
    }

    /// Whether its page shows shares that were in flight at a change of difficulty as rejected, so
    /// that changes must be few.
    pub fn counts_shares_in_flight(self) -> bool {
        matches!(self, Class::Antminer | Class::AntminerS21 | Class::Cgminer)
    }

    /// The longest coinbase that the class is known to hash right. What nobody has measured counts
    /// as a stock Antminer, which more sizes suit than any other.
    pub const fn coinbase_limit(self) -> CoinbaseLimit {
        let (bytes, half_bytes) = match self {
            Class::Lottery | Class::NerdNos => (255, None),
            Class::NiceHash => (500, None),
            Class::AntminerS21 | Class::Braiins => (2_250, None),
            // The newest ESP-Miner cuts each half, without a word.
            Class::Bitaxe => (6_500, Some(384)),
            Class::Whatsminer => (6_500, None),
            Class::Epic | Class::Vnish => (16_000, None),
            Class::Antminer
            | Class::Bfgminer
            | Class::Cgminer
            | Class::Cpuminer
            | Class::LuxOs
            | Class::MiningRigRentals
            | Class::NerdAxe
            | Class::Unknown => (730, None),
        };
        CoinbaseLimit { bytes, half_bytes }
    }
}

impl CoinbaseLimit {
    /// Whether a coinbase of these halves, with `extranonce` bytes between them, is within it.
    pub const fn takes(self, first: usize, extranonce: usize, second: usize) -> bool {
        let half = if first > second { first } else { second };
        let half_fits = match self.half_bytes {
            Some(limit) => half <= limit,
            None => true,
        };
        half_fits && first + extranonce + second <= self.bytes
    }
}

/// LuxOS names the machine first, which is an Antminer, and itself behind it.
const LUXMINER: &str = "|LUXminer";

/// The names that begin with this letter, in the order in which they are looked for: what a longer
/// name begins with stands behind it. By letter, because this runs for every miner that connects.
const fn names(first: u8) -> &'static [(&'static str, Class)] {
    match first {
        b'a' => &[
            // With the slash: of the S21 Pro and others nobody knows.
            ("Antminer S21/", Class::AntminerS21),
            ("Antminer", Class::Antminer),
        ],
        b'b' => &[
            ("bosminer", Class::Braiins),
            ("Braiins", Class::Braiins),
            ("bmminer", Class::Antminer),
            ("btminer", Class::Whatsminer),
            ("bitaxe", Class::Bitaxe),
            ("bfgminer", Class::Bfgminer),
        ],
        b'c' => &[("cgminer", Class::Cgminer), ("cpuminer", Class::Cpuminer)],
        b'e' => &[("excavator", Class::NiceHash)],
        b'h' => &[("HAN_SOLOminer", Class::Lottery)],
        b'l' => &[("LUXminer", Class::LuxOs)],
        b'm' => &[("MiningRigRentals", Class::MiningRigRentals)],
        b'n' => &[
            ("NiceHash", Class::NiceHash),
            ("NerdNOS", Class::NerdNos),
            ("NerdMiner", Class::Lottery),
            ("NMMiner", Class::Lottery),
            ("Nerd", Class::NerdAxe),
        ],
        b'p' => &[("PowerPlay-BM", Class::Epic)],
        b'v' => &[("vnish", Class::Vnish)],
        b'w' => &[("whatsminer", Class::Whatsminer)],
        b'x' => &[("xminer-1.", Class::Vnish)],
        _ => &[],
    }
}

fn begins(text: &[u8], start: &str) -> bool {
    text.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stand_in_the_order_of_their_counters() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            let same = |other: &Class| other.name() == class.name();
            assert_eq!(Class::ALL.iter().position(same), Some(index), "{class:?}");
        }
    }

    #[test]
    fn every_name_can_be_reached() {
        for letter in 0..=u8::MAX {
            for (name, class) in names(letter) {
                assert_eq!(name.as_bytes()[0].to_ascii_lowercase(), letter, "{name}");
                assert_eq!(Class::of(Some(name)), *class, "{name}");
                assert_eq!(Class::of(Some(&name.to_uppercase())), *class, "{name}");
            }
        }
        let named: Vec<_> = (0..=u8::MAX).flat_map(names).map(|(_, class)| *class).collect();
        let unnamed = Class::ALL.into_iter().filter(|class| !named.contains(class));
        assert_eq!(unnamed.collect::<Vec<_>>(), [Class::Unknown]);
    }

    #[test]
    fn a_limit_counts_the_whole_and_each_half() {
        let limit = CoinbaseLimit { bytes: 500, half_bytes: Some(300) };
        assert!(limit.takes(192, 8, 300));
        assert!(!limit.takes(193, 8, 300), "one byte too many in all");
        assert!(!limit.takes(100, 8, 301), "one byte too many in a half");
        assert!(!limit.takes(301, 8, 100));
    }
}
