//! What is evaluated, loaded: whatever the user called it, it is a network, a sub-network of it and a tokenizer.

use super::Args;
use crate::{
    cli::Context,
    failure::Failure,
    model::{self, Located},
    search::sub_network,
};
use edgewise_onnx::{Artifact, MANIFEST_FILE, ModelConfig, SubNetwork};
use edgewise_search::Candidate;
use edgewise_supernet::{Checkpoint, Network, SuperNetwork, Tokenizer};
use std::path::Path;

/// A model that is ready.
pub(super) struct Opened {
    pub(super) network: Network,
    /// What of it is evaluated.
    pub(super) sub: SubNetwork,
    pub(super) tokenizer: Tokenizer,
    pub(super) parameters: u64,
}

impl Opened {
    /// Loads it for sequences of as many tokens as `positions` says.
    pub(super) fn new(args: &Args, context: &Context, positions: impl Fn(&ModelConfig) -> usize) -> Result<Self, Failure> {
        if let Some(config) = &args.candidate {
            let candidate = read_candidate(config)?;
            let calibration = args.calibration.as_deref();
            let order = candidate.order.as_deref();
            let heads = candidate.head_size.is_some();
            let supernet = model::open_in_order(&args.model, order, heads, calibration, &context.home, context.printer)?;
            let sub = sub_network(&candidate, &supernet)?;
            supernet.config().check(&sub).map_err(|e| Failure::usage(e.to_string()))?;
            return Self::prepared(supernet, sub, positions);
        }
        if Path::new(&args.model).join(MANIFEST_FILE).is_file() {
            let artifact = Artifact::open(Path::new(&args.model))?;
            artifact.verify()?;
            let (network, sub, tokenizer) = edgewise_supernet::open_artifact(&artifact, positions(&artifact.manifest.model))?;
            return Ok(Self { network, sub, tokenizer, parameters: artifact.manifest.parameters });
        }
        match model::locate(&args.model, &context.home)? {
            Located::Prepared(folder) => {
                let supernet = SuperNetwork::open(&folder)?;
                let full = supernet.full();
                Self::prepared(supernet, full, positions)
            }
            Located::Checkpoint(path) => {
                let checkpoint = Checkpoint::open(&path)?;
                let config = &checkpoint.config;
                let (sub, parameters) = (config.full(), config.parameters(&config.full()));
                let network = Network::load(config, &checkpoint, positions(config))?;
                Ok(Self { network, sub, tokenizer: checkpoint.tokenizer, parameters })
            }
        }
    }

    fn prepared(supernet: SuperNetwork, sub: SubNetwork, positions: impl Fn(&ModelConfig) -> usize) -> Result<Self, Failure> {
        let network = supernet.network(positions(supernet.config()))?;
        let parameters = supernet.config().parameters(&sub);
        Ok(Self { network, sub, tokenizer: supernet.tokenizer, parameters })
    }
}

fn read_candidate(text: &str) -> Result<Candidate, Failure> {
    let file = Path::new(text);
    let json = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        std::fs::read_to_string(file).map_err(|e| Failure::file("read", file, &e))?
    };
    serde_json::from_str(&json).map_err(|e| {
        Failure::usage(format!("not a candidate's configuration: {e}"))
            .hint(r#"for example {"layers":[0,1],"width":64,"kv_groups":[2,2],"mlp":[128,128]}"#)
    })
}
