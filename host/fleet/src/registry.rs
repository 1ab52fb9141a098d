//! `devices.toml`: the boards that the user registered.
//!
//! Contract: unknown keys are refused with file and line; a write is atomic and keeps the user's comments and order. The
//! device `local` is built in and is not in the file.

use crate::{Destination, Error, glob::matches_glob};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// The built-in device: this machine.
pub const LOCAL: &str = "local";
const FILE: &str = "devices.toml";
/// Before the serial number of a device that is reached over adb.
const ADB: &str = "adb:";

/// A device as the file holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// Name of a target profile.
    pub target: String,
    /// `[USER@]HOST`, where HOST may be a name of ssh's configuration, or `adb:SERIAL`, or `adb:` for the only device there.
    pub address: String,
    /// Port of its sshd; if absent, that of ssh's configuration, or else the profile's.
    pub port: Option<u16>,
    /// Private key file on the host.
    pub identity: Option<PathBuf>,
    /// It runs on the host's own processor, so that the host must be idle while it times.
    #[serde(default)]
    pub shares_host: bool,
    /// An agent build to use instead of those at hand; a path on the host.
    pub agent: Option<PathBuf>,
    /// Directory on the device for the agent and its store, instead of the profile's.
    pub store: Option<String>,
    /// Groups that it is in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Name of the lease that measurements on it take, where several names lead to one board.
    pub lease: Option<String>,
    /// Whether ssh's configuration is asked how to reach it; it is, if absent.
    pub ssh_config: Option<bool>,
}

/// How a device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// As a child process.
    Local,
    /// Over SSH.
    Ssh {
        /// `[USER@]HOST`, checked when it was loaded; see [`Destination::parse`].
        address: String,
        /// The port, where the file names one.
        port: Option<u16>,
        /// Private key file on the host.
        identity: Option<PathBuf>,
        /// Whether ssh's configuration is asked.
        ssh_config: bool,
    },
    /// Over adb.
    Adb {
        /// The serial number; without one, the only device there is.
        serial: Option<String>,
    },
}

/// A device with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredDevice {
    /// Its name.
    pub name: String,
    /// Name of its target profile.
    pub target: String,
    /// How it is reached.
    pub place: Place,
    /// It runs on the host's own processor.
    pub shares_host: bool,
    /// An agent build to use instead of those at hand.
    pub agent: Option<PathBuf>,
    /// Directory on the device for the agent and its store.
    pub store: Option<String>,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// Name of the lease that measurements on it take, where the file names one.
    pub lease: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    device: BTreeMap<String, toml::Spanned<DeviceEntry>>,
}

/// The devices of one `devices.toml`.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    document: DocumentMut,
    devices: BTreeMap<String, DeviceEntry>,
}

/// Whether a name may stand for a device: `[a-z0-9][a-z0-9._-]*`.
pub fn is_device_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
}

impl Registry {
    /// Reads `devices.toml` in `dir`; a file that does not exist is an empty one.
    ///
    /// # Errors
    /// [`Error::Registry`] with the line, [`Error::File`].
    pub fn load(dir: &Path) -> Result<Self, Error> {
        Self::load_file(&dir.join(FILE))
    }

