//! Which power meter is found, and what it says when its files change.

mod common;

use common::Copy;
use edgewise_sensors::{Integrator, MeterKind, PowerError, PowerMeter, Reading};
use std::error::Error;

type Outcome = Result<(), Box<dyn Error>>;

fn find(copy: &Copy) -> Result<PowerMeter, &'static str> {
    PowerMeter::find(&copy.root()).ok_or("no meter")
}

#[test]
fn counters_wrap_around_between_readings() -> Outcome {
    let copy = Copy::of("pc")?;
    let energy = "sys/class/powercap/intel-rapl:0/energy_uj";
    let meter = find(&copy)?;
    assert_eq!(meter.kind(), MeterKind::Energy);
    let mut sum = Integrator::new();
    copy.write(energy, "262143328000\n")?;
    sum.add(1_000, meter.read()?)?;
    // 850 µJ to the end of the range, 4,999,150 µJ from there.
    copy.write(energy, "4999150\n")?;
    sum.add(2_000_001_000, meter.read()?)?;
    assert_eq!(sum.joules().map(|joules| (joules * 1e6).round()), Some(5_000_000.0));
    assert_eq!(sum.mean_watts().map(|watts| (watts * 1e6).round()), Some(2_500_000.0));
    Ok(())
}

#[test]
fn two_packages_are_two_counters() -> Outcome {
    let copy = Copy::of("pc")?;
    for (file, content) in [("name", "package-1\n"), ("energy_uj", "7\n"), ("max_energy_range_uj", "9\n")] {
        copy.write(&format!("sys/class/powercap/intel-rapl:2/{file}"), content)?;
    }
    let Reading::Energy(counters) = find(&copy)?.read()? else { return Err("not a counter".into()) };
    assert_eq!(counters.iter().map(|counter| counter.microjoules).collect::<Vec<_>>(), [183_512_345_678, 7]);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_no_meter() -> Outcome {
    let copy = Copy::of("pc")?;
    let folder = "sys/class/powercap/intel-rapl:0";
    for (energy, range) in [("", "9"), ("-1", "9"), ("x", "9"), ("10", "9"), ("1", "0"), ("18446744073709551616", "9"), ("1", "")]
    {
        copy.write(&format!("{folder}/energy_uj"), energy)?;
        copy.write(&format!("{folder}/max_energy_range_uj"), range)?;
        assert!(PowerMeter::find(&copy.root()).is_none(), "{energy} of {range}; and the battery is not in use");
    }
    copy.write("sys/class/power_supply/AC/online", "0\n")?;
    copy.write("sys/class/power_supply/BAT0/status", "Discharging\n")?;
    copy.write("sys/class/power_supply/BAT0/power_now", "11250000\n")?;
    let meter = find(&copy)?;
    assert_eq!((meter.name(), meter.read()?), ("battery", Reading::Power { microwatts: 11_250_000 }));
    Ok(())
}

#[test]
fn a_battery_tells_only_while_it_is_used() -> Outcome {
    let copy = Copy::of("android-phone")?;
    let meter = find(&copy)?;
    let battery = |file: &str| format!("sys/class/power_supply/battery/{file}");
    // Thousandths of an ampere, and positive: 413 mA times 3.9 V.
    copy.write(&battery("current_now"), "413\n")?;
    copy.write(&battery("voltage_now"), "3900\n")?;
    assert_eq!(meter.read(), Ok(Reading::Power { microwatts: 1_610_700 }));
    copy.write(&battery("current_now"), "-9223372036854775808\n")?;
    assert_eq!(meter.read(), Err(PowerError::Silent("battery")));
    copy.write("sys/class/power_supply/usb/online", "1\n")?;
    assert_eq!(meter.read(), Err(PowerError::PluggedIn));
    assert!(PowerMeter::find(&copy.root()).is_none());
    Ok(())
}

#[test]
fn a_module_without_a_monitored_input_is_the_sum_of_its_rails() -> Outcome {
    let copy = Copy::of("jetson-orin")?;
    let folder = "sys/class/hwmon/hwmon1";
    copy.write(&format!("{folder}/in1_label"), "VDD_GPU_SOC\n")?;
    copy.write(&format!("{folder}/in2_label"), "VDD_CPU_CV\n")?;
    assert!(PowerMeter::find(&copy.root()).is_none(), "two of three rails are not the module");
    copy.write(&format!("{folder}/in3_label"), "VIN_SYS_5V0\n")?;
    let meter = find(&copy)?;
    // 5,048 mV × 1,120 mA + 5,040 mV × 312 mA + 5,040 mV × 288 mA
    assert_eq!(meter.read(), Ok(Reading::Power { microwatts: 5_653_760 + 1_572_480 + 1_451_520 }));
    assert!(meter.blind_spots().contains("main rails"));
    Ok(())
}

#[test]
fn a_monitor_without_load_is_at_zero_and_not_below() -> Outcome {
    let copy = Copy::of("jetson-orin")?;
    let meter = find(&copy)?;
    let current = "sys/class/hwmon/hwmon1/curr1_input";
    copy.write(current, "-8\n")?;
    assert_eq!(meter.read(), Ok(Reading::Power { microwatts: 0 }));
    copy.write(current, "-5000\n")?;
    assert!(matches!(meter.read(), Err(PowerError::Absurd(..))));
    copy.write(current, "99999999999\n")?;
    assert!(matches!(meter.read(), Err(PowerError::Absurd(..))));
    copy.remove(current)?;
    assert_eq!(meter.read(), Err(PowerError::Silent("INA3221 VDD_IN")));
    Ok(())
}
