//! How a candidate gets to a device: as a recipe for a super-network that is there already, or as the files of its artifact.

use crate::{devices::Ready, failure::Failure, measuring::TrialSpec};
use edgewise_fleet::{Blob, Content, Error};
use edgewise_onnx::{
    Artifact, ArtifactDigest, ContentHash, DATA_FILE, MODEL_FILE, Manifest, NotAHash, Precision, ProbeFile, Recipe,
    SHARED_DATA_FILE, SubNetwork,
};
use edgewise_protocol::{ArtifactFile, BlobId, DeviceDescription, ErrorCode, Form, Measurement, Progress, Runtime, Source};
use edgewise_supernet::SuperNetwork;
use std::{collections::BTreeMap, path::PathBuf, sync::atomic::AtomicBool};

/// A super-network as it is sent: its index and the chunks that the index names, straight from the mapped weights.
pub(crate) struct Freight<'a> {
    index: Vec<u8>,
    name: ContentHash,
    chunks: Vec<Blob<'a>>,
    /// Of all chunks.
    bytes: u64,
}

impl<'a> Freight<'a> {
    /// Hashes the super-network, unless that was done before.
    pub(crate) fn of(supernet: &'a SuperNetwork) -> Result<Self, Failure> {
        let (index, sources) = supernet.index()?;
        let blob = |source: edgewise_onnx::ChunkSource<'a>| Blob {
            id: BlobId(source.chunk.sha256.0),
            size: source.chunk.bytes,
            content: Content::Memory(source.pieces),
        };
        Ok(Self {
            name: index.sha256(),
            bytes: index.bytes(),
            chunks: sources.into_iter().map(blob).collect(),
            index: index.to_bytes(),
        })
    }

    /// The recipe of the artifact of this name that is made of it.
    pub(crate) fn recipe(&self, artifact: &str, precision: Precision, sub: &SubNetwork) -> Result<Vec<u8>, Failure> {
        let artifact = artifact.parse().map_err(|e: NotAHash| Failure::new(crate::exit_code::BUG, e.to_string()))?;
        Ok(Recipe { index: self.name, artifact, precision, sub: sub.clone() }.to_bytes())
    }

    /// Whether the device has the room, if it throws away everything else that it keeps.
    pub(crate) fn fits(&self, description: &DeviceDescription) -> bool {
        let room = description.free_bytes.saturating_add(description.stored_bytes).min(description.budget_bytes);
        self.bytes + self.index.len() as u64 <= room
    }

    /// Sends what the device lacks of it. The index goes last: where it is, everything else is.
    fn send(&self, ready: &mut Ready, cancel: &AtomicBool) -> Result<(), Error> {
        ready.device.ensure_blobs(&self.chunks, cancel)?;
        let index = Blob { id: BlobId(self.name.0), size: self.index.len() as u64, content: Content::Memory(vec![&self.index]) };
        ready.device.ensure_blobs(&[index], cancel).map(drop)
    }
}

/// All super-networks of a study: its own, and those sorted otherwise that baselines are cut from.
pub(crate) struct Freights<'a> {
    pub(crate) own: Freight<'a>,
    /// By the order that a candidate names.
    pub(crate) others: BTreeMap<String, Freight<'a>>,
}

impl<'a> Freights<'a> {
    /// That of the super-network which a candidate of this order is cut from.
    pub(crate) fn of(&self, order: Option<&str>) -> Result<&Freight<'a>, Failure> {
        match order {
            None => Ok(&self.own),
            Some(order) => self
                .others
                .get(order)
                .ok_or_else(|| Failure::new(crate::exit_code::BUG, format!("no super-network is sorted by `{order}`"))),
        }
    }
}

/// How a device gets candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By recipes.
    Recipe,
    /// By files, since the device lacks the room for the super-network or the user wants it so.
    Files,
}

/// A candidate ready to be sent and measured.
#[derive(Debug, Clone)]
pub(crate) struct Shipment {
    /// The artifact's name.
    pub(crate) sha256: String,
    /// The order of the super-network that it is cut from, where that is not the study's own.
    pub(crate) order: Option<String>,
    pub(crate) manifest: Manifest,
    probe: Option<ProbeFile>,
    recipe: Option<Vec<u8>>,
    /// Where its files are on the host, if they are.
    folder: Option<PathBuf>,
}

impl Shipment {
    /// A candidate whose artifact exists on the host.
    pub(crate) fn of_artifact(artifact: Artifact, probe: Option<ProbeFile>) -> Self {
        let Artifact { folder, sha256, manifest } = artifact;
        Self { sha256, order: None, manifest, probe, recipe: None, folder: Some(folder) }
    }

    /// A candidate that devices make themselves.
    pub(crate) fn of_recipe(made: ArtifactDigest, recipe: Vec<u8>, probe: Option<ProbeFile>) -> Self {
        Self { sha256: made.sha256.to_string(), order: None, manifest: made.manifest, probe, recipe: Some(recipe), folder: None }
    }