    /// Reads a registry from a file of any name.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_file(path: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::File { action: "read", path: path.into(), source }),
        };
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let at = |offset: usize, problem: String| {
            let line = 1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
            Error::Registry { path: path.into(), line, problem }
        };
        let form: FileForm =
            toml::from_str(text).map_err(|e| at(e.span().map_or(0, |span| span.start), e.message().replace('\n', " ")))?;
        let document: DocumentMut =
            text.parse().map_err(|e: toml_edit::TomlError| at(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
        let mut devices = BTreeMap::new();
        for (name, entry) in form.device {
            let start = entry.span().start;
            let entry = entry.into_inner();
            check(&name, &entry).map_err(|e| at(start, e.to_string()))?;
            devices.insert(name, entry);
        }
        Ok(Self { path: path.into(), document, devices })
    }

    /// The file behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every device, `local` first, then by name.
    pub fn list(&self) -> Vec<RegisteredDevice> {
        std::iter::once(local()).chain(self.devices.iter().map(|(name, entry)| registered(name, entry))).collect()
    }

    /// The device of that name.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`], which lists the known names.
    pub fn get(&self, name: &str) -> Result<RegisteredDevice, Error> {
        if name == LOCAL {
            return Ok(local());
        }
        self.devices.get(name).map(|entry| registered(name, entry)).ok_or_else(|| {
            let known = self.list().into_iter().map(|device| device.name).collect();
            Error::UnknownDevice { name: name.into(), known }
        })
    }

    /// The devices whose name matches one of the patterns (`*` and `?` as in a shell) or that are in one of the groups, in
    /// the order of [`Self::list`], each once. `local` has to be named: a pattern with `*` or `?` means boards.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`], [`Error::NoMatch`] or [`Error::UnknownGroup`] for what selects nothing.
    pub fn select(&self, patterns: &[String], groups: &[String]) -> Result<Vec<RegisteredDevice>, Error> {
        let all = self.list();
        let is_pattern = |text: &str| text.contains(['*', '?']);
        let matches = |pattern: &str, device: &RegisteredDevice| {
            if is_pattern(pattern) {
                device.place != Place::Local && matches_glob(pattern, &device.name)
            } else {
                device.name == pattern
            }
        };
        for pattern in patterns {
            if !all.iter().any(|device| matches(pattern, device)) {
                let (name, known) = (pattern.clone(), all.into_iter().map(|device| device.name).collect());
                let wild = is_pattern(&name);
                return Err(if wild { Error::NoMatch { pattern: name, known } } else { Error::UnknownDevice { name, known } });
            }
        }
        for group in groups {
            if !all.iter().any(|device| device.groups.contains(group)) {
                let mut known: Vec<String> = all.into_iter().flat_map(|device| device.groups).collect();
                known.sort();
                known.dedup();
                return Err(Error::UnknownGroup { group: group.clone(), known });
            }
        }
        let selected = |device: &RegisteredDevice| {
            patterns.iter().any(|pattern| matches(pattern, device)) || groups.iter().any(|group| device.groups.contains(group))
        };
        Ok(all.into_iter().filter(selected).collect())
    }

    /// Adds a device and writes the file.
    ///
    /// # Errors
    /// [`Error::DeviceName`] if the name is malformed, built in or taken; [`Error::Address`]; [`Error::File`].
    pub fn add(&mut self, name: &str, entry: DeviceEntry) -> Result<(), Error> {
        check(name, &entry)?;
        if self.devices.contains_key(name) {
            return Err(Error::DeviceName { name: name.into(), problem: "there is one of that name already" });
        }
        let mut document = self.document.clone();
        let devices = document.entry("device").or_insert_with(|| {
            let mut table = Table::new();
            // Only `[device.NAME]` headers are written, no empty `[device]`.
            table.set_implicit(true);
            Item::Table(table)
        });
        let Some(devices) = devices.as_table_like_mut() else {
            return Err(Error::Registry { path: self.path.clone(), line: 1, problem: "`device` is not a table".into() });
        };
        devices.insert(name, Item::Table(entry_table(&entry)));
        self.write(document)?;
        self.devices.insert(name.into(), entry);
        Ok(())
    }

    /// Removes a device and writes the file.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`], [`Error::DeviceName`] for `local`, [`Error::File`].
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        if name == LOCAL {
            return Err(Error::DeviceName { name: name.into(), problem: "it is built in" });
        }
        self.get(name)?;
        let mut document = self.document.clone();
        if let Some(devices) = document.get_mut("device").and_then(Item::as_table_like_mut) {
            devices.remove(name);
        }
        self.write(document)?;
        self.devices.remove(name);
        Ok(())
    }

    /// Through a file beside it and a rename, so that no reader and no crash ever sees half of it.
    fn write(&mut self, document: DocumentMut) -> Result<(), Error> {
        let failed = |source| Error::File { action: "write", path: self.path.clone(), source };
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        file.write_all(document.to_string().as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.path).map_err(|e| failed(e.error))?;
        self.document = document;
        Ok(())
    }
}

