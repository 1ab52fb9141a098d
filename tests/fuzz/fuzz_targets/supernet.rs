//! What `supernet.json` of a prepared super-network says, beside weights and a tokenizer that are whole.
#![no_main]

use edgewise_fuzz::{folder, mutate_json, seed, tiny_model};
use edgewise_onnx::{Source, testing::write_checkpoint};
use edgewise_supernet::{Finetuned, Importance, SUPERNET_FILE, SUPERNET_SCHEMA, SuperNetwork, SuperNetworkFile};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::fs;

/// Rotary tables of more are not made: time.
const MOST_POSITIONS: usize = 1 << 12;
const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"a"}}"#;

fuzz_target!(
    init: {
        let model = tiny_model();
        write_checkpoint(folder(), &model, 1).expect("the temporary folder can be written");
        fs::write(folder().join("tokenizer.json"), TOKENIZER).expect("the temporary folder can be written");
        let importance = Importance {
            layers: vec![0.5; model.num_layers],
            kv_groups: vec![vec![1.5; model.num_kv_heads]; model.num_layers],
            neurons: vec![vec![2.5; model.mlp_size]; model.num_layers],
            width: vec![0.25; model.hidden_size],
            heads: None,
            tokens: 100,
        };
        let trained = vec![model.full()];
        let file = SuperNetworkFile {
            schema: SUPERNET_SCHEMA.into(),
            source: Source { name: "tiny".into(), sha256: "0".repeat(64) },
            model,
            method: "contribution+block/2".into(),
            calibration_sha256: "1".repeat(64),
            importance,
            identity_max_abs_diff: 1e-6,
            identity_tolerance: 1e-3,
            finetuned: Some(Finetuned {
                parent_sha256: "2".repeat(64),
                settings: serde_json::json!({ "rank": 8 }),
                data_sha256: "3".repeat(64),
                steps: 30,
                tokens: 7680,
                trained,
            }),
        };
        let seeds = [serde_json::to_vec(&file).expect("it has no map")];
        fs::write(folder().join(SUPERNET_FILE), &seeds[0]).expect("the temporary folder can be written");
        SuperNetwork::open(folder()).expect("the seed is valid");
        seed(seeds);
    },
    |data: &[u8]| {
        fs::write(folder().join(SUPERNET_FILE), data).expect("the temporary folder can be written");
        let Ok(network) = SuperNetwork::open(folder()) else { return };
        network.config().validate().expect("it was validated");
        let mut order = network.layer_order();
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..network.config().num_layers as u32), "an order of other layers");
        // A configuration that the weights do not have is an error here at the latest.
        let Ok((index, chunks)) = network.index() else { return };
        assert_eq!(chunks.len(), index.chunks().len());
        let again = network.index().expect("it was made before").0;
        assert!(again == index, "an index from the cache is another");
        if network.config().max_positions > MOST_POSITIONS {
            return;
        }
        network.artifacts().digest(&network.full()).expect("the weights are whole");
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_json(0, data, size, max_size, seed) });
