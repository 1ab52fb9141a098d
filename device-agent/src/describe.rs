//! Who the device is, and what can run a model on it.

use crate::{
    cancel::Cancel,
    error::wire,
    limits::RUNTIME_CHECK,
    runtime::Library,
    store::{Held, Store},
    sys,
    worker::{Launcher, Order, Outcome, supervise},
};
use edgewise_protocol::{DeviceDescription, ErrorCode, OrtLibrary, Runtime, RuntimeStatus, WireError};
use edgewise_sensors::PowerMeter;
use std::{collections::BTreeMap, fs, path::Path};

/// The target triple that this agent was built for.
pub(crate) const TRIPLE: &str = env!("EDGEWISE_TRIPLE");
/// The agent's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Describes the device. Each runtime is tried in a process of its own: one that kills it is described as not working.
///
/// # Errors
/// [`ErrorCode::Io`] if the store's disk cannot be asked, [`ErrorCode::Cancelled`].
pub(crate) fn describe(
    store: &Store,
    launcher: &Launcher,
    meter: Option<&PowerMeter>,
    ort: &OrtLibrary,
    cancel: &Cancel,
) -> Result<DeviceDescription, WireError> {
    let runtimes = [Runtime::Tract, Runtime::Ort]
        .into_iter()
        .map(|runtime| status(store, launcher, runtime, ort, cancel))
        .collect::<Result<_, _>>()?;
    let free_bytes =
        sys::free_bytes(store.root()).map_err(|e| wire(ErrorCode::Io, format!("cannot ask for the store's free space: {e}")))?;
    Ok(DeviceDescription {
        fingerprint: fingerprint(is_emulated(launcher)),
        runtimes,
        free_bytes,
        stored_bytes: store.stored_bytes(),
        budget_bytes: store.budget(),
        power_meter: meter.map(|meter| meter.name().to_owned()),
    })
}

/// Whether an emulator runs this program.
pub(crate) fn is_emulated(launcher: &Launcher) -> bool {
    launcher.is_emulated() || is_foreign(std::env::consts::ARCH, &read("/proc/cpuinfo").unwrap_or_default())
}

/// Where a worker finds ONNX Runtime, and what keeps it there meanwhile.
///
/// # Errors
/// [`ErrorCode::MissingBlob`], [`ErrorCode::Io`].
pub(crate) fn library(store: &Store, ort: &OrtLibrary) -> Result<(Library, Option<Held>), WireError> {
    match ort {
        OrtLibrary::Default => Ok((Library::Default, None)),
        OrtLibrary::Path(path) => Ok((Library::File(path.clone()), None)),
        OrtLibrary::Blob(blob) => {
            let held = store.hold_library(*blob)?;
            Ok((Library::File(held.path().to_string_lossy().into_owned()), Some(held)))
        }
    }
}

fn status(
    store: &Store,
    launcher: &Launcher,
    runtime: Runtime,
    ort: &OrtLibrary,
    cancel: &Cancel,
) -> Result<RuntimeStatus, WireError> {
    let asked = library(store, ort)
        .and_then(|(library, _held)| supervise(launcher, &Order::Version { runtime, library }, RUNTIME_CHECK, cancel, |_| {}));
    let (version, problem) = match asked {
        Ok(Outcome::Version(version)) => (Some(version), None),
        Ok(Outcome::Measured { .. } | Outcome::Generated(_) | Outcome::Built { .. }) => {
            (None, Some("the worker answered another question".to_owned()))
        }
        Err(error) if error.code == ErrorCode::Cancelled => return Err(error),
        Err(error) => (None, Some(error.message)),
    };
    Ok(RuntimeStatus { runtime, version, problem })
}

