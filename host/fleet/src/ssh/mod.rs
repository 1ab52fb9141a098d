//! SSH: connecting, checking who answers, proving who we are, running commands.
//!
//! Contract: no session leaves this module before its host key was found in a known-hosts file and a key of the user's was
//! accepted. Passwords are never asked for and never sent.

mod auth;
mod connect;
mod session;

pub use connect::fetch_host_key;
pub use session::{SshSession, SshSettings};
