//! `host export`: the ONNX artifact of a candidate.

use super::studies;
use crate::{cli::Context, exit_code, failure::Failure, search::sub_network};
use std::path::PathBuf;

/// Flags of `host export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `[STUDY] CANDIDATE`: the study [default: the newest], and the candidate's id, a clear beginning of it, or `baseline`
    #[arg(required = true, num_args = 1..=2, value_name = "STUDY] [CANDIDATE")]
    names: Vec<String>,
    /// Folder for the artifact; made if needed
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    id: String,
    artifact: String,
    artifact_sha256: String,
    artifact_bytes: u64,
    parameters: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let (study, id) = match &self.names[..] {
            [study, id] => (Some(PathBuf::from(study)), id),
            [id] => (None, id),
            _ => return Err(Failure::usage("give a candidate")),
        };
        let study = studies::open(study.as_deref(), context)?;
        let record = study.candidate(id)?;
        if self.output.is_file() {
            return Err(Failure::usage(format!("`{}` is a file, a folder is needed", self.output.display())));
        }
        let supernet = study.supernet(record, context)?;
        let sub = sub_network(&record.candidate, &supernet)?;
        let artifact = supernet.artifacts().write(&sub, &self.output)?;
        artifact.write_probe(&supernet.network(64)?.probe(&sub)?)?;
        if let Some(measured) = record.artifact.as_ref().filter(|a| a.sha256 != artifact.sha256) {
            let message = format!("the artifact made now ({}) is not the one measured ({})", artifact.sha256, measured.sha256);
            return Err(Failure::new(exit_code::ARTIFACT, message).hint("the study was made by another version of this program"));
        }
        let printer = context.printer;
        if printer.json {
            return printer.json(&Document {
                schema: "edgewise.export/1",
                id: record.id.clone(),
                artifact: self.output.display().to_string(),
                artifact_bytes: artifact.bytes(),
                parameters: artifact.manifest.parameters,
                artifact_sha256: artifact.sha256,
            });
        }
        printer.note(&format!("{}: {} bytes, sha256 {}", record.id, artifact.bytes(), artifact.sha256));
        printer.data(&format!("{}\n", self.output.display()))
    }
}
