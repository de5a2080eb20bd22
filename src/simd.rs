//! One source for several instruction sets.

/// Compiles each function for AVX-512, for AVX2 with FMA, and for the build's own target (64-bit Arm has all it needs
/// there); the first that the CPU supports is taken at run time. Helpers that they call must be `#[inline(always)]`.
///
/// The bits are the same in each: the compiler may do several values at once, but never reorders a sum, and it fuses
/// only where `mul_add` is written.
macro_rules! simd {
    ($($item:item)*) => {
        $(#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2+fma"))] $item)*
    };
}
pub(crate) use simd;
