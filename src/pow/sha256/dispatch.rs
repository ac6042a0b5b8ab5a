//! From a batch of any size to the kernels: cuts it as the plan says, pads the last lanes.
//! Free of allocation.
#![allow(unsafe_code)]

use core::array;
use core::ops::Range;

use super::kernels::portable;
#[cfg(feature = "stub-hash")]
use super::kernels::stub;
#[cfg(target_arch = "x86_64")]
use super::kernels::{avx2, avx512, avx512vl, sha_ni};
use super::plan::{Lone, Path};
use super::{Hash256, Kernel};
use crate::header::HeaderStart;
use crate::share::{Share, Work};
use crate::target::Target;

/// Shares that are sorted by shape at once: the bits of the set of those still to do. A
/// multiple of the widest kernel, so that cutting here leaves no lane idle.
const WINDOW: usize = 64;

impl Kernel {
    /// Double SHA-256 of any bytes, alone.
    pub fn sha256d(&self, bytes: &[u8]) -> Hash256 {
        match self.plan.lone {
            // SAFETY: a plan with SHA-NI needs SHA-NI, and a kernel has what its plan needs.
            #[cfg(target_arch = "x86_64")]
            Lone::ShaNi => unsafe { sha_ni::sha256d(bytes) },
            Lone::Ring => portable::ring_sha256d(bytes),
            Lone::Scalar => portable::scalar_sha256d(bytes),
            #[cfg(feature = "stub-hash")]
            Lone::Stub => stub::sha256d(bytes),
        }
    }

    /// Double SHA-256 of many merkle nodes; `out` has as many places as `nodes`.
    pub fn hash_nodes(&self, nodes: &[[u8; 64]], out: &mut [Hash256]) {
        assert_eq!(nodes.len(), out.len(), "one place per node");
        for (nodes, out) in nodes.chunks(WINDOW).zip(out.chunks_mut(WINDOW)) {
            let places: [u8; WINDOW] = array::from_fn(|place| place as u8);
            self.hash_alike(nodes, &places[..nodes.len()], out);
        }
    }

    /// Hashes any number of shares, each over its own work, into as many places of `out`: the
    /// headers' hashes. Each share's extranonce has its work's size.
    ///
    /// Shares of different jobs are hashed side by side where their works have the same shape.
    pub fn hash_shares(&self, shares: &[(&Work, Share)], out: &mut [Hash256]) {
        assert_eq!(shares.len(), out.len(), "one place per share");
        for (shares, out) in shares.chunks(WINDOW).zip(out.chunks_mut(WINDOW)) {
            let mut to_do = u64::MAX >> (WINDOW - shares.len());
            while to_do != 0 {
                let shape = shares[to_do.trailing_zeros() as usize].0.shape();
                let mut places = [0; WINDOW];
                let mut count = 0;
                let mut candidates = to_do;
                while candidates != 0 {
                    let place = candidates.trailing_zeros();
                    candidates &= candidates - 1;
                    if shares[place as usize].0.shape() == shape {
                        to_do &= !(1 << place);
                        places[count] = place as u8;
                        count += 1;
                    }
                }
                self.hash_alike(shares, &places[..count], out);
            }
        }
    }

    /// Hashes one share: the header's hash.
    pub fn hash_share(&self, work: &Work, share: &Share) -> Hash256 {
        let mut out = [Hash256::ZERO];
        self.hash_alike(&[(work, *share)], &[0], &mut out);
        out[0]
    }

    /// Hashes a header with every nonce of a range and hands out those that meet the target:
    /// how a CPU mines. Two compressions per nonce.
    pub fn scan_header(
        &self,
        header: &[u8; 80],
        nonces: Range<u32>,
        target: &Target,
        found: &mut dyn FnMut(u32, Hash256),
    ) {
        let start = HeaderStart::new(header);
        let places: [u8; WINDOW] = array::from_fn(|place| place as u8);
        let mut first = nonces.start;
        while first < nonces.end {
            let count = WINDOW.min((nonces.end - first) as usize);
            let inputs: [_; WINDOW] =
                array::from_fn(|place| (&start, first.wrapping_add(place as u32)));
            let mut hashes = [Hash256::ZERO; WINDOW];
            self.hash_alike(&inputs[..count], &places[..count], &mut hashes);
            for ((_, nonce), hash) in inputs.iter().zip(&hashes[..count]) {
                if target.is_met_by(hash) {
                    found(*nonce, *hash);
                }
            }
            first += count as u32;
        }
    }

    /// Hashes the inputs at `places`, all of one shape, each to its place of `out`.
    fn hash_alike<T: Input>(&self, inputs: &[T], mut places: &[u8], out: &mut [Hash256]) {
        while !places.is_empty() {
            let path = self.plan.path(places.len());
            let (now, later) = places.split_at(path.lanes().min(places.len()));
            places = later;
            // SAFETY: a plan that names a path needs its features, and a kernel has what its
            // plan needs.
            unsafe { hash_by(path, self.plan.lone, inputs, now, out) };
        }
    }
}

