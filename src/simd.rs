//! One source for several instruction sets.

/// Compiles each function for AVX-512, for AVX2 with FMA, and for the build's own target (on 64-bit Arm that has all it
/// needs); the first that the CPU supports is chosen at run time. Helpers that they call must be `#[inline(always)]`.
///
/// The bits are the same in each: the compiler may vectorise, but never reorders a sum, and it fuses only where
/// `mul_add` is written. `multiversion`'s AVX-512 is that of Ice Lake and Zen 4: older CPUs, which slow down for it,
/// get AVX2.
macro_rules! simd {
    ($($item:item)*) => {
        $(#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))] $item)*
    };
}
pub(crate) use simd;

/// Whether this CPU emulates fused multiply-add in software: it lacks what [`simd`] compiles for.
pub fn is_slow() -> bool {
    cfg!(target_arch = "x86_64") && !["avx2", "fma"].iter().all(|feature| features().contains(feature))
}

/// Which of AVX2, FMA and AVX-512F this CPU has; [`simd`] uses AVX-512 only with Ice Lake's extensions.
pub fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
