//! A device whose files hold anything: a fixture, in which the input changes and removes some. Nothing panics, and nothing is told
//! that cannot be.
#![no_main]

use edgewise_fuzz::{Dice, folder, seed};
use edgewise_sensors::{Board, Integrator, PowerMeter, Reading, Root, Sensors, Snapshot, Stalls, evidence, hottest};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The devices. The first have commands that are run, which takes several times as long; the others have none, or had theirs
/// removed.
const DEVICES: [&str; 8] = [
    "raspberry-pi-4",
    "raspberry-pi-5",
    "android-phone",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "android-phone",
    "jetson-orin",
    "pc",
];
/// How many of them have commands.
const WITH_COMMANDS: u8 = 3;
/// They are run, so they stay as they are; what they print comes from files beside them.
const COMMANDS: [&str; 3] = ["vcgencmd", "nvpmodel", "dumpsys"];
/// A length that says that the file is removed.
const REMOVED: u16 = u16::MAX;
const EXTREMES: [&str; 24] = [
    "-1",
    "0",
    "+7",
    "255",
    "256",
    "-40000",
    "149999",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-0.0",
    "NaN",
    "inf",
    "0xffffffff",
    "0-8191",
    "policy",
    "",
    "\0",
];

struct Device {
    root: Root,
    /// In the order of their names, but for the commands.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Looked for while all was whole.
    sensors: Sensors,
    whole: Snapshot,
}

impl Device {
    fn new(number: usize) -> Self {
        let path = folder().join(number.to_string());
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-agent/sensors/fixtures").join(DEVICES[number]);
        let copied = Command::new("cp").arg("-a").arg(fixture).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "the temporary folder can be written");
        let mut files = Vec::new();
        let mut folders = vec![path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it was just copied") {
                let path = entry.expect("it is listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if !COMMANDS.iter().any(|command| path.ends_with(command)) {
                    files.push((path.clone(), fs::read(&path).expect("it was just copied")));
                } else if number >= WITH_COMMANDS.into() {
                    fs::remove_file(path).expect("it was just copied");
                }
            }
        }
        files.sort_unstable();
        let root = Root::at(path);
        let sensors = Sensors::discover(&root);
        Self { whole: sensors.snapshot(), root, files, sensors }
    }

    fn of(byte: u8) -> &'static Self {
        static DEVICES_FOUND: [OnceLock<Device>; DEVICES.len()] = [const { OnceLock::new() }; DEVICES.len()];
        let number = if byte < WITH_COMMANDS { byte } else { WITH_COMMANDS + byte % (DEVICES.len() as u8 - WITH_COMMANDS) };
        DEVICES_FOUND[usize::from(number)].get_or_init(|| Self::new(usize::from(number)))
    }
}

/// What comes in place of a file.
struct Change<'a> {
    file: u8,
    content: Option<&'a [u8]>,
}

/// Number of the file, length, content, and so on.
fn changes(mut input: &[u8]) -> Vec<Change<'_>> {
    let mut changes = Vec::new();
    while let Some((&[file, low, high], rest)) = input.split_first_chunk() {
        let length = u16::from_le_bytes([low, high]);
        let (content, rest) = rest.split_at(if length == REMOVED { 0 } else { rest.len().min(length.into()) });
        changes.push(Change { file, content: (length != REMOVED).then_some(content) });
        input = rest;
    }
    changes
}

