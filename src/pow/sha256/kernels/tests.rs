//! Every kernel that the processor can run, against plain hashing by the sha2 crate.
//!
//! Where SHA-NI is missing, `tests/run` runs these again under an emulator that has it, with
//! `HEADFRAME_EMULATED=1`: then its absence is a failure. So no kernel is skipped in silence.

use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::share::EXTRANONCE_SIZE_MAX;
use crate::{Extranonce, Hash256, Kernel, KernelError, Share, Target, Work, WorkParts};

/// More than the widest kernel twice over, so that batches are cut, paired and padded.
const BATCH_MAX: usize = 40;

fn sha256d(bytes: &[u8]) -> Hash256 {
    Hash256(Sha256::digest(Sha256::digest(bytes)).into())
}

/// A job in plain bytes, and how its shares are hashed without any preparation.
#[derive(Clone, Debug)]
struct Plain {
    first: Vec<u8>,
    second: Vec<u8>,
    extranonce_size: usize,
    path: Vec<Hash256>,
    prev_hash: Hash256,
    bits: u32,
}

impl Plain {
    fn work(&self) -> Work {
        Work::new(WorkParts {
            coinbase_first: &self.first,
            coinbase_second: &self.second,
            extranonce_size: self.extranonce_size,
            merkle_path: &self.path,
            prev_hash: self.prev_hash,
            bits: self.bits,
        })
        .expect("within the limits")
    }

    fn share(&self, seed: u32) -> Share {
        let bytes: Vec<u8> =
            (0..self.extranonce_size).map(|at| (seed as u8).wrapping_mul(31) ^ at as u8).collect();
        Share {
            extranonce: Extranonce::new(&bytes).expect("within the limit"),
            version: 0x2000_0000 ^ seed.wrapping_mul(0x9e37_79b9),
            ntime: seed.wrapping_add(0x6000_0000),
            nonce: seed.wrapping_mul(0x0123_4567) ^ 0x89ab_cdef,
        }
    }

    fn hash(&self, share: &Share) -> Hash256 {
        let txid = sha256d(&[&self.first, share.extranonce.as_slice(), &self.second].concat());
        let root = self.path.iter().fold(txid, |left, right| sha256d(&[left.0, right.0].concat()));
        let mut header = share.version.to_le_bytes().to_vec();
        header.extend_from_slice(&self.prev_hash.0);
        header.extend_from_slice(&root.0);
        header.extend_from_slice(&share.ntime.to_le_bytes());
        header.extend_from_slice(&self.bits.to_le_bytes());
        header.extend_from_slice(&share.nonce.to_le_bytes());
        sha256d(&header)
    }
}

fn hash() -> impl Strategy<Value = Hash256> {
    any::<[u8; 32]>().prop_map(Hash256)
}

fn plain() -> impl Strategy<Value = Plain> {
    let halves = (vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..300));
    let sizes = (1..=EXTRANONCE_SIZE_MAX, vec(hash(), 0..4));
    (halves, sizes, hash(), any::<u32>()).prop_map(
        |((first, second), (extranonce_size, path), prev_hash, bits)| Plain {
            first,
            second,
            extranonce_size,
            path,
            prev_hash,
            bits,
        },
    )
}

