//! Products of single-precision matrices on a processor's unit for tiles of bfloat16 (Intel's AMX).
//!
//! A number becomes the sum of two of bfloat16, and a product three of the unit's, high by high, high by low and low by high,
//! which it sums in single precision: of the 24 bits of a factor 16 count (Henry, Tang and Heinecke, arXiv 1904.06376). On the
//! processors that have the unit this is several times as fast as their vector instructions.
//!
//! Contract: an element is within 2^-16 of what single precision gives, relative to the sum of its products' magnitudes. It
//! depends on its row and its column only, not on how many others there are nor on threads. What is not a number stays none;
//! infinities become so too, and factors below 1e-38 count as zero. On other processors and systems nothing is available.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod missing;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pack;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod product;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use missing::product;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use product::product;
