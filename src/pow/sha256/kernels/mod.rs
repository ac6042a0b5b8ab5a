//! The kernels themselves, one file each. `sha_ni` is plain SSE code and must stay so: see there.
//! `avx512`, `avx512vl` and `avx2` are the same algorithm (`lanes`) over different registers.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512vl;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
pub(crate) mod sha_ni;
#[cfg(feature = "stub-hash")]
pub(crate) mod stub;

#[cfg(test)]
mod tests;
