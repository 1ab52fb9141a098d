//! Artifacts that the device makes of a super-network's chunks.

use crate::support::{Agent, code, endless_job, files_of, id_of, ort_library, short_job};
use edgewise_onnx::{
    Artifact, ArtifactWriter, ContentHash, Extras, MappedWeights, Precision, Recipe, Source as Origin, SubNetwork,
    SuperNetworkIndex,
    testing::{tiny_config, tiny_narrow_heads, tiny_sub_network, write_tiny_checkpoint},
};
use edgewise_protocol::{
    BlobId, BlobState, ErrorCode, Flag, Form, MeasureJob, Measurement, OrtLibrary, Probe, ProbePoint, Reply, Request, Runtime,
    Source, Stage,
};
use std::{fs, path::Path};

/// The host's side: a super-network, and what it makes of it.
struct Host {
    folder: tempfile::TempDir,
    index: SuperNetworkIndex,
    chunks: Vec<Vec<u8>>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_checkpoint(folder.path(), 1).unwrap();
        let weights = MappedWeights::open(folder.path()).unwrap();
        let (index, sources) = SuperNetworkIndex::of(&tiny_config(), &weights, &origin(), &extras()).unwrap();
        let chunks = sources.iter().map(|source| source.pieces.concat()).collect();
        Self { folder, index, chunks }
    }

    /// Sends everything that recipes need.
    fn ship(&self, agent: &mut Agent) {
        agent.put(&self.index.to_bytes());
        for chunk in &self.chunks {
            agent.put(chunk);
        }
    }

    fn artifact(&self, sub: &SubNetwork, into: &Path) -> Artifact {
        let weights = MappedWeights::open(self.folder.path()).unwrap();
        ArtifactWriter::new(&tiny_config(), &weights, origin(), extras()).write(sub, into).unwrap()
    }

    fn recipe(&self, sub: &SubNetwork, artifact: &str) -> Recipe {
        let artifact: ContentHash = artifact.parse().unwrap();
        Recipe { index: self.index.sha256(), artifact, precision: Precision::Fp32, sub: sub.clone() }
    }
}

fn origin() -> Origin {
    Origin { name: "tiny".into(), sha256: "0".repeat(64) }
}

fn extras() -> Extras {
    Extras { tokenizer: Some(b"{}".to_vec()), model_type: "llama".into() }
}

fn job(recipe: &Recipe, form: Form, runtime: Runtime) -> MeasureJob {
    MeasureJob { source: Source::Recipe { bytes: recipe.to_bytes(), form }, ..short_job(vec![], runtime) }
}

