//! What a reader must know of everything that a device measured, before any number.

use crate::{
    data::Device,
    markup::{escape, put},
};

/// The flags in words, where there are any. One that is not known is shown as it came.
pub(crate) fn flags(out: &mut String, device: &Device) {
    if device.flags.is_empty() {
        return;
    }
    out.push_str(r#"<div class="card flags" role="note"><h3>To know before any number below</h3><ul>"#);
    for flag in &device.flags {
        put!(out, r#"<li><code class="tag flag">{}</code> {}</li>"#, escape(flag), meaning(flag).unwrap_or_default());
    }
    out.push_str("</ul></div>");
}

fn meaning(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "sentinel_moved" => {
            "The baseline, measured again at the start of every block, moved further than noise: the device was not the same \
             throughout. Nothing was rescaled; see its drift below."
        }
        "emulated" => "An emulator ran the models: these latencies are the emulator's and not the board's.",
        "governor" => "Clocks followed the load: short runs were slower than long ones.",
        "temperature" => "The processor was about as hot as where it is slowed down.",
        "cooling" => "The kernel was slowing something down to cool the device.",
        "firmware_throttling" => {
            "The firmware lowered the clock, for want of voltage or against heat, whatever the system reported."
        }
        "other_load" => "Other programs kept the processors busy while nothing was measured.",
        "jitter" => "The same computation took visibly different times; medians move by about as much between runs.",
        "memory" => "Little memory was free: models may have paged, or been killed, while they were timed.",
        "battery" => "The device ran on its battery; many lower their clocks then.",
        "allowed_processors" => "The agent was kept off some processors, the fastest among them.",
        "thermal_status" => "Android reported heat; it lowers clocks then.",
        "steal" => "A hypervisor gave the processors to other machines in between.",
        "cpu_pressure" => "Programs waited for a processor while nothing was measured.",
        "memory_pressure" => "Programs waited for memory while nothing was measured.",
        "io_pressure" => "Programs waited for storage while nothing was measured.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(flags: &[&str]) -> String {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let name = String::new();
        let mut device = Device {
            target: name.clone(),
            name,
            fingerprint: Vec::new(),
            front: Vec::new(),
            ties: Vec::new(),
            flags,
            hypervolume: None,
            comparison: Vec::new(),
            drift: Vec::new(),
        };
        let mut out = String::new();
        super::flags(&mut out, &device);
        device.flags.clear();
        let mut none = String::new();
        super::flags(&mut none, &device);
        assert_eq!(none, "");
        out
    }

    #[test]
    fn known_flags_have_a_sentence_and_others_stand_as_they_came() {
        let known = [
            "sentinel_moved",
            "emulated",
            "governor",
            "temperature",
            "cooling",
            "firmware_throttling",
            "other_load",
            "jitter",
            "memory",
            "battery",
            "allowed_processors",
            "thermal_status",
            "steal",
        ];
        for flag in known {
            let page = shown(&[flag]);
            assert!(page.contains(&format!("{flag}</code> ")) && page.contains(".</li>"), "{page}");
        }
        assert!(shown(&["emulated", "made_up <b>"]).ends_with("made_up &lt;b&gt;</code> </li></ul></div>"));
    }
}