/// Hashes as many inputs as the path has lanes, or fewer.
///
/// # Safety
/// The processor has the path's features.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_unsafe))]
unsafe fn hash_by<T: Input>(
    path: Path,
    lone: Lone,
    inputs: &[T],
    places: &[u8],
    out: &mut [Hash256],
) {
    // SAFETY: the caller answers for the path's features.
    unsafe {
        match path {
            Path::Lone => {
                let place = usize::from(places[0]);
                out[place] = inputs[place].lone(lone);
            }
            #[cfg(target_arch = "x86_64")]
            Path::ShaNiX2 => in_lanes(inputs, places, out, |i, o| T::sha_ni_x2(i, o)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2X8 => in_lanes(inputs, places, out, |i, o| T::avx2(i, o)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512VlX8 => in_lanes(inputs, places, out, |i, o| T::avx512vl(i, o)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512X16 => in_lanes(inputs, places, out, |i, o| T::avx512(i, o)),
        }
    }
}

/// Fills the lanes from `places`, the idle ones with the last again, and hands out the results.
#[cfg(target_arch = "x86_64")]
fn in_lanes<T, const LANES: usize>(
    inputs: &[T],
    places: &[u8],
    out: &mut [Hash256],
    kernel: impl FnOnce(&[&T; LANES], &mut [Hash256; LANES]),
) {
    assert!((1..=LANES).contains(&places.len()), "at least one lane, at most all");
    let batch = array::from_fn(|lane| &inputs[usize::from(places[lane.min(places.len() - 1)])]);
    let mut hashes = [Hash256::ZERO; LANES];
    kernel(&batch, &mut hashes);
    for (place, hash) in places.iter().zip(hashes) {
        out[usize::from(*place)] = hash;
    }
}

/// What kernels hash side by side. The unsafe functions need their kernel's features.
trait Input: Sized {
    fn lone(&self, lone: Lone) -> Hash256;
    #[cfg(target_arch = "x86_64")]
    unsafe fn sha_ni_x2(batch: &[&Self; 2], out: &mut [Hash256; 2]);
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2(batch: &[&Self; 8], out: &mut [Hash256; 8]);
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512vl(batch: &[&Self; 8], out: &mut [Hash256; 8]);
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(batch: &[&Self; 16], out: &mut [Hash256; 16]);
}

/// The trait's unsafe functions, each one call.
#[cfg(target_arch = "x86_64")]
macro_rules! by_kernel {
    ($function:ident) => {
        unsafe fn sha_ni_x2(batch: &[&Self; 2], out: &mut [Hash256; 2]) {
            // SAFETY: the caller answers for SHA-NI.
            unsafe { sha_ni::$function(batch, out) }
        }

        unsafe fn avx2(batch: &[&Self; 8], out: &mut [Hash256; 8]) {
            // SAFETY: the caller answers for AVX2.
            unsafe { avx2::$function(batch, out) }
        }

        unsafe fn avx512vl(batch: &[&Self; 8], out: &mut [Hash256; 8]) {
            // SAFETY: the caller answers for AVX-512.
            unsafe { avx512vl::$function(batch, out) }
        }

        unsafe fn avx512(batch: &[&Self; 16], out: &mut [Hash256; 16]) {
            // SAFETY: the caller answers for AVX-512.
            unsafe { avx512::$function(batch, out) }
        }
    };
}

impl Input for [u8; 64] {
    fn lone(&self, lone: Lone) -> Hash256 {
        match lone {
            #[cfg(target_arch = "x86_64")]
            Lone::ShaNi => {
                let mut out = [Hash256::ZERO];
                // SAFETY: a plan with SHA-NI needs SHA-NI, and a kernel has what its plan needs.
                unsafe { sha_ni::hash_nodes(&[self], &mut out) };
                out[0]
            }
            Lone::Ring => portable::ring_sha256d(self),
            Lone::Scalar => portable::scalar_sha256d(self),
            #[cfg(feature = "stub-hash")]
            Lone::Stub => stub::sha256d(self),
        }
    }

    #[cfg(target_arch = "x86_64")]
    by_kernel!(hash_nodes);
}

impl Input for (&Work, Share) {
    fn lone(&self, lone: Lone) -> Hash256 {
        let (work, share) = self;
        match lone {
            #[cfg(target_arch = "x86_64")]
            Lone::ShaNi => {
                let mut out = [Hash256::ZERO];
                // SAFETY: a plan with SHA-NI needs SHA-NI, and a kernel has what its plan needs.
                unsafe { sha_ni::hash_shares(&[self], &mut out) };
                out[0]
            }
            Lone::Ring => portable::ring_share(work, share),
            Lone::Scalar => portable::scalar_share(work, share),
            #[cfg(feature = "stub-hash")]
            Lone::Stub => stub::share(work, share),
        }
    }

    #[cfg(target_arch = "x86_64")]
    by_kernel!(hash_shares);
}

impl Input for (&HeaderStart, u32) {
    fn lone(&self, lone: Lone) -> Hash256 {
        let (start, nonce) = *self;
        match lone {
            #[cfg(target_arch = "x86_64")]
            Lone::ShaNi => {
                let mut out = [Hash256::ZERO];
                // SAFETY: a plan with SHA-NI needs SHA-NI, and a kernel has what its plan needs.
                unsafe { sha_ni::hash_nonces(&[self], &mut out) };
                out[0]
            }
            Lone::Ring => portable::ring_sha256d(&start.with(nonce)),
            Lone::Scalar => portable::scalar_nonce(start, nonce),
            #[cfg(feature = "stub-hash")]
            Lone::Stub => stub::sha256d(&start.with(nonce)),
        }
    }

    #[cfg(target_arch = "x86_64")]
    by_kernel!(hash_nonces);
}
