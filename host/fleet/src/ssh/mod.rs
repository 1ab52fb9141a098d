//! SSH: connecting, checking who answers, proving who we are, running commands.
//!
//! Contract: no session leaves this module before its host key was found in a known-hosts file and a key of the user's was
//! accepted. Passwords are never asked for and never sent. What OpenSSH's configuration says about a host is asked of the
//! `ssh` program; the connection itself is ours.

mod auth;
mod connect;
mod endpoint;
mod key_file;
mod openssh;
mod proxy;
mod session;

pub use connect::fetch_host_key;
pub use endpoint::{Endpoint, KeyAgent};
pub use openssh::OpenSsh;
pub use proxy::Proxy;
pub use session::{SshSession, SshSettings};