fn check_shares(jobs: &[Plain], picks: &[usize]) {
    let works: Vec<Work> = jobs.iter().map(Plain::work).collect();
    let mut shares = Vec::new();
    let mut expected = Vec::new();
    for (seed, pick) in picks.iter().enumerate() {
        let job = pick % jobs.len();
        let share = jobs[job].share(seed as u32);
        shares.push((&works[job], share));
        expected.push(jobs[job].hash(&share));
    }
    for kernel in Kernel::available() {
        let mut out = vec![Hash256::ZERO; shares.len()];
        kernel.hash_shares(&shares, &mut out);
        assert_eq!(out, expected, "{kernel:?}");
        let (work, share) = &shares[0];
        assert_eq!(kernel.hash_share(work, share), expected[0], "{kernel:?}");
        assert_eq!(work.header(kernel, share).hash(kernel), expected[0], "{kernel:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn kernels_hash_bytes_as_sha2_does(bytes in vec(any::<u8>(), 0..400)) {
        for kernel in Kernel::available() {
            prop_assert_eq!(kernel.sha256d(&bytes), sha256d(&bytes), "{:?}", kernel);
        }
    }

    #[test]
    fn kernels_hash_nodes_as_sha2_does(seeds in vec(any::<[u8; 32]>(), 1..=BATCH_MAX)) {
        let nodes: Vec<[u8; 64]> = seeds.iter().map(|seed| {
            let mut node = [0x5a; 64];
            node[..32].copy_from_slice(seed);
            node[33..].copy_from_slice(&seed[..31]);
            node
        }).collect();
        let expected: Vec<Hash256> = nodes.iter().map(|node| sha256d(node)).collect();
        for kernel in Kernel::available() {
            let mut out = vec![Hash256::ZERO; nodes.len()];
            kernel.hash_nodes(&nodes, &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", kernel);
        }
    }

    #[test]
    fn kernels_hash_shares_of_mixed_jobs(
        jobs in vec(plain(), 1..4),
        picks in vec(any::<usize>(), 1..=BATCH_MAX),
    ) {
        check_shares(&jobs, &picks);
    }

    /// Different jobs of one shape share lanes: each must keep its own midstate and path.
    #[test]
    fn kernels_hash_jobs_of_one_shape_side_by_side(
        job in plain(),
        flips in vec(any::<u8>(), 1..6),
        picks in vec(any::<usize>(), 1..=BATCH_MAX),
    ) {
        let jobs: Vec<Plain> = flips.iter().map(|flip| {
            let mut other = job.clone();
            other.first.iter_mut().chain(other.second.iter_mut()).for_each(|byte| *byte ^= flip);
            other.path.iter_mut().for_each(|hash| hash.0[0] ^= flip);
            other.prev_hash.0[31] ^= flip;
            other.bits ^= u32::from(*flip);
            other
        }).collect();
        check_shares(&jobs, &picks);
    }
}

#[test]
fn kernels_hash_every_number_at_hand() {
    let job = Plain {
        first: vec![1; 80],
        second: vec![2; 79],
        extranonce_size: 8,
        path: vec![Hash256([3; 32]), Hash256([4; 32])],
        prev_hash: Hash256([5; 32]),
        bits: 0x1703_4219,
    };
    for count in 1..=BATCH_MAX {
        check_shares(std::slice::from_ref(&job), &vec![0; count]);
    }
    // Beyond one window of the dispatcher.
    check_shares(&[job], &[0; 131]);
}

#[test]
fn kernels_splice_the_extranonce_over_block_boundaries() {
    for extranonce_size in [1, 4, 8, 12, 16, 32] {
        for first_bytes in 30..=130 {
            let job = Plain {
                first: vec![7; first_bytes],
                second: vec![9; 100 - extranonce_size],
                extranonce_size,
                path: vec![Hash256([3; 32])],
                prev_hash: Hash256([5; 32]),
                bits: 0x1d00_ffff,
            };
            check_shares(&[job], &[0, 0, 0]);
        }
    }
}

#[test]
fn kernels_scan_nonces_as_sha2_does() {
    let header: [u8; 80] = std::array::from_fn(|at| at as u8 * 3);
    // One hash in four meets it.
    let target = Target::from_le_bytes(
        [[0xff; 31].as_slice(), &[0x3f]].concat().try_into().expect("32 bytes"),
    );
    for (start, count) in [(0, 0), (0, 1), (5, 2), (7, 64), (9, 77), (u32::MAX - 130, 130)] {
        let nonces = start..start + count;
        let mut expected = Vec::new();
        for nonce in nonces.clone() {
            let mut bytes = header;
            bytes[76..].copy_from_slice(&nonce.to_le_bytes());
            if target.is_met_by(&sha256d(&bytes)) {
                expected.push((nonce, sha256d(&bytes)));
            }
        }
        for kernel in Kernel::available() {
            let mut found = Vec::new();
            kernel.scan_header(&header, nonces.clone(), &target, &mut |nonce, hash| {
                found.push((nonce, hash));
            });
            assert_eq!(found, expected, "{kernel:?} from {start}");
        }
    }
}

#[test]
fn kernels_hash_nothing() {
    for kernel in Kernel::available() {
        kernel.hash_shares(&[], &mut []);
        kernel.hash_nodes(&[], &mut []);
    }
}

#[test]
fn kernel_names_find_what_is_available() {
    let mut names = Vec::new();
    for kernel in Kernel::available() {
        assert_eq!(Kernel::named(kernel.name()), Ok(kernel));
        names.push(kernel.name());
    }
    assert!(names.contains(&"ring"));
    assert!(names.contains(&"scalar"));
    assert_eq!(Kernel::detect().name(), names[0]);
    assert_eq!(Kernel::named("sha3"), Err(KernelError::Unknown));
    assert!(KernelError::Unknown.to_string().contains("sha-ni"));
    for name in ["sha-ni", "sha-ni-x1", "avx512", "avx512vl", "avx2"] {
        match Kernel::named(name) {
            Ok(kernel) => assert_eq!(kernel.name(), name),
            Err(error) => {
                assert!(cfg!(not(target_arch = "x86_64")) || error == KernelError::Lacking { name })
            }
        }
    }
}

/// The emulator of `tests/run` has SHA-NI: if it is absent there, its tests did not run.
#[cfg(target_arch = "x86_64")]
#[test]
fn kernel_sha_ni_is_tested_here_or_under_emulation() {
    let emulated = std::env::var_os("HEADFRAME_EMULATED").is_some_and(|value| value == "1");
    for name in ["sha-ni", "avx2", "avx512"] {
        let Err(error) = Kernel::named(name) else { continue };
        assert!(!(emulated && name == "sha-ni"), "the emulator must bring SHA-NI: {error}");
        eprintln!("not tested on this processor: {error}; tests/run emulates SHA-NI");
    }
}

#[cfg(feature = "stub-hash")]
#[test]
fn kernel_stub_is_no_hash_and_never_chosen() {
    let stub = Kernel::stub();
    assert!(Kernel::available().all(|kernel| kernel != stub));
    assert_eq!(Kernel::named("stub"), Err(KernelError::Unknown));
    assert_ne!(stub.sha256d(b"a"), sha256d(b"a"));
    assert_eq!(stub.sha256d(b"a"), stub.sha256d(b"a"));
    assert_ne!(stub.sha256d(b"a"), stub.sha256d(b"b"));
}
