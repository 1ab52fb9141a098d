//! Commands that hang, flood or fail: nothing is told, in bounded time, and no process stays behind.

mod common;

use common::Copy;
use edgewise_sensors::{Sensors, Snapshot};
use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

const VCGENCMD: &str = "usr/bin/vcgencmd";

/// Whether the process whose number is in the file has ended. One that nobody has reaped yet has.
fn has_ended(copy: &Copy, file: &str) -> io::Result<bool> {
    let pid: u32 = fs::read_to_string(copy.path(file))?.trim().parse().map_err(io::Error::other)?;
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(true) };
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_that_hangs_is_killed_with_its_children_and_not_run_again() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    let expected = sensors.snapshot();
    assert!(expected.firmware.is_some());
    // The child holds the pipe open, so that killing the shell alone would not end the reading.
    copy.script(VCGENCMD, "echo $$ > \"$0.shell\"\nsleep 60 & echo $! > \"$0.child\"\nwait")?;
    let start = Instant::now();
    let snapshot = sensors.snapshot();
    let taken = start.elapsed();
    assert!((1_900..4_000).contains(&taken.as_millis()), "{taken:?}");
    assert_eq!(snapshot, Snapshot { firmware: None, ..expected.clone() });
    assert!(has_ended(&copy, "usr/bin/vcgencmd.shell")? && has_ended(&copy, "usr/bin/vcgencmd.child")?);

    let start = Instant::now();
    assert_eq!(sensors.snapshot().firmware, None);
    assert!(start.elapsed() < Duration::from_secs(1), "it is not asked again");
    Ok(())
}

#[test]
fn one_that_closes_its_output_and_hangs_is_killed_too() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    copy.script(VCGENCMD, "echo $$ > \"$0.shell\"\necho throttled=0x0\nexec sleep 60 > /dev/null")?;
    let start = Instant::now();
    assert_eq!(sensors.snapshot().firmware, None);
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(has_ended(&copy, "usr/bin/vcgencmd.shell")?);
    Ok(())
}

#[test]
fn one_that_floods_is_stopped_at_the_limit() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    copy.script(VCGENCMD, "echo $$ > \"$0.shell\"\nexec yes throttled=0x0")?;
    let start = Instant::now();
    assert_eq!(sensors.snapshot().firmware, None);
    assert!(start.elapsed() < Duration::from_secs(2), "the time was not used up");
    assert!(has_ended(&copy, "usr/bin/vcgencmd.shell")?);
    Ok(())
}

#[test]
fn one_that_fails_tells_nothing_and_is_asked_again() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    copy.script(VCGENCMD, "echo throttled=0x4; exit 1")?;
    assert_eq!(sensors.snapshot().firmware, None);
    copy.script(VCGENCMD, "printf 'throttled=0x4\\377\\n'")?;
    assert_eq!(sensors.snapshot().firmware, None);
    copy.script(VCGENCMD, "echo throttled=0x4")?;
    assert_eq!(sensors.snapshot().firmware.map(|f| f.bits.0), Some(4));
    Ok(())
}

#[test]
fn only_executables_below_the_root_are_run() -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let copy = Copy::of("raspberry-pi-4")?;
    // The Pi's old place comes after the usual ones, and a file that is not executable is passed over.
    copy.write("opt/vc/bin/unused", "")?;
    fs::rename(copy.path(VCGENCMD), copy.path("opt/vc/bin/vcgencmd"))?;
    copy.write("opt/vc/bin/vcgencmd.get_throttled", "throttled=0x2\n")?;
    copy.write(VCGENCMD, "not a program")?;
    assert_eq!(Snapshot::take(&copy.root()).firmware.map(|f| f.bits.0), Some(2));
    copy.remove(VCGENCMD)?;
    fs::create_dir(copy.path(VCGENCMD))?;
    assert_eq!(Snapshot::take(&copy.root()).firmware.map(|f| f.bits.0), Some(2), "a folder is passed over as well");
    fs::set_permissions(copy.path("opt/vc/bin/vcgencmd"), fs::Permissions::from_mode(0o644))?;
    copy.remove("sys/class/hwmon")?;
    assert_eq!(Snapshot::take(&copy.root()).firmware, None);
    Ok(())
}
