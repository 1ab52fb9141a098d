//! Why a profile could not be had.

use std::path::PathBuf;

/// Why a profile could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no profile of that name.
    #[error("unknown target `{name}` (known: {})", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The file could not be read.
    #[error("cannot read the target profile {}", path.display())]
    Read {
        /// The file, or the folder of the user's profiles.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is named otherwise than the profile in it.
    #[error("{} is the profile of `{found}`: `name` must be `{expected}`, as the file is named", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// What its name promises.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The file is not a profile: TOML, a missing or unknown key, a wrong type.
    #[error("bad target profile {origin}")]
    Parse {
        /// The file, or the name of an embedded profile.
        origin: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that is of the right type but makes no sense.
    #[error("bad target profile {origin}: `{field}` {problem}")]
    Value {
        /// The file, or the name of an embedded profile.
        origin: String,
        /// The key.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}