/// A probe whose expectations are what the agent itself computed for the artifact that was pushed as files.
fn learn_probe(agent: &mut Agent, pushed: &MeasureJob) -> Probe {
    let probe = |expected: [f32; 2]| Probe {
        points: vec![
            ProbePoint { feed: vec![1, 2, 3], expect: vec![(5, expected[0])] },
            ProbePoint { feed: vec![4], expect: vec![(90, expected[1])] },
        ],
        tolerance: 1e-6,
    };
    let mut expected = [1e6, 1e6];
    for step in 0..2 {
        let asking = MeasureJob { probe: Some(probe(expected)), ..pushed.clone() };
        let error = agent.call(Request::Measure(Box::new(asking))).unwrap_err();
        assert_eq!(error.code, ErrorCode::ProbeMismatch, "{error}");
        expected[step] = error.message.split(" is ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    }
    probe(expected)
}

fn same_artifact(runtime: Runtime, ort: &OrtLibrary) {
    let host = Host::new();
    let mut agent = Agent::new();
    host.ship(&mut agent);
    for sub in [tiny_config().full(), tiny_sub_network(), tiny_narrow_heads()] {
        let folder = tempfile::tempdir().unwrap();
        let artifact = host.artifact(&sub, folder.path());
        let files = agent.put_folder(folder.path());
        let pushed = MeasureJob { ort: ort.clone(), ..short_job(files, runtime) };
        let probe = learn_probe(&mut agent, &pushed);
        let check = |found: &Measurement| {
            assert_eq!(found.probe_max_abs_diff, Some(0.0), "the same model, bit for bit");
            assert!(!found.flags.contains(&Flag::Unverified));
            assert!(found.tpot.n >= 15, "{found:?}");
        };
        let by_files = agent.measured(MeasureJob { probe: Some(probe.clone()), ..pushed });
        check(&by_files);
        assert_eq!(by_files.build_ns, 0);
        let recipe = host.recipe(&sub, &artifact.sha256);
        for form in [Form::Memory, Form::Files] {
            let asked = MeasureJob { probe: Some(probe.clone()), ort: ort.clone(), ..job(&recipe, form, runtime) };
            let made = agent.measured(asked);
            check(&made);
            assert!(made.build_ns > 0);
        }
        let left = fs::read_dir(agent.store.path().join("artifacts")).unwrap().count();
        assert_eq!(left, 0, "what was made is gone");
    }
}

#[test]
fn tract_gets_the_same_artifact_from_a_recipe() {
    same_artifact(Runtime::Tract, &OrtLibrary::Default);
}

#[test]
fn onnx_runtime_gets_the_same_artifact_from_a_recipe() {
    let Some(library) = ort_library() else { return };
    same_artifact(Runtime::Ort, &OrtLibrary::Path(library));
}

#[test]
fn nothing_is_written_for_an_artifact_in_memory() {
    let host = Host::new();
    let mut agent = Agent::new();
    host.ship(&mut agent);
    let folder = tempfile::tempdir().unwrap();
    let artifact = host.artifact(&tiny_sub_network(), folder.path());
    let recipe = host.recipe(&tiny_sub_network(), &artifact.sha256);
    let endless = endless_job(vec![]);
    let asked = MeasureJob { plan: endless.plan, deadline_ms: endless.deadline_ms, ..job(&recipe, Form::Memory, Runtime::Tract) };
    let before = everything(agent.store.path());
    let id = agent.ask(Request::Measure(Box::new(asked)));
    agent.wait_for_stage(id, Stage::Build);
    agent.wait_for_stage(id, Stage::Warm);
    assert_eq!(everything(agent.store.path()), before);
    let worker = agent.workers()[0];
    let open = fs::read_dir(format!("/proc/{worker}/fd")).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let store = agent.store.path().canonicalize().unwrap();
    assert_eq!(open.filter(|file| file.starts_with(&store)).count(), 0, "and no file of the store is open");
}

/// Names of all files below a folder.
fn everything(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(everything(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn another_artifact_than_the_hosts_is_refused() {
    let host = Host::new();
    let mut agent = Agent::new();
    host.ship(&mut agent);
    let wrong = host.recipe(&tiny_sub_network(), &"7".repeat(64));
    for form in [Form::Memory, Form::Files] {
        let error = agent.call(Request::Measure(Box::new(job(&wrong, form, Runtime::Tract)))).unwrap_err();
        assert_eq!(error.code, ErrorCode::OtherArtifact, "{error}");
        assert!(error.message.contains(&"7".repeat(64)), "{error}");
    }
    assert_eq!(fs::read_dir(agent.store.path().join("artifacts")).unwrap().count(), 0);
}

#[test]
fn recipes_that_make_no_sense_are_bad_requests() {
    let host = Host::new();
    let mut agent = Agent::new();
    host.ship(&mut agent);
    let beyond = SubNetwork { width: 4096, ..tiny_sub_network() };
    let bad = job(&host.recipe(&beyond, &"7".repeat(64)), Form::Memory, Runtime::Tract);
    assert_eq!(code(agent.call(Request::Measure(Box::new(bad)))), ErrorCode::BadRequest);
    let garbage = Source::Recipe { bytes: b"{".to_vec(), form: Form::Memory };
    let bad = MeasureJob { source: garbage, ..short_job(vec![], Runtime::Tract) };
    assert_eq!(code(agent.call(Request::Measure(Box::new(bad)))), ErrorCode::BadRequest);
    // A blob that is there and is no index.
    let other = agent.put(b"no index");
    let recipe = Recipe { index: ContentHash(other.0), ..host.recipe(&tiny_sub_network(), &"7".repeat(64)) };
    assert_eq!(code(agent.call(Request::Measure(Box::new(job(&recipe, Form::Memory, Runtime::Tract))))), ErrorCode::BadRequest);
}

#[test]
fn a_missing_index_or_chunk_is_said() {
    let host = Host::new();
    let mut agent = Agent::new();
    let recipe = host.recipe(&tiny_sub_network(), &"7".repeat(64));
    let ask = |agent: &mut Agent| agent.call(Request::Measure(Box::new(job(&recipe, Form::Memory, Runtime::Tract)))).unwrap_err();
    let error = ask(&mut agent);
    assert_eq!(error.code, ErrorCode::MissingBlob);
    assert!(error.message.contains("index") && error.message.contains(&host.index.sha256().to_string()), "{error}");
    agent.put(&host.index.to_bytes());
    let error = ask(&mut agent);
    assert_eq!(error.code, ErrorCode::MissingBlob);
    let count = host.index.chunks().len();
    assert!(error.message.starts_with(&format!("{count} of {count} chunks")), "{error}");
}

#[test]
fn a_damaged_chunk_is_dropped_and_asked_for_again() {
    let host = Host::new();
    let mut agent = Agent::new();
    host.ship(&mut agent);
    let folder = tempfile::tempdir().unwrap();
    let artifact = host.artifact(&tiny_sub_network(), folder.path());
    let recipe = host.recipe(&tiny_sub_network(), &artifact.sha256);
    // What a bad card does: other bytes under the same name.
    let blob = id_of(&host.chunks[0]);
    let path = agent.store.path().join("blobs").join(blob.to_string());
    let mut bytes = host.chunks[0].clone();
    for byte in &mut bytes {
        *byte ^= 1;
    }
    for form in [Form::Memory, Form::Files] {
        fs::write(&path, &bytes).unwrap();
        let error = agent.call(Request::Measure(Box::new(job(&recipe, form, Runtime::Tract)))).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingBlob, "{error}");
        assert!(error.message.contains("1 chunks") && error.message.contains("damaged"), "{error}");
        let Ok(Reply::Have(states)) = agent.call(Request::Have { blobs: vec![blob] }) else { panic!("no answer") };
        assert_eq!(states, [BlobState::Missing]);
        agent.put(&host.chunks[0]);
    }
    agent.measured(job(&recipe, Form::Memory, Runtime::Tract));
}

#[test]
fn an_artifact_that_does_not_fit_the_budget_is_not_written() {
    let host = Host::new();
    let bytes: usize = host.chunks.iter().map(Vec::len).sum();
    let mut agent = Agent::with_budget(bytes as u64 + 100_000);
    agent.put(&host.index.to_bytes());
    host.ship(&mut agent);
    let folder = tempfile::tempdir().unwrap();
    let artifact = host.artifact(&tiny_sub_network(), folder.path());
    let recipe = host.recipe(&tiny_sub_network(), &artifact.sha256);
    let error = agent.call(Request::Measure(Box::new(job(&recipe, Form::Files, Runtime::Tract)))).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
    agent.measured(job(&recipe, Form::Memory, Runtime::Tract));
}

#[test]
fn a_super_network_in_use_is_not_driven_out() {
    let host = Host::new();
    let mut agent = Agent::with_budget(1);
    let all: Vec<BlobId> =
        std::iter::once(id_of(&host.index.to_bytes())).chain(host.chunks.iter().map(|chunk| id_of(chunk))).collect();
    let have = |agent: &mut Agent, blobs: Vec<BlobId>| match agent.call(Request::Have { blobs }) {
        Ok(Reply::Have(states)) => states,
        other => panic!("{other:?}"),
    };
    have(&mut agent, all.clone());
    host.ship(&mut agent);
    let folder = tempfile::tempdir().unwrap();
    let artifact = host.artifact(&tiny_sub_network(), folder.path());
    let recipe = host.recipe(&tiny_sub_network(), &artifact.sha256);
    let endless = endless_job(vec![]);
    let asked = MeasureJob { plan: endless.plan, deadline_ms: endless.deadline_ms, ..job(&recipe, Form::Memory, Runtime::Tract) };
    let id = agent.ask(Request::Measure(Box::new(asked)));
    agent.wait_for_stage(id, Stage::Warm);
    have(&mut agent, vec![id_of(b"something else")]);
    agent.put(&vec![0; 100_000]);
    assert!(have(&mut agent, all.clone()).iter().all(|state| *state == BlobState::Complete));
    agent.send(&edgewise_protocol::HostMessage::Cancel { id });
    assert_eq!(code(agent.reply(id)), ErrorCode::Cancelled);
    have(&mut agent, vec![id_of(b"something else")]);
    agent.put(&vec![0; 100_001]);
    assert!(have(&mut agent, all).iter().all(|state| *state == BlobState::Missing));
}

#[test]
fn a_pushed_artifact_still_needs_its_files() {
    let mut agent = Agent::new();
    let mut job = short_job(agent.put_tiny(), Runtime::Tract);
    files_of(&mut job)[0].blob = BlobId([9; 32]);
    assert_eq!(code(agent.call(Request::Measure(Box::new(job)))), ErrorCode::MissingBlob);
}
