//! Exit codes of the `host` command. They are part of its interface: scripts rely on them.

/// Everything went well.
pub(crate) const OK: u8 = 0;
/// A fault of the program itself.
pub(crate) const BUG: u8 = 1;
/// Wrong arguments, an unknown device, a file of ours that cannot be read or written.
pub(crate) const USAGE: u8 = 2;
/// A device cannot be reached, or does not let us in.
pub(crate) const CONNECT: u8 = 10;
/// A host key is unknown, changed or revoked.
pub(crate) const HOST_KEY: u8 = 11;
/// The agent cannot be installed or started, died, or its device is full.
pub(crate) const AGENT: u8 = 12;
/// The agent said something that the protocol does not allow.
pub(crate) const PROTOCOL: u8 = 13;
/// A measurement failed or cannot be trusted.
pub(crate) const MEASUREMENT: u8 = 20;
/// The model cannot be read, or is not one.
pub(crate) const MODEL: u8 = 30;
/// The artifact cannot be read or written, or is not one.
pub(crate) const ARTIFACT: u8 = 31;
/// The study cannot be read or written, or is not one.
pub(crate) const STUDY: u8 = 40;
/// A training failed: its numbers are no numbers any more.
pub(crate) const TRAINING: u8 = 50;
/// Ended by the user.
pub(crate) const INTERRUPTED: u8 = 130;
