//! What OpenSSH's configuration says about a host: the `ssh` program is asked, no file of it is read here.
//!
//! `ssh -G` prints one keyword and value a line, after all `Host` and `Match` blocks, includes and canonicalisation. Some
//! values still hold `~` and `%` tokens, which ssh expands only when it uses them; so does this module.

use super::{Endpoint, KeyAgent, Proxy};
use crate::{
    Address, Destination, Error, LocalTransport,
    address::SHELL_MARKS,
    transport::{self, printable},
};
use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Names the ssh program; set to nothing, ssh's configuration is not asked at all.
const PROGRAM_VARIABLE: &str = "EDGEWISE_SSH";
/// Names the configuration file to use instead of the user's and the system's, as `ssh -F` does; `none` for none.
const CONFIG_VARIABLE: &str = "EDGEWISE_SSH_CONFIG";
/// `Match exec` may run programs that ask the network where we are.
const PATIENCE: Duration = Duration::from_secs(20);
/// What ssh prints where no configuration names a port.
const DEFAULT_PORT: u16 = 22;
/// Key files that ssh prints where no configuration names one: these are tried, if they exist, without being told.
const DEFAULT_IDENTITIES: [&str; 7] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"];

/// The system's ssh program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSsh {
    program: PathBuf,
    config: Option<PathBuf>,
    /// A person named it: that it is missing is then an error.
    named: bool,
}

impl OpenSsh {
    /// A certain program, with a certain configuration file if `config` is given.
    pub fn new(program: PathBuf, config: Option<PathBuf>) -> Self {
        Self { program, config, named: true }
    }

    /// `ssh` from `PATH`, unless `EDGEWISE_SSH` names another program or, being empty, none; with the user's configuration
    /// unless `EDGEWISE_SSH_CONFIG` names a file.
    pub fn from_env() -> Option<Self> {
        let set = |value: &OsString| !value.is_empty();
        let config = std::env::var_os(CONFIG_VARIABLE).filter(set).map(PathBuf::from);
        match std::env::var_os(PROGRAM_VARIABLE) {
            Some(program) => set(&program).then(|| Self::new(program.into(), config)),
            None => Some(Self { program: "ssh".into(), config, named: false }),
        }
    }

    /// `ssh`, with its configuration file.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        command
    }

    /// What the configuration says; `None` if there is no ssh on this system.
    pub(super) fn resolve(&self, to: &Destination, default_port: u16) -> Result<Option<Endpoint>, Error> {
        let bad = |problem: String| Error::SshConfig { host: to.host.clone(), problem };
        let mut command = self.command();
        // Without -T it warns that there is no terminal.
        command.args(["-T", "-G"]);
        if let Some(user) = &to.user {
            command.args(["-l", user]);
        }
        if let Some(port) = to.port {
            command.args(["-p", &port.to_string()]);
        }
        command.arg("--").arg(&to.host);
        let mut asked = match LocalTransport::spawn(&mut command) {
            Ok(asked) => asked,
            Err(e) if e.kind() == ErrorKind::NotFound && !self.named => return Ok(None),
            Err(e) => return Err(bad(format!("cannot start {}: {e}", self.program.display()))),
        };
        let output = transport::run(&mut asked, &mut io::empty(), PATIENCE).map_err(bad)?;
        if output.end.exit != transport::Exit::Code(0) {
            return Err(bad(output.describe()));
        }
        let answer = Answer::parse(&String::from_utf8_lossy(&output.stdout));
        answer.endpoint(to, default_port, self).map(Some).map_err(bad)
    }
}

/// The lines of `ssh -G` that matter here.
#[derive(Debug, Default)]
struct Answer(Vec<(String, String)>);

