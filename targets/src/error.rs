//! Why a profile could not be had.

use std::path::PathBuf;

/// Why a profile could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No profile of that name is built in.
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
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
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