/// Named facts. What the device does not tell is left out.
fn fingerprint(emulated: bool) -> BTreeMap<String, String> {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let facts = [
        ("agent", Some(VERSION.to_owned())),
        ("triple", Some(TRIPLE.to_owned())),
        ("model", board()),
        ("cpu", processor(&cpuinfo)),
        ("cores", std::thread::available_parallelism().ok().map(|n| n.to_string())),
        ("memory_bytes", sys::proc_kibibytes(&meminfo, "MemTotal:").map(|bytes| bytes.to_string())),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("libc", Some(libc_name())),
        ("emulated", emulated.then(|| "yes".to_owned())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The board's name: from the device tree (boards, phones), else from the firmware (PCs).
fn board() -> Option<String> {
    let pc = || {
        let parts = ["sys_vendor", "product_name"].map(|file| read(format!("/sys/class/dmi/id/{file}")));
        let name = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
        (!name.is_empty()).then_some(name)
    };
    read("/proc/device-tree/model").or_else(pc)
}

/// The processor's name. ARM kernels give only numbers: the distinct parts are told, in order.
fn processor(cpuinfo: &str) -> Option<String> {
    let values = |key: &'static str| {
        cpuinfo.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let name = ["model name", "Hardware", "cpu model", "uarch"].into_iter().find_map(|key| values(key).next());
    let mut parts: Vec<String> =
        values("CPU implementer").zip(values("CPU part")).map(|(implementer, part)| format!("{implementer}/{part}")).collect();
    parts.dedup();
    match (name, parts.is_empty()) {
        (Some(name), true) => Some(name),
        (Some(name), false) => Some(format!("{name} ({})", parts.join(", "))),
        (None, false) => Some(format!("ARM implementer/part {}", parts.join(", "))),
        (None, true) => None,
    }
}

/// Whether the kernel describes another kind of processor than this program was built for: an emulator translates it.
fn is_foreign(arch: &str, cpuinfo: &str) -> bool {
    let x86 = cpuinfo.lines().any(|line| line.starts_with("vendor_id"));
    let arm = cpuinfo.lines().any(|line| line.starts_with("CPU implementer"));
    match arch {
        "x86" | "x86_64" => arm && !x86,
        "arm" | "aarch64" => x86 && !arm,
        _ => false,
    }
}

#[cfg(target_env = "gnu")]
fn libc_name() -> String {
    // SAFETY: takes nothing and returns a static string.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn libc_name() -> String {
    if cfg!(target_os = "android") { "bionic" } else { "musl" }.to_owned()
}

/// A small file's text without the nul bytes and white space around it; `None` where there is none.
fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: &str = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n";
    const PC: &str = "processor\t: 0\nvendor_id\t: X\nmodel name\t: Some CPU @ 2 GHz\n";

    #[test]
    fn processors_are_named() {
        assert_eq!(processor(PC).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(processor(PI).as_deref(), Some("ARM implementer/part 0x41/0xd0b"));
        let phone = format!("{PI}CPU implementer\t: 0x41\nCPU part\t: 0xd44\nHardware\t: SoC 9\n");
        assert_eq!(processor(&phone).as_deref(), Some("SoC 9 (0x41/0xd0b, 0x41/0xd44)"));
        assert_eq!(processor(""), None);
    }

    #[test]
    fn an_emulator_is_told_by_the_wrong_processor() {
        assert!(is_foreign("aarch64", PC) && is_foreign("arm", PC) && is_foreign("x86_64", PI));
        assert!(!is_foreign("aarch64", PI) && !is_foreign("x86_64", PC) && !is_foreign("riscv64", PC));
    }

    #[test]
    fn this_device_has_a_fingerprint() {
        let facts = fingerprint(false);
        for name in ["agent", "triple", "cores", "memory_bytes", "kernel", "libc"] {
            assert!(facts.get(name).is_some_and(|value| !value.is_empty()), "{name} in {facts:?}");
        }
        assert!(facts["triple"].contains('-') && !facts.contains_key("emulated"), "{facts:?}");
        assert_eq!(fingerprint(true)["emulated"], "yes");
    }
}
