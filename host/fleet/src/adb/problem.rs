//! What may stand between the host and an Android device.

use std::path::PathBuf;

/// Why adb does not lead to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdbProblem {
    /// The program cannot be started.
    #[error("{} cannot be started: {why}", program.display())]
    NoProgram {
        /// The program.
        program: PathBuf,
        /// Why.
        why: String,
    },
    /// The program failed, with these words.
    #[error("adb failed: {0}")]
    Failed(String),
    /// Nothing is connected.
    #[error("no device is connected")]
    NoDevice,
    /// Another device is connected, not this one.
    #[error("device {serial} is not connected; connected: {}", if seen.is_empty() { "none".into() } else { seen.join(", ") })]
    NotFound {
        /// The one asked for.
        serial: String,
        /// Those that are there.
        seen: Vec<String>,
    },
    /// There are several, and none was chosen.
    #[error("several devices are connected: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The device does not trust this host.
    #[error("device {0} has not allowed this computer to debug it")]
    Unauthorized(String),
    /// The device is known but does not answer.
    #[error("device {0} is offline")]
    Offline(String),
    /// The host may not open the USB device.
    #[error("this user may not open the USB device {serial}: {state}")]
    NoPermissions {
        /// The device.
        serial: String,
        /// adb's words.
        state: String,
    },
    /// It is in a state in which nothing can be run, such as `recovery` or `bootloader`.
    #[error("device {serial} is in state `{state}`")]
    State {
        /// The device.
        serial: String,
        /// adb's word.
        state: String,
    },
}

impl AdbProblem {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoProgram { .. } => "install Android's platform-tools, or name the program with EDGEWISE_ADB".into(),
            Self::Failed(_) => "does `adb devices` work in a terminal? `adb kill-server` starts it afresh".into(),
            Self::NoDevice => {
                "connect it by USB and switch on USB debugging (developer options), or use adb connect HOST:PORT".into()
            }
            Self::NotFound { .. } => "`adb devices` shows the serial numbers; `address` in devices.toml holds one".into(),
            Self::Several(_) => "choose one with address = \"adb:SERIAL\" in devices.toml".into(),
            Self::Unauthorized(_) => "unlock the device and confirm \"Allow USB debugging\"".into(),
            Self::Offline(serial) => format!("unplug it and plug it in again; over Wi-Fi: adb disconnect {serial}, adb connect"),
            Self::NoPermissions { .. } => "add a udev rule for the device, or your user to group plugdev".into(),
            Self::State { serial, .. } => format!("start Android on it: adb -s {serial} reboot"),
        }
    }

    /// Whether it may be gone a moment later: devices leave and come back while they wake up or change networks.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Offline(_) | Self::NotFound { .. })
    }
}
