//! What a worker is given: an artifact in a folder, or what it takes to make one in memory.
//!
//! Contract: what is given stays in the store as long as the value that gives it.

use crate::{
    cancel::Cancel,
    describe::library,
    error::wire,
    runtime::Library,
    store::{Artifact, Folder, Held, Store, SuperNetwork, check_names},
    worker::{Launcher, Material, Order, Outcome, Plan, Step, onnx_error, read_index, supervise},
};
use edgewise_onnx::{ArtifactWriter, ChunkedWeights, MAX_RECIPE_BYTES, Recipe};
use edgewise_protocol::{ErrorCode, Form, GenerateJob, MeasureJob, OrtLibrary, Runtime, Source, Stage, WireError};
use std::time::Duration;

/// Checks everything about a source that needs no look at the store.
///
/// # Errors
/// [`ErrorCode::BadRequest`].
pub(crate) fn check_source(source: &Source) -> Result<(), WireError> {
    match source {
        Source::Files(files) => check_names(files),
        Source::Recipe { bytes, .. } if bytes.len() > MAX_RECIPE_BYTES => {
            let message = format!("a recipe of {} bytes; at most {MAX_RECIPE_BYTES} can be", bytes.len());
            Err(wire(ErrorCode::BadRequest, message))
        }
        Source::Recipe { .. } => Ok(()),
    }
}

/// What a host wants to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    source: &'a Source,
    runtime: Runtime,
    ort: &'a OrtLibrary,
    /// For making files.
    deadline: Duration,
}

impl<'a> From<&'a MeasureJob> for Wanted<'a> {
    fn from(job: &'a MeasureJob) -> Self {
        let deadline = Duration::from_millis(u64::from(job.deadline_ms));
        Self { source: &job.source, runtime: job.runtime, ort: &job.ort, deadline }
    }
}

impl<'a> From<&'a GenerateJob> for Wanted<'a> {
    fn from(job: &'a GenerateJob) -> Self {
        let deadline = Duration::from_millis(u64::from(job.deadline_ms));
        Self { source: &job.source, runtime: job.runtime, ort: &job.ort, deadline }
    }
}

/// What a trial uses; it stays in the store as long as this lives, and what was made for it goes then.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) material: Material,
    pub(crate) library: Library,
    kept: Kept,
    _library: Option<Held>,
}

#[derive(Debug)]
enum Kept {
    Artifact(#[expect(dead_code, reason = "its drop clears the folder")] Artifact),
    Written(#[expect(dead_code, reason = "its drop clears the folder")] Folder),
    SuperNetwork(Box<SuperNetwork>),
}

impl Prepared {
    /// Gathers the blobs of a job, and writes the artifact's files where the job wants them made here.
    ///
    /// # Errors
    /// [`ErrorCode::MissingBlob`], [`ErrorCode::NoSpace`], [`ErrorCode::BadRequest`], [`ErrorCode::OtherArtifact`],
    /// [`ErrorCode::Io`], and those of [`supervise`].
    pub(crate) fn new(
        store: &Store,
        launcher: &Launcher,
        wanted: Wanted<'_>,
        cancel: &Cancel,
        stage: impl FnMut(Stage),
    ) -> Result<Self, WireError> {
        let (material, kept) = match wanted.source {
            Source::Files(files) => {
                let artifact = Artifact::assemble(store, files)?;
                let path = artifact.folder().to_string_lossy().into_owned();
                let bytes = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
                (Material::Folder { path, bytes, build_ns: 0 }, Kept::Artifact(artifact))
            }
            Source::Recipe { bytes, form } => made_here(store, launcher, (bytes, *form), wanted.deadline, cancel, stage)?,
        };
        // After the artifact, so that it counts as used later: the next artifact needs it again.
        let (library, held) = match wanted.runtime {
            Runtime::Tract => (Library::Default, None),
            Runtime::Ort => library(store, wanted.ort)?,
        };
        Ok(Self { material, library, kept, _library: held })
    }

    /// What to tell the host if an attempt failed with `error`: an artifact that came out wrong because a chunk went bad on
    /// the device's disk is no fault of the recipe. Damaged chunks are dropped, so that they are sent again.
    pub(crate) fn explain(&self, store: &Store, error: WireError) -> WireError {
        match &self.kept {
            Kept::SuperNetwork(network) => explain(store, network, error),
            _ => error,
        }
    }
}

fn made_here(
    store: &Store,
    launcher: &Launcher,
    (bytes, form): (&[u8], Form),
    deadline: Duration,
    cancel: &Cancel,
    mut stage: impl FnMut(Stage),
) -> Result<(Material, Kept), WireError> {
    let recipe = Recipe::parse(bytes).map_err(|e| onnx_error(&e))?;
    let network = store.use_super_network(edgewise_protocol::BlobId(recipe.index.0), read_index)?;
    let plan = Plan { recipe: bytes.to_vec(), blobs: store.blobs().to_string_lossy().into_owned() };
    match form {
        Form::Memory => Ok((Material::Plan(plan), Kept::SuperNetwork(Box::new(network)))),
        Form::Files => {
            recipe.check(network.index(), &recipe.index).map_err(|e| onnx_error(&e))?;
            let folder = store.make_folder(&recipe.artifact.to_string()[..16], artifact_bytes(&network, &recipe, store)?)?;
            let path = folder.path().to_string_lossy().into_owned();
            let order = Order::Build { plan, folder: path.clone() };
            let hear = |step| {
                if let Step::Stage(at) = step {
                    stage(at);
                }
            };
            match supervise(launcher, &order, deadline, cancel, hear) {
                Ok(Outcome::Built { ns, bytes }) => {
                    // Write-back would disturb the measurement that follows.
                    store.sync()?;
                    Ok((Material::Folder { path, bytes, build_ns: ns }, Kept::Written(folder)))
                }
                Ok(_) => Err(wire(ErrorCode::Internal, "the worker answered another question")),
                Err(error) => Err(explain(store, &network, error)),
            }
        }
    }
}

/// Bytes that the artifact's files will take, within a mebibyte: the graph and the texts beside it are small.
fn artifact_bytes(network: &SuperNetwork, recipe: &Recipe, store: &Store) -> Result<u64, WireError> {
    const REST: u64 = 1 << 20;
    let index = network.index();
    let weights = ChunkedWeights::open(index, |hash| store.blobs().join(hash.to_string())).map_err(|e| onnx_error(&e))?;
    let sizes = ArtifactWriter::on_device(index, &weights).data_bytes(&recipe.sub).map_err(|e| onnx_error(&e))?;
    Ok(sizes.iter().fold(REST, |sum, size| sum.saturating_add(*size)))
}

fn explain(store: &Store, network: &SuperNetwork, error: WireError) -> WireError {
    if error.code != ErrorCode::OtherArtifact {
        return error;
    }
    match store.drop_damaged(network) {
        0 => error,
        n => {
            wire(ErrorCode::MissingBlob, format!("{n} chunks of the super-network were damaged on the device; they were dropped"))
        }
    }
}
