//! Words of a profile that name one of a few things, spelt the same in files, on the command line and in JSON.

use serde::Deserialize;

/// What can run a model on a board of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// ONNX Runtime, a shared library on the device.
    Ort,
    /// tract, built into the agent.
    Tract,
}

impl Runtime {
    /// The name used in profiles, on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ort => "ort",
            Self::Tract => "tract",
        }
    }
}

/// What carries out parts of a model for ONNX Runtime, each only in a library that was built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Provider {
    /// The processor; every library has it, and it can do everything.
    #[serde(rename = "CPU")]
    Cpu,
    /// NVIDIA's graphics processors.
    #[serde(rename = "CUDA")]
    Cuda,
    /// The same, by engines that are compiled for one model on one board.
    #[serde(rename = "TensorRT")]
    TensorRt,
    /// Android's interface to accelerators.
    #[serde(rename = "NNAPI")]
    Nnapi,
    /// Other kernels for the processor.
    #[serde(rename = "XNNPACK")]
    Xnnpack,
    /// Arm's library of kernels for its processors.
    #[serde(rename = "ACL")]
    Acl,
    /// Qualcomm's accelerators.
    #[serde(rename = "QNN")]
    Qnn,
    /// Apple's accelerators.
    #[serde(rename = "CoreML")]
    CoreMl,
}

impl Provider {
    /// The name used in profiles and shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
            Self::TensorRt => "TensorRT",
            Self::Nnapi => "NNAPI",
            Self::Xnnpack => "XNNPACK",
            Self::Acl => "ACL",
            Self::Qnn => "QNN",
            Self::CoreMl => "CoreML",
        }
    }
}

/// What a board tells about itself while it measures. Those that tell energy stand last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensor {
    /// Clocks of the processors, and how they are chosen.
    Cpufreq,
    /// Temperatures of the processors.
    Thermal,
    /// The Raspberry Pi firmware's word on throttling.
    ThrottleBits,
    /// The word of Android's thermal service.
    AndroidThermal,
    /// How long work waited for processors, memory and storage.
    Pressure,
    /// The battery's charge and current.
    Battery,
    /// Jetson's current monitors.
    Ina3221,
    /// The Raspberry Pi 5's power management chip.
    Pmic,
    /// The energy counters of PC processors.
    Rapl,
}

impl Sensor {
    /// The name used in profiles, on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpufreq => "cpufreq",
            Self::Thermal => "thermal",
            Self::ThrottleBits => "throttle-bits",
            Self::AndroidThermal => "android-thermal",
            Self::Pressure => "pressure",
            Self::Battery => "battery",
            Self::Ina3221 => "ina3221",
            Self::Pmic => "pmic",
            Self::Rapl => "rapl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Words<T> {
        words: Vec<T>,
    }

    fn read<T: serde::de::DeserializeOwned>(words: &[&str]) -> Vec<T> {
        let parsed: Words<T> = toml::from_str(&format!("words = {words:?}")).unwrap();
        parsed.words
    }

    #[test]
    fn names_are_what_files_hold() {
        let providers = ["CPU", "CUDA", "TensorRT", "NNAPI", "XNNPACK", "ACL", "QNN", "CoreML"];
        assert_eq!(read::<Provider>(&providers).into_iter().map(Provider::name).collect::<Vec<_>>(), providers);
        let sensors =
            ["cpufreq", "thermal", "throttle-bits", "android-thermal", "pressure", "battery", "ina3221", "pmic", "rapl"];
        assert_eq!(read::<Sensor>(&sensors).into_iter().map(Sensor::name).collect::<Vec<_>>(), sensors);
        let runtimes = ["ort", "tract"];
        assert_eq!(read::<Runtime>(&runtimes).into_iter().map(Runtime::name).collect::<Vec<_>>(), runtimes);
    }
}
