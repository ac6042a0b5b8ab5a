//! The inputs that all contenders of a bench get: one job and its shares, one set of lines.
//!
//! The sizes are those of a usual day: a path of 12 nodes (a block of some 4,000 transactions), a
//! coinbase of 167 bytes, submit lines of about 120 to 180 bytes. Nothing is measured here.
#![forbid(unsafe_code)]

use pow::{Extranonce, Hash256, Share, Work, WorkParts};

/// Bytes of extranonce1, which the server fixes.
pub const EXTRANONCE1: [u8; 4] = [0, 0, 0x2a, 0x01];

/// A job's parts.
pub struct Job {
    /// The coinbase before the extranonce.
    pub coinbase_first: Vec<u8>,
    /// The coinbase after the extranonce.
    pub coinbase_second: Vec<u8>,
    /// From the coinbase up to the root.
    pub merkle_path: Vec<Hash256>,
    /// The tip.
    pub prev_hash: Hash256,
    /// The header's version.
    pub version: u32,
    /// The header's compact target: mainnet's of 2026.
    pub bits: u32,
    /// The header's time in seconds.
    pub ntime: u32,
}

impl Job {
    /// The job that all contenders get.
    pub fn usual() -> Job {
        // Version and the only input up to the extranonce, in a script of 38 bytes.
        let mut coinbase_first = vec![0x02, 0, 0, 0, 0x01];
        coinbase_first.extend_from_slice(&[0; 32]);
        coinbase_first.extend_from_slice(&[0xff; 4]);
        coinbase_first.extend_from_slice(b"\x26\x03\x40\x7c\x0e/far");
        // The script's end, the sequence, two outputs, the lock time: a transaction that parses.
        let mut coinbase_second = b"m-7, the usual day/...".to_vec();
        coinbase_second.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 2]);
        coinbase_second.extend_from_slice(&312_500_000_u64.to_le_bytes());
        coinbase_second.extend_from_slice(&[22, 0x00, 0x14]);
        coinbase_second.extend_from_slice(&[0x33; 20]);
        coinbase_second.extend_from_slice(&0_u64.to_le_bytes());
        coinbase_second.extend_from_slice(&[38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
        coinbase_second.extend_from_slice(&[0x44; 32]);
        coinbase_second.extend_from_slice(&917_055_u32.to_le_bytes());
        assert_eq!(coinbase_first.len() + 8 + coinbase_second.len(), 167);
        Job {
            coinbase_first,
            coinbase_second,
            merkle_path: (1..=12).map(|node| Hash256([node; 32])).collect(),
            prev_hash: Hash256([0x5a; 32]),
            version: 0x2000_0000,
            bits: 0x1702_3c7e,
            ntime: 0x66f1_a2b3,
        }
    }

    /// The same, prepared by `pow`.
    pub fn work(&self) -> Work {
        let parts = WorkParts {
            coinbase_first: &self.coinbase_first,
            coinbase_second: &self.coinbase_second,
            extranonce_size: EXTRANONCE1.len() + 4,
            merkle_path: &self.merkle_path,
            prev_hash: self.prev_hash,
            bits: self.bits,
        };
        Work::new(parts).expect("a usual job makes work")
    }

    /// A share of it, another for each number.
    pub fn share(&self, number: u32) -> Share {
        let extranonce2 = number.to_be_bytes();
        Share {
            extranonce: Extranonce::joined(&EXTRANONCE1, &extranonce2).expect("eight bytes fit"),
            version: self.version | (number & 0x7ff) << 13,
            ntime: self.ntime,
            nonce: number.wrapping_mul(0x9e37_79b9),
        }
    }
}

/// Submit lines of several firmwares, of many workers: no two alike.
pub fn submit_lines(count: u32) -> Vec<String> {
    let line = |number: u32| {
        let worker = match number % 3 {
            0 => format!("farm.rig{number}"),
            1 => format!("bc1qexampleaddressexampleaddressexample0.worker{number:02}"),
            _ => format!("account.hall-{}.rack{}", number % 7, number * 31),
        };
        let nonce = number.wrapping_mul(0x9e37_79b9);
        let (ntime, bits) = (0x66f1_a2b3 + number, (number & 0x7ff) << 13);
        let fields = [
            format!("{:x}.{:x}", 0x1f + number / 16, number % 60),
            format!("{number:08x}"),
            format!("{ntime:08x}"),
            format!("{nonce:08x}"),
            format!("{bits:08x}"),
        ];
        if number.is_multiple_of(2) {
            let params = fields.join("\", \"");
            let params = format!(r#"["{worker}", "{params}"]"#);
            format!(r#"{{"params": {params}, "id": {number}, "method": "mining.submit"}}"#)
        } else {
            let params = fields.join("\",\"");
            format!(
                r#"{{"id":{number},"method":"mining.submit","params":["{worker}","{params}"]}}"#
            )
        }
    };
    (0..count).map(line).collect()
}
