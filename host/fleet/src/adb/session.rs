//! A device that answers, and scripts on it.

use super::AdbProblem;
use crate::{
    AdbTransport, Error, LocalTransport, Remote,
    transport::{self, Exit, Output, printable},
};
use std::{
    io::{self, Read},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// Names the adb program, where it is not `adb` from `PATH`.
const PROGRAM_VARIABLE: &str = "EDGEWISE_ADB";
/// Looking for devices may start adb's server first.
const PATIENCE: Duration = Duration::from_secs(20);

/// The adb program and the device that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adb {
    /// The program.
    pub program: PathBuf,
    /// The device's serial number; without one, the only device there is.
    pub serial: Option<String>,
}

/// One line of `adb devices`.
struct Listed {
    serial: String,
    state: String,
}

impl Adb {
    /// The program that `EDGEWISE_ADB` names, or `adb` from `PATH`.
    pub fn from_env(serial: Option<String>) -> Self {
        let named = std::env::var_os(PROGRAM_VARIABLE).filter(|program| !program.is_empty());
        Self { program: named.unwrap_or_else(|| "adb".into()).into(), serial }
    }

    /// Finds the device among those that adb knows, ready to run programs.
    ///
    /// # Errors
    /// [`Error::Adb`].
    pub fn connect(&self, device: &str) -> Result<AdbSession, Error> {
        let failed = |problem| Error::Adb { device: device.into(), problem };
        let serial = self.list().and_then(|listed| choose(&listed, self.serial.as_deref())).map_err(failed)?;
        Ok(AdbSession { device: device.into(), program: self.program.clone(), serial })
    }

    fn list(&self) -> Result<Vec<Listed>, AdbProblem> {
        let no_program = |e: io::Error| AdbProblem::NoProgram { program: self.program.clone(), why: e.to_string() };
        let mut listing = LocalTransport::spawn(Command::new(&self.program).arg("devices")).map_err(no_program)?;
        let output = transport::run(&mut listing, &mut io::empty(), PATIENCE).map_err(AdbProblem::Failed)?;
        if output.end.exit != Exit::Code(0) {
            return Err(AdbProblem::Failed(output.describe()));
        }
        Ok(parse_list(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// The lines after the heading: a serial number, a tab, and the state, which may be several words.
fn parse_list(text: &str) -> Vec<Listed> {
    let lines = text.lines().skip_while(|line| !line.starts_with("List of devices")).skip(1);
    let listed = lines.filter_map(|line| {
        let (serial, state) = line.split_once('\t')?;
        Some(Listed { serial: printable(serial.as_bytes()), state: printable(state.as_bytes()) })
    });
    listed.collect()
}

fn choose(listed: &[Listed], wanted: Option<&str>) -> Result<String, AdbProblem> {
    let serials = || listed.iter().map(|device| device.serial.clone()).collect::<Vec<_>>();
    let device = match (wanted, listed) {
        (Some(serial), _) => listed
            .iter()
            .find(|device| device.serial == serial)
            .ok_or_else(|| AdbProblem::NotFound { serial: serial.into(), seen: serials() })?,
        (None, []) => return Err(AdbProblem::NoDevice),
        (None, [only]) => only,
        (None, _) => return Err(AdbProblem::Several(serials())),
    };
    let serial = device.serial.clone();
    match device.state.as_str() {
        "device" => Ok(serial),
        "offline" | "connecting" => Err(AdbProblem::Offline(serial)),
        "unauthorized" | "authorizing" => Err(AdbProblem::Unauthorized(serial)),
        state if state.starts_with("no permissions") => Err(AdbProblem::NoPermissions { serial, state: state.into() }),
        state => Err(AdbProblem::State { serial, state: state.into() }),
    }
}

/// A device that was there when it was looked for.
#[derive(Debug)]
pub struct AdbSession {
    device: String,
    program: PathBuf,
    serial: String,
}

impl AdbSession {
    fn process(&self, script: &str) -> Result<AdbTransport, Error> {
        let mut adb = Command::new(&self.program);
        // Always by its number: another device may be plugged in meanwhile.
        adb.args(["-s", &self.serial]);
        AdbTransport::start(&mut adb, script).map_err(|e| Error::Adb {
            device: self.device.clone(),
            problem: AdbProblem::NoProgram { program: self.program.clone(), why: e.to_string() },
        })
    }
}

impl Remote for AdbSession {
    type Process = AdbTransport;

    fn device(&self) -> &str {
        &self.device
    }

    fn run(self, script: &str, input: &mut dyn Read, limit: Duration) -> Result<(Self, Output), Error> {
        let output = transport::run(&mut self.process(script)?, input, limit)
            .map_err(|why| Error::ConnectionLost { device: self.device.clone(), why })?;
        Ok((self, output))
    }

    fn start(self, script: &str) -> Result<AdbTransport, Error> {
        self.process(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(list: &str, serial: Option<&str>) -> Result<String, AdbProblem> {
        choose(&parse_list(&format!("* daemon started successfully\nList of devices attached\n{list}\n")), serial)
    }

    #[test]
    fn every_obstacle_has_a_name() {
        assert_eq!(found("R58M\tdevice\n", None).unwrap(), "R58M");
        assert_eq!(found("a\toffline\n10.0.0.7:5555\tdevice\r\n", Some("10.0.0.7:5555")).unwrap(), "10.0.0.7:5555");
        assert_eq!(found("", None), Err(AdbProblem::NoDevice));
        assert_eq!(found("a\tdevice\nb\tdevice\n", None), Err(AdbProblem::Several(vec!["a".into(), "b".into()])));
        let not_found = AdbProblem::NotFound { serial: "c".into(), seen: vec!["a".into()] };
        assert_eq!(found("a\tdevice\n", Some("c")), Err(not_found));
        assert_eq!(found("a\tunauthorized\n", None), Err(AdbProblem::Unauthorized("a".into())));
        assert_eq!(found("a\toffline\n", None), Err(AdbProblem::Offline("a".into())));
        let state = "no permissions (missing udev rules? user is in the plugdev group); see [http://x]";
        assert!(matches!(found(&format!("a\t{state}\n"), None), Err(AdbProblem::NoPermissions { state: s, .. }) if s == state));
        assert!(matches!(found("a\trecovery\n", None), Err(AdbProblem::State { state, .. }) if state == "recovery"));
        assert!(parse_list("garbage\nR58M\tdevice\n").is_empty(), "only what follows the heading counts");
    }

    proptest! {
        #[test]
        fn hostile_lists_never_panic(text in "(List of devices\n)?([a-z\\PC]{0,9}\t?[a-z \\PC]{0,9}\n){0,5}", serial in proptest::option::of("[a-z]{0,3}")) {
            let _ = choose(&parse_list(&text), serial.as_deref());
        }
    }
}
