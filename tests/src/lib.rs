//! What the end-to-end tests share: the programs as a user runs them, each test in a home of its own.
//!
//! Contract: a helper that cannot do its work panics with what it saw, for a test has no other way to go on. What a machine
//! lacks (an sshd, a browser, ONNX Runtime, SmolLM2) makes a test say visibly that it is skipped, and fail where `CI=true`.

mod checkpoint;
mod fixture;
mod gguf;
mod home;
mod json;
mod memory;
mod process;
mod programs;
mod proxy;
mod rig;
mod sshd;
mod study;
mod tmpfs;

pub use checkpoint::{Checkpoint, Edit, demo_folder, variant_config};
pub use edgewise_search::Trial;
pub use fixture::{
    AGENTS, CHROMIUM, FAKE_CLOCK, MMLU, ONNX_RUNTIME, ONNX_RUNTIME_AARCH64, PACKAGE_INDEX, POLICY_TEXT, SMOLLM2, SYSROOT_AARCH64,
    file_from, folder_from, skip, tool,
};
pub use gguf::{write_gguf, write_gguf_with_a_bad_merge};
pub use home::{Call, Home, Run, Running};
pub use json::{count, find, ids, list, number, object_keys, text, without_intervals};
pub use memory::MemoryLimit;
pub use process::{agents_of, children, eventually, is_alive, kill, workers_of};
pub use programs::{Measuring, agent, host, measuring};
pub use proxy::{Fault, Proxy, Towards};
pub use rig::{ONCE, Rig};
pub use sshd::{KeyAgent, Sshd};
pub use study::{holds, no_seat_twice, records, trials};
pub use tmpfs::Tmpfs;