fn check(name: &str, entry: &DeviceEntry) -> Result<(), Error> {
    let bad = |problem| Error::DeviceName { name: name.into(), problem };
    if name == LOCAL {
        return Err(bad("it is built in"));
    }
    if !is_device_name(name) {
        return Err(bad("names are lower-case letters, digits, `.`, `_` and `-`, and begin with a letter or digit"));
    }
    let bad_address = |problem| Error::Address { text: entry.address.clone(), problem };
    if entry.store.as_ref().is_some_and(|dir| !dir.starts_with(['/', '~', '$']) || dir.contains(char::is_control)) {
        return Err(bad_address("`store` must be absolute or begin with `~/`"));
    }
    for word in entry.groups.iter().chain(&entry.lease) {
        if !is_device_name(word) {
            let problem = "groups and leases are named as devices are: lower-case letters, digits, `.`, `_` and `-`";
            return Err(Error::DeviceName { name: word.clone(), problem });
        }
    }
    if let Some(serial) = entry.address.strip_prefix(ADB) {
        if serial.starts_with('-') || serial.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad_address("a serial number holds no spaces and begins with no `-`"));
        }
        if entry.port.is_some() || entry.identity.is_some() || entry.ssh_config.is_some() {
            return Err(bad_address("`port`, `identity` and `ssh_config` are for ssh; adb knows none of them"));
        }
        return Ok(());
    }
    // Who logs in is not asked for here: that may differ where the file is used.
    Destination::parse(&entry.address, entry.port).map(drop)
}

fn local() -> RegisteredDevice {
    RegisteredDevice {
        name: LOCAL.into(),
        target: LOCAL.into(),
        place: Place::Local,
        shares_host: true,
        agent: None,
        store: None,
        groups: Vec::new(),
        lease: None,
    }
}

fn registered(name: &str, entry: &DeviceEntry) -> RegisteredDevice {
    let place = match entry.address.strip_prefix(ADB) {
        Some(serial) => Place::Adb { serial: Some(serial.to_owned()).filter(|serial| !serial.is_empty()) },
        None => Place::Ssh {
            address: entry.address.clone(),
            port: entry.port,
            identity: entry.identity.clone(),
            ssh_config: entry.ssh_config.unwrap_or(true),
        },
    };
    RegisteredDevice {
        name: name.into(),
        target: entry.target.clone(),
        place,
        shares_host: entry.shares_host,
        agent: entry.agent.clone(),
        store: entry.store.clone(),
        groups: entry.groups.clone(),
        lease: entry.lease.clone(),
    }
}

fn entry_table(entry: &DeviceEntry) -> Table {
    let mut table = Table::new();
    let path = |path: &PathBuf| value(path.to_string_lossy().into_owned());
    table["target"] = value(&entry.target);
    table["address"] = value(&entry.address);
    if let Some(port) = entry.port {
        table["port"] = value(i64::from(port));
    }
    if let Some(identity) = &entry.identity {
        table["identity"] = path(identity);
    }
    if entry.shares_host {
        table["shares_host"] = value(true);
    }
    if let Some(agent) = &entry.agent {
        table["agent"] = path(agent);
    }
    if let Some(store) = &entry.store {
        table["store"] = value(store);
    }
    if !entry.groups.is_empty() {
        table["groups"] = value(entry.groups.iter().collect::<Array>());
    }
    if let Some(lease) = &entry.lease {
        table["lease"] = value(lease);
    }
    if let Some(ssh_config) = entry.ssh_config {
        table["ssh_config"] = value(ssh_config);
    }
    table
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
