//! What comes with the program: the demo model and two public-domain texts.

use crate::Error;
use std::path::Path;

/// Text for importance scores.
pub const CALIBRATION_TEXT: &str = include_str!("../../assets/calibration.txt");
/// Text for perplexity; no passage of it is in [`CALIBRATION_TEXT`] or was seen by the demo model.
pub const HELD_OUT_TEXT: &str = include_str!("../../assets/heldout.txt");

const DEMO: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../assets/demo/config.json")),
    ("tokenizer.json", include_bytes!("../../assets/demo/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../assets/demo/model.safetensors")),
];

/// Writes the demo model as a Hugging Face folder, unless it is there already.
///
/// # Errors
/// [`Error::Io`].
pub fn write_demo(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    for (name, bytes) in DEMO {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        let partial = folder.join(format!(".{name}.{}", std::process::id()));
        std::fs::write(&partial, bytes).map_err(Error::io("write", &partial))?;
        std::fs::rename(&partial, &path).map_err(Error::io("write", &path))?;
    }
    Ok(())
}
