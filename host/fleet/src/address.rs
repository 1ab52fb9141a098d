//! `[USER@]HOST` and a port.

use crate::Error;
use std::fmt;

/// What a shell takes for more than itself.
pub(crate) const SHELL_MARKS: [char; 15] = ['\'', '"', '`', '$', '\\', ';', '&', '<', '>', '|', '(', ')', '{', '}', '#'];

/// Where a device's sshd is, and as whom we log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The login name.
    pub user: String,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Address {
    /// Reads `[USER@]HOST`; without a user it is `$USER`. An IPv6 address may stand in brackets.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn parse(text: &str, port: u16) -> Result<Self, Error> {
        Destination::parse(text, Some(port))?.address(port)
    }
}

/// `[USER@]HOST` as a person wrote it. The host may be a name of ssh's configuration, and what is not said is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The login name, if it is said.
    pub user: Option<String>,
    /// A name, an alias, or an IP address without brackets.
    pub host: String,
    /// The TCP port, if it is said.
    pub port: Option<u16>,
}

impl Destination {
    /// Reads `[USER@]HOST`. An IPv6 address may stand in brackets.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn parse(text: &str, port: Option<u16>) -> Result<Self, Error> {
        let bad = |problem| Error::Address { text: text.into(), problem };
        // The last `@`: user names may hold one, hosts may not.
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, text),
        };
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if user.as_ref().is_some_and(String::is_empty) {
            return Err(bad("the user is empty"));
        }
        if host.is_empty() {
            return Err(bad("the host is empty"));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if user.as_ref().is_some_and(|user| user.contains(odd)) || host.contains(odd) {
            return Err(bad("it holds spaces or control characters"));
        }
        // Such a host would be taken for an option, for a pattern where names are looked up, or for more by a ProxyCommand's
        // shell.
        if host.starts_with('-') || host.contains(['*', '?', '!', ',', '[', ']', '/']) || host.contains(SHELL_MARKS) {
            return Err(bad("the host holds characters that no host name has"));
        }
        // Many colons are IPv6; one is a port, which has a key of its own.
        if host.matches(':').count() == 1 {
            return Err(bad("the port has a key of its own, `port`"));
        }
        if port == Some(0) {
            return Err(bad("port 0 cannot be connected to"));
        }
        Ok(Self { user, host: host.to_owned(), port })
    }

    /// Where it leads without ssh's configuration: the user is `$USER` unless it is said.
    ///
    /// # Errors
    /// [`Error::Address`] if no user is known.
    pub fn address(&self, default_port: u16) -> Result<Address, Error> {
        let no_user = |_| Error::Address { text: self.host.clone(), problem: "it names no user, and $USER is not set" };
        let user = self.user.clone().map_or_else(|| std::env::var("USER").map_err(no_user), Ok)?;
        Ok(Address { user, host: self.host.clone(), port: self.port.unwrap_or(default_port) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]:{}", self.user, self.host, self.port)
        } else {
            write!(f, "{}@{}:{}", self.user, self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let show = |text| Address::parse(text, 22).map(|a| (a.user, a.host)).unwrap();
        assert_eq!(show("nvidia@jetson.local"), ("nvidia".into(), "jetson.local".into()));
        assert_eq!(show("a@b@c"), ("a@b".into(), "c".into()));
        assert_eq!(show("pi@[fe80::1]"), ("pi".into(), "fe80::1".into()));
        assert_eq!(Address::parse("pi@::1", 2222).unwrap().to_string(), "pi@[::1]:2222");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "u@a;id",
            "u@$(id)",
            "u@`id`",
            "",
            "@host",
            "pi@",
            "pi@a b",
            "pi@-oProxyCommand=x",
            "pi@host:22",
            "pi@*.local",
            "pi@a,b",
            "pi@a/b",
        ] {
            assert!(matches!(Address::parse(text, 22), Err(Error::Address { .. })), "{text}");
        }
    }
}