    /// The same for devices that can make it themselves, too.
    pub(crate) fn with_recipe(self, recipe: Vec<u8>) -> Self {
        Self { recipe: Some(recipe), ..self }
    }

    /// The same, cut from a super-network of this order.
    pub(crate) fn in_order(self, order: Option<&str>) -> Self {
        Self { order: order.map(str::to_owned), ..self }
    }

    /// Total size of the artifact's files, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|f| f.bytes).sum()
    }

    /// Whether a device can get it this way.
    pub(crate) fn can(&self, way: Way) -> bool {
        match way {
            Way::Recipe => self.recipe.is_some(),
            Way::Files => self.folder.is_some(),
        }
    }

    /// What the device is told to run, once it has everything for it.
    pub(crate) fn source(&self, way: Way, form: Form) -> Result<Source, Failure> {
        match (way, &self.recipe) {
            (Way::Recipe, Some(bytes)) => Ok(Source::Recipe { bytes: bytes.clone(), form }),
            _ => Ok(Source::Files(self.files()?.into_iter().map(|(file, _)| file).collect())),
        }
    }

    /// The files that a runtime needs, and where they are.
    fn files(&self) -> Result<Vec<(ArtifactFile, PathBuf)>, Failure> {
        let folder = self.folder.clone().unwrap_or_default();
        let bad = |reason: String| edgewise_onnx::Error::NotAnArtifact { path: folder.clone(), reason };
        let mut out = Vec::new();
        for name in [MODEL_FILE, DATA_FILE, SHARED_DATA_FILE] {
            let entry = self.manifest.files.get(name).ok_or_else(|| bad(format!("`{name}` is not in its manifest")))?;
            let blob = entry.sha256.parse().map_err(bad)?;
            out.push((ArtifactFile { name: name.to_owned(), blob, size: entry.bytes }, folder.join(name)));
        }
        Ok(out)
    }

    /// Sends what the device lacks.
    pub(crate) fn send(
        &self,
        ready: &mut Ready,
        way: Way,
        freight: Option<&Freight<'_>>,
        cancel: &AtomicBool,
    ) -> Result<(), Fault> {
        if let (Way::Recipe, Some(freight)) = (way, freight) {
            return Ok(freight.send(ready, cancel)?);
        }
        let files = self.files().map_err(Fault::Host)?;
        let blobs: Vec<Blob<'_>> = files.iter().map(|(file, path)| Blob::file(file.blob, file.size, path)).collect();
        ready.device.ensure_blobs(&blobs, cancel)?;
        Ok(())
    }

    /// One trial.
    pub(crate) fn measure(
        &self,
        ready: &mut Ready,
        (way, form): (Way, Form),
        runtime: Runtime,
        trial: &TrialSpec,
        progress: &mut dyn FnMut(&Progress),
        cancel: &AtomicBool,
    ) -> Result<Measurement, Fault> {
        let source = self.source(way, form).map_err(Fault::Host)?;
        let vocabulary = self.manifest.model.vocab_size as u32;
        let job = trial.job(ready, source, runtime, self.probe.as_ref(), vocabulary);
        Ok(ready.device.measure(&job, progress, cancel)?)
    }
}

/// Measures with every runtime given and keeps the fastest by `latency`; `warn` is told of those that fail beside others.
pub(crate) fn fastest(
    runtimes: &[Runtime],
    latency: impl Fn(&Measurement) -> f64,
    mut once: impl FnMut(Runtime) -> Result<Measurement, Fault>,
    mut warn: impl FnMut(String),
) -> Result<Measurement, Fault> {
    let mut best: Option<Measurement> = None;
    let mut first_fault = None;
    for &runtime in runtimes {
        match once(runtime) {
            Ok(found) if best.as_ref().is_none_or(|b| latency(&found) < latency(b)) => best = Some(found),
            Ok(_) => {}
            // A runtime that fails is no reason to give up the other one; a connection that fails is.
            Err(Fault::Device(error @ Error::Device { .. })) => {
                if runtimes.len() > 1 {
                    warn(format!("without {}: {error}", runtime.name()));
                }
                first_fault = first_fault.or(Some(Fault::Device(error)));
            }
            Err(fault) => return Err(fault),
        }
    }
    match (best, first_fault) {
        (Some(best), _) => Ok(best),
        (None, Some(fault)) => Err(fault),
        (None, None) => unreachable!("a ready device has a runtime"),
    }
}

/// Why a candidate was not measured.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The host's own files.
    Host(Failure),
    /// The device, or the way to it.
    Device(Error),
    /// The device has too little storage for the super-network, whatever it throws away.
    NoRoom,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Host(failure) => failure,
            Fault::Device(error) => error.into(),
            Fault::NoRoom => Self::new(crate::exit_code::AGENT, "the device has no room for the super-network"),
        }
    }
}

impl Fault {
    /// The device has not the room.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, Self::NoRoom | Self::Device(Error::Device { code: ErrorCode::NoSpace, .. }))
    }

    /// The device threw away what it needs: it cleans its store, or somebody did.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Device(Error::Device { code: ErrorCode::MissingBlob, .. }))
    }
}