impl Answer {
    fn parse(text: &str) -> Self {
        let line = |line: &str| line.trim_end().split_once(' ').map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
        Self(text.lines().filter_map(line).collect())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The value, unless there is none or it says so itself.
    fn one(&self, key: &str) -> Option<&str> {
        self.all(key).next().filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    fn endpoint(&self, to: &Destination, default_port: u16, ssh: &OpenSsh) -> Result<Endpoint, String> {
        let missing = |key: &str| format!("it prints no `{key}`");
        let user = self.one("user").ok_or_else(|| missing("user"))?;
        let host = self.one("hostname").ok_or_else(|| missing("hostname"))?;
        let port = self.one("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let port: u16 = port.ok_or_else(|| missing("port"))?;
        // A host name is a word of known-hosts files and of other programs' arguments: it is held to the same rules.
        let checked = Destination::parse(&format!("{user}@{host}"), Some(port)).map_err(|e| e.to_string())?;
        let configured = to.port.is_some() || port != DEFAULT_PORT;
        let address = Address { user: user.into(), host: checked.host, port: if configured { port } else { default_port } };
        let alias = self.one("hostkeyalias").map(str::to_owned);
        if alias
            .as_ref()
            .is_some_and(|alias| alias.contains(|c: char| c.is_whitespace() || c.is_control() || ",*?!|".contains(c)))
        {
            return Err("`HostKeyAlias` holds characters that no host name has".into());
        }
        let tokens = Tokens { address: &address, written: &to.host, alias: alias.as_deref() };
        let identities = self.identities(&tokens)?;
        let files = ["userknownhostsfile", "globalknownhostsfile"].into_iter().filter_map(|key| self.one(key).map(split_paths));
        let known_hosts = files.flatten().map(|file| tokens.path(&file)).collect::<Result<_, _>>()?;
        let proxy = match (self.one("proxycommand"), self.one("proxyjump")) {
            (Some(_), _) if self.one("proxyusefdpass") == Some("yes") => {
                return Err("`ProxyUseFdpass` is not supported; a ProxyCommand whose streams are the connection is".into());
            }
            // What the configuration says is the user's own; a login name of the registry must not become a command.
            (Some(_), _) if address.user.contains(SHELL_MARKS) => {
                return Err("a login name with marks of the shell cannot go through a ProxyCommand".into());
            }
            (Some(command), _) => Some(Proxy::Command(tokens.expand(command, "hnpr")?)),
            (None, Some(hops)) => Some(Proxy::Jump { hops: hops.into(), ssh: ssh.clone() }),
            (None, None) => None,
        };
        let seconds = self.one("connecttimeout").and_then(|seconds| seconds.parse().ok());
        Ok(Endpoint {
            identities,
            identities_only: self.one("identitiesonly") == Some("yes"),
            key_agent: self.key_agent(&tokens)?,
            known_hosts,
            proxy,
            connect_timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            host_key_alias: alias,
            address,
        })
    }

    /// The files that a person named: none if these are what ssh tries anyway.
    fn identities(&self, tokens: &Tokens<'_>) -> Result<Vec<PathBuf>, String> {
        let files: Vec<&str> = self.all("identityfile").filter(|file| *file != "none").collect();
        let by_default = |file: &&str| file.strip_prefix("~/.ssh/").is_some_and(|name| DEFAULT_IDENTITIES.contains(&name));
        if files.iter().all(by_default) {
            return Ok(Vec::new());
        }
        files.into_iter().map(|file| tokens.path(file)).collect()
    }

    fn key_agent(&self, tokens: &Tokens<'_>) -> Result<KeyAgent, String> {
        let Some(value) = self.all("identityagent").next() else { return Ok(KeyAgent::Environment) };
        if value.eq_ignore_ascii_case("none") {
            return Ok(KeyAgent::Disabled);
        }
        if value == "SSH_AUTH_SOCK" {
            return Ok(KeyAgent::Environment);
        }
        if let Some(variable) = value.strip_prefix('$') {
            let path = std::env::var_os(variable.trim_matches(['{', '}']));
            return Ok(path.map_or(KeyAgent::Disabled, |path| KeyAgent::Socket(path.into())));
        }
        tokens.path(value).map(KeyAgent::Socket)
    }
}

/// Several paths in one value: ssh prints them with blanks in between and without quotes, also where a path holds blanks.
/// What begins neither at the root nor at home goes on with the path before it.
fn split_paths(value: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for word in value.split(' ') {
        match paths.last_mut() {
            Some(last) if !word.starts_with(['/', '~']) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => paths.push(word.to_owned()),
        }
    }
    paths.retain(|path| !path.is_empty() && path != "none");
    paths
}

/// What the tokens stand for, see "TOKENS" in `ssh_config(5)`.
struct Tokens<'a> {
    address: &'a Address,
    written: &'a str,
    alias: Option<&'a str>,
}

impl Tokens<'_> {
    fn expand(&self, text: &str, allowed: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match rest.next() {
                Some('%') => out.push('%'),
                Some(token) if allowed.contains(token) => out.push_str(&self.value(token)?),
                token => {
                    let token = token.map(String::from).unwrap_or_default();
                    return Err(format!("`%{token}` in `{}` is not supported", printable(text.as_bytes())));
                }
            }
        }
        Ok(out)
    }

    fn value(&self, token: char) -> Result<String, String> {
        Ok(match token {
            'h' => self.address.host.clone(),
            'n' => self.written.to_owned(),
            'p' => self.address.port.to_string(),
            'r' => self.address.user.clone(),
            'k' => self.alias.unwrap_or(self.written).to_owned(),
            'd' => home()?.display().to_string(),
            'u' => std::env::var("USER").map_err(|_| "`%u` needs $USER")?,
            // SAFETY: getuid(2) cannot fail and touches no memory.
            'i' => unsafe { libc::getuid() }.to_string(),
            token => return Err(format!("`%{token}` is not supported")),
        })
    }

    fn path(&self, text: &str) -> Result<PathBuf, String> {
        let text = self.expand(text, "hnprkdui")?;
        Ok(match text.strip_prefix("~/") {
            Some(rest) => home()?.join(rest),
            None => PathBuf::from(text),
        })
    }
}

fn home() -> Result<PathBuf, String> {
    std::env::var_os("HOME").map(PathBuf::from).ok_or_else(|| "$HOME is not set".into())
}

/// A path of the registry, in which `~/` may stand for home.
pub(super) fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), home()) {
        (Ok(rest), Ok(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
#[path = "openssh_tests.rs"]
mod tests;