fn bytes(device: u8, changes: &[Change<'_>]) -> Vec<u8> {
    let mut bytes = vec![device];
    for change in changes {
        let length = change.content.map_or(REMOVED, |content| content.len().min(usize::from(REMOVED - 1)) as u16);
        bytes.push(change.file);
        bytes.extend(length.to_le_bytes());
        bytes.extend(change.content.unwrap_or_default().iter().take(length.into()));
    }
    bytes
}

fuzz_target!(init: seed(seeds()), |data: &[u8]| {
    let Some((&byte, rest)) = data.split_first() else { return };
    let device = Device::of(byte);
    let changed = || changes(rest).into_iter().map(|change| (&device.files[usize::from(change.file) % device.files.len()], change.content));
    for ((path, _), content) in changed() {
        match content {
            Some(content) => fs::write(path, content).expect("the temporary folder can be written"),
            None => drop(fs::remove_file(path)),
        }
    }
    examine(device);
    for ((path, original), _) in changed() {
        fs::write(path, original).expect("the temporary folder can be written");
    }
});

/// Reads all that there is, by sensors that were looked for before the change and by new ones, and judges it.
fn examine(Device { root, sensors, whole, .. }: &Device) {
    let (known, found) = (sensors.snapshot(), Snapshot::take(root));
    believable(&known);
    believable(&found);
    for evidence in [evidence(whole, &known), evidence(&known, whole), evidence(&known, &found)] {
        let shares = evidence.clocks.iter().flat_map(|clock| [clock.steady, clock.top]).flatten().map(|(_, share)| share);
        for share in shares.chain(evidence.steal_share).chain(evidence.busy_share) {
            assert!((0.0..=1.0).contains(&share), "{evidence:?}");
        }
        assert!(evidence.reasons(&[]).iter().all(|reason| !reason.to_string().is_empty()));
    }
    let board = Board::read(root);
    assert!(board.memory_bytes.is_none_or(|bytes| bytes > 0), "{board:?}");
    assert!(board.fastest().len() <= board.clusters.len());
    let Some(meter) = PowerMeter::find(root) else { return };
    assert!(!meter.name().is_empty() && !meter.blind_spots().is_empty());
    let Ok(reading) = meter.read() else { return };
    if let Reading::Power { microwatts } = reading {
        assert!(microwatts <= 10_000_000_000, "{microwatts} µW");
    }
    let mut sum = Integrator::new();
    for ns in [0, u64::MAX] {
        sum.add(ns, reading.clone()).expect("it is later, and of the same meter");
    }
    assert!(sum.joules().is_some_and(|joules| joules.is_finite() && joules >= 0.0), "{sum:?}");
}

/// What is told lies in the ranges that the documentation of each value promises.
fn believable(snapshot: &Snapshot) {
    let celsius = |value: i32| (-39_999..150_000).contains(&value) && value.abs() >= 1_000;
    for policy in &snapshot.policies {
        let states = policy.time_in_state.iter().flat_map(|table| table.0.iter().map(|(khz, _)| *khz));
        let clocks = [policy.current_khz, policy.min_khz, policy.max_khz, policy.hardware_max_khz];
        assert!(clocks.into_iter().flatten().chain(states).all(|khz| (1_000..=20_000_000).contains(&khz)), "{policy:?}");
        assert!(policy.capacity.is_none_or(|capacity| (1..=1024).contains(&capacity)), "{policy:?}");
        assert!(!policy.cpus.is_empty() && policy.cpus.iter().all(|cpu| *cpu < 8192), "{policy:?}");
    }
    for zone in &snapshot.zones {
        assert!(zone.millidegrees.is_none_or(celsius) && zone.trips.iter().all(|trip| celsius(trip.millidegrees)), "{zone:?}");
        assert!(!zone.name.is_empty() && !zone.name.chars().any(char::is_control), "{zone:?}");
    }
    for device in &snapshot.cooling {
        assert!(device.state.is_none_or(|state| state <= device.max_state.unwrap_or(1_000_000)), "{device:?}");
    }
    for sensor in snapshot.android.iter().flat_map(|android| &android.temperatures) {
        assert!(celsius(sensor.millidegrees), "{sensor:?}");
    }
    assert!(hottest(snapshot).is_none_or(celsius));
    for Stalls { some, full } in [snapshot.pressure.cpu, snapshot.pressure.memory, snapshot.pressure.io].into_iter().flatten() {
        assert!((0.0..=100.0).contains(&some.avg10_percent), "{some:?}");
        assert!(full.is_none_or(|full| (0.0..=100.0).contains(&full.avg10_percent)), "{full:?}");
    }
    let memory = snapshot.memory;
    assert!(memory.available_bytes.unwrap_or(0) <= memory.total_bytes.unwrap_or(0), "{memory:?}");
    assert!(memory.swap_free_bytes.unwrap_or(0) <= memory.swap_total_bytes.unwrap_or(0), "{memory:?}");
    for supply in &snapshot.supplies {
        assert!(supply.percent.is_none_or(|percent| percent <= 100), "{supply:?}");
        assert!(supply.current_microamps.is_none_or(|current| current <= 100_000_000), "{supply:?}");
        assert!(supply.microvolts.is_none_or(|volts| (1_000_000..=100_000_000).contains(&volts)), "{supply:?}");
        assert!(supply.temperature_tenths.is_none_or(|tenths| (-400..=1_200).contains(&tenths)), "{supply:?}");
    }
    if let Some(average) = snapshot.load.average {
        assert!([average.one, average.five, average.fifteen].iter().all(|load| (0.0..5e6).contains(load)), "{average:?}");
    }
    assert!(snapshot.firmware.is_none_or(|firmware| firmware.bits.without(firmware.known).is_empty()));
    let _ = snapshot.power_source();
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    if dice.below(2) == 0
        && let Some(mutated) = changed(&data[..size], &mut dice).filter(|mutated| mutated.len() <= max_size)
    {
        data[..mutated.len()].copy_from_slice(&mutated);
        return mutated.len();
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
});

/// The input with one more file changed, or one less: removed, or with an extreme in the place of a word.
fn changed(data: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let (&device, rest) = data.split_first()?;
    let files = &Device::of(device).files;
    let mut list = changes(rest);
    let at = dice.below(list.len() + 1);
    if dice.below(4) == 0 && at < list.len() {
        list.remove(at);
        return Some(bytes(device, &list));
    }
    let file = if at < list.len() { usize::from(list[at].file) % files.len() } else { dice.below(files.len()) };
    let now = list.get(at).and_then(|change| change.content).unwrap_or(&files[file].1);
    let text = String::from_utf8_lossy(&now[..now.len().min(4096)]).into_owned();
    let words: Vec<&str> = text.split([' ', '\n', '=', ',', '(', ':', '-']).filter(|word| !word.is_empty()).collect();
    let word = words.get(dice.below(words.len())).copied().unwrap_or_default();
    let extreme = EXTREMES[dice.below(EXTREMES.len())];
    let content = match dice.below(8) {
        0 => None,
        1 => Some(extreme.to_owned()),
        2 => Some(text.replace(word, extreme)),
        _ => Some(text.replacen(word, extreme, 1)),
    };
    let change = Change { file: file as u8, content: content.as_deref().map(str::as_bytes) };
    if at < list.len() {
        list[at] = change;
    } else {
        list.push(change);
    }
    Some(bytes(device, &list))
}

/// Every device whole, and with each of its files as it is; where commands are run, only with the files that they print.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for byte in 0..DEVICES.len() as u8 + WITH_COMMANDS {
        seeds.push(vec![byte]);
        for (number, (path, content)) in Device::of(byte).files.iter().enumerate() {
            let is_printed = COMMANDS.iter().any(|command| path.file_stem().is_some_and(|stem| stem == *command));
            if content.len() < 4096 && (is_printed || byte >= WITH_COMMANDS) {
                seeds.push(bytes(byte, &[Change { file: number as u8, content: Some(content) }]));
            }
        }
    }
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}
