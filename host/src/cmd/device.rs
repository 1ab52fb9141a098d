//! `host device`: the registry of devices and the trust in their host keys.

use crate::{cli::Context, devices::registry, exit_code, failure::Failure};
use clap::Subcommand;
use comfy_table::{Table, presets};
use edgewise_fleet::{Destination, DeviceEntry, Endpoint, KnownHosts, OpenSsh, Place, RegisteredDevice, Verdict, fetch_host_key};
use edgewise_targets::Profile;
use std::{
    io::{BufRead, IsTerminal, stdin},
    path::PathBuf,
};

/// Flags of `host device`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a device
    Add(Add),
    /// List devices
    List,
    /// Show a device's host key and store it as trusted
    Trust {
        /// The device
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Say what would spoil a measurement on a device, and how to mend it
    Doctor {
        /// The device
        name: String,
        /// ONNX Runtime's library for the device's platform
        #[arg(long, value_name = "FILE")]
        ort_library: Option<PathBuf>,
    },
    /// Forget a device
    Remove {
        /// The device
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// A name: lower-case letters, digits, `.`, `_`, `-`
    name: String,
    /// Kind of board
    #[arg(long, value_name = "T")]
    target: String,
    /// Where it is: `USER@HOST`, a name of ssh's configuration, `adb:SERIAL`, or `adb:` for the only device there
    #[arg(long, value_name = "USER@HOST")]
    address: String,
    /// Port of its sshd [default: the target's]
    #[arg(long, value_name = "P")]
    port: Option<u16>,
    /// Private key
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// It runs on this host's own processor: the host keeps still while it times
    #[arg(long)]
    shares_host: bool,
    /// Group that it is in, for --group; may be given several times
    #[arg(long = "group", value_name = "G")]
    groups: Vec<String>,
    /// Name of the lease that measurements take, where several systems share one board, or one system stands for several
    #[arg(long, value_name = "NAME")]
    lease: Option<String>,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    devices: Vec<Listed>,
}

#[derive(serde::Serialize)]
struct Listed {
    name: String,
    target: String,
    address: Option<String>,
    port: Option<u16>,
    shares_host: bool,
    groups: Vec<String>,
}

#[derive(serde::Serialize)]
struct Trusted {
    schema: &'static str,
    device: String,
    key_type: String,
    fingerprint: String,
    stored: bool,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.action {
            Action::Add(add) => add.run(context),
            Action::List => list(context),
            Action::Trust { name, yes } => trust(context, &name, yes),
            Action::Doctor { name, ort_library } => super::doctor::run(context, &name, ort_library.as_deref()),
            Action::Remove { name } => {
                registry(&context.home, context.devices.as_deref())?.remove(&name)?;
                context.printer.note(&format!("removed {name}"));
                Ok(())
            }
        }
    }
}

impl Add {
    fn run(self, context: &Context) -> Result<(), Failure> {
        // A mistyped target, address or key is found now, not in the middle of a search.
        Profile::find_in(&self.target, &context.home.targets)?;
        let identity =
            self.identity.map(|path| std::path::absolute(&path).map_err(|e| Failure::file("use", &path, &e))).transpose()?;
        if let Some(path) = identity.as_ref().filter(|path| !path.is_file()) {
            return Err(Failure::usage(format!("there is no key at `{}`", path.display())));
        }
        let mut registry = registry(&context.home, context.devices.as_deref())?;
        registry.add(
            &self.name,
            DeviceEntry {
                target: self.target,
                address: self.address,
                port: self.port,
                identity,
                shares_host: self.shares_host,
                groups: self.groups,
                lease: self.lease,
                ..DeviceEntry::default()
            },
        )?;
        let printer = context.printer;
        printer.note(&format!("registered {} in {}", self.name, registry.path().display()));
        if matches!(registry.get(&self.name)?.place, Place::Ssh { .. }) {
            printer.note(&format!("next: host device trust {}", self.name));
        }
        Ok(())
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let devices = registry(&context.home, context.devices.as_deref())?.list();
    let place = |d: &RegisteredDevice| match &d.place {
        Place::Local => (None, None),
        Place::Ssh { address, port, .. } => (Some(address.clone()), *port),
        Place::Adb { serial } => (Some(format!("adb:{}", serial.as_deref().unwrap_or_default())), None),
    };
    if context.printer.json {
        let devices = devices
            .iter()
            .map(|d| {
                let (address, port) = place(d);
                Listed {
                    name: d.name.clone(),
                    target: d.target.clone(),
                    address,
                    port,
                    shares_host: d.shares_host,
                    groups: d.groups.clone(),
                }
            })
            .collect();
        return context.printer.json(&Document { schema: "edgewise.devices/1", devices });
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["device", "target", "address", "groups", "shares host"]);
    for d in &devices {
        let (address, port) = place(d);
        let address = address.unwrap_or_else(|| "this machine".into()) + &port.map(|p| format!(":{p}")).unwrap_or_default();
        table.add_row([
            d.name.clone(),
            d.target.clone(),
            address,
            d.groups.join(", "),
            if d.shares_host { "yes" } else { "" }.into(),
        ]);
    }
    context.printer.data(&format!("{table}\n"))
}

fn trust(context: &Context, name: &str, yes: bool) -> Result<(), Failure> {
    let device = registry(&context.home, context.devices.as_deref())?.get(name)?;
    let Place::Ssh { address, port, ssh_config, .. } = &device.place else {
        return Err(Failure::usage(format!("`{name}` is not reached over SSH and has no host key")));
    };
    let profile = Profile::find_in(&device.target, &context.home.targets)?;
    let ssh = if *ssh_config { OpenSsh::from_env() } else { None };
    let endpoint = Endpoint::resolve(&Destination::parse(address, *port)?, ssh.as_ref(), profile.port)?;
    let hosts = endpoint.hosts(&KnownHosts::in_home(&context.home.config));
    let key = fetch_host_key(&endpoint, &hosts)?;
    let address = endpoint.key_address();
    let printer = context.printer;
    let known = matches!(hosts.check(&address, &key)?, Verdict::Known);
    let text = format!("{address} has the {} key {}", key.key_type(), key.fingerprint());
    printer.note(&text);
    if known {
        printer.note("it is trusted already");
    } else {
        if let Verdict::Changed(keys) = hosts.check(&address, &key)? {
            let places: Vec<String> = keys.iter().map(|k| format!("{} line {}", k.file.display(), k.line)).collect();
            return Err(Failure::new(
                exit_code::HOST_KEY,
                format!("another key of `{address}` is trusted ({})", places.join(", ")),
            )
            .hint("if the board was set up anew, remove that line and trust it again; otherwise somebody else answers there"));
        }
        if !yes && !agreed(printer)? {
            return Err(Failure::new(exit_code::HOST_KEY, format!("the key of `{name}` was not stored"))
                .hint("compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the board; --yes stores it unasked"));
        }
        hosts.store(&address, &key)?;
        printer.note(&format!("stored in {}", hosts.own_file().display()));
    }
    if printer.json {
        return printer.json(&Trusted {
            schema: "edgewise.trust/1",
            device: name.to_owned(),
            key_type: key.key_type().to_owned(),
            fingerprint: key.fingerprint(),
            stored: true,
        });
    }
    Ok(())
}

/// Asks on the terminal; nobody there is a no.
fn agreed(printer: crate::ui::Printer) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Ok(false);
    }
    printer.note("trust it? [y/N]");
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| Failure::usage("cannot read the answer").hint(e.to_string()))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
