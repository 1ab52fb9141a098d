//! `[USER@]HOST` and a port.

use crate::Error;
use std::fmt;

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
        let bad = |problem| Error::Address { text: text.into(), problem };
        // The last `@`: user names may hold one, hosts may not.
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (user.to_owned(), host),
            None => (std::env::var("USER").map_err(|_| bad("it names no user, and $USER is not set"))?, text),
        };
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if user.is_empty() {
            return Err(bad("the user is empty"));
        }
        if host.is_empty() {
            return Err(bad("the host is empty"));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if user.contains(odd) || host.contains(odd) {
            return Err(bad("it holds spaces or control characters"));
        }
        // Such a host would be taken for an option or a pattern where names are looked up.
        if host.starts_with('-') || host.contains(['*', '?', '!', ',', '[', ']', '/']) {
            return Err(bad("the host holds characters that no host name has"));
        }
        // Many colons are IPv6; one is a port, which has a key of its own.
        if host.matches(':').count() == 1 {
            return Err(bad("the port has a key of its own, `port`"));
        }
        Ok(Self { user, host: host.to_owned(), port })
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
        for text in ["", "@host", "pi@", "pi@a b", "pi@-oProxyCommand=x", "pi@host:22", "pi@*.local", "pi@a,b", "pi@a/b"] {
            assert!(matches!(Address::parse(text, 22), Err(Error::Address { .. })), "{text}");
        }
    }
}
