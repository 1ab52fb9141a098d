//! Tells the program for which platform it was built, so that it knows which agent build is its own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=EDGEWISE_TRIPLE={}", std::env::var("TARGET").unwrap_or_default());
}
