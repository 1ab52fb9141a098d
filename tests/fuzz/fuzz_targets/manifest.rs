//! The JSON beside an artifact's weights: its manifest, and the logits that a device is to compute.
#![no_main]

use edgewise_fuzz::{folder, mutate_json, seed, tiny_model};
use edgewise_onnx::{Artifact, MANIFEST_FILE, Manifest, PROBE_FILE, ProbeFile, ProbeStep, testing::write_artifact};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::{fs, sync::OnceLock};

/// The first byte says which file the rest is: the manifest, unless it is this.
const PROBE: u8 = b'p';

fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| write_artifact(folder(), &tiny_model(), &tiny_model().full()).expect("it can be written"))
}

fuzz_target!(
    init: {
        let manifest = fs::read(artifact().folder.join(MANIFEST_FILE)).expect("it was just written");
        let step = |feed| ProbeStep { feed, expect: vec![(0, 0.5), (5, -1.25)] };
        let probe = ProbeFile { steps: vec![step(vec![1, 2]), step(vec![3])], tolerance: 0.002 };
        seed([[b"m", &manifest[..]].concat(), [&[PROBE], &serde_json::to_vec(&probe).expect("it has no map")[..]].concat()]);
    },
    |data: &[u8]| {
        let Some((&kind, text)) = data.split_first() else { return };
        let folder = &artifact().folder;
        if kind == PROBE {
            fs::write(folder.join(PROBE_FILE), text).expect("the temporary folder can be written");
            let Ok(probe) = ProbeFile::read(folder) else { return };
            let probe = probe.expect("it is there");
            let logits = probe.steps.iter().flat_map(|step| &step.expect).map(|(_, logit)| logit);
            assert!(logits.chain([&probe.tolerance]).all(|number| number.is_finite()), "every difference is within infinity");
            artifact().write_probe(&probe).expect("the temporary folder can be written");
            let again = ProbeFile::read(folder).map(|again| serde_json::to_string(&again).expect("it has no map"));
            assert_eq!(again.ok(), serde_json::to_string(&probe).ok(), "a probe that was written is the same");
            return;
        }
        fs::write(folder.join(MANIFEST_FILE), text).expect("the temporary folder can be written");
        let Ok((manifest, bytes)) = Manifest::read(folder) else { return };
        assert_eq!(bytes, text);
        assert!(manifest.files.keys().all(|name| !name.contains('/') && name != ".." && name != "."), "a way out of the folder");
        let full = manifest.model.parameters(&manifest.model.full());
        assert!(manifest.model.parameters(&manifest.candidate) <= full);
        fs::write(folder.join(MANIFEST_FILE), manifest.to_bytes()).expect("the temporary folder can be written");
        assert!(Manifest::read(folder).is_ok_and(|(again, _)| again == manifest), "a manifest that was written is the same");
        if let Ok(artifact) = Artifact::open(folder) {
            let _ = artifact.verify();
            assert!(artifact.bytes() > 0);
        }
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_json(1, data, size, max_size, seed) });
