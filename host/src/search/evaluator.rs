//! The worker that evaluates a candidate's quality and makes what devices need of it.

use crate::{
    exit_code,
    failure::Failure,
    shipment::{Freights, Shipment, Way},
    tasks::{Stopped, ask},
};
use edgewise_onnx::{ArtifactWriter, MappedWeights, ModelConfig, SubNetwork};
use edgewise_search::{Candidate, Quality, TaskScore};
use edgewise_supernet::{Error, Evaluation, Network, Reference, SuperNetwork, Tokenizer, evaluate, evaluate_against};
use edgewise_tasks::Plan;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    time::Instant,
};

/// The sub-network of `supernet` that a candidate describes: which rotary pairs smaller heads keep is for its scores to say.
pub(crate) fn sub_network(candidate: &Candidate, supernet: &SuperNetwork) -> Result<SubNetwork, Failure> {
    let pairs = candidate.head_size.map(|size| supernet.pairs(size)).transpose()?.flatten();
    Ok(with_pairs(candidate, pairs))
}

/// How many parameters a candidate has; which rotary pairs it keeps makes no difference.
pub(crate) fn parameters(candidate: &Candidate, config: &ModelConfig) -> u64 {
    let smaller = candidate.head_size.filter(|&size| (size as usize) < config.head_dim);
    config.parameters(&with_pairs(candidate, smaller.map(|size| (0..size / 2).collect())))
}

fn with_pairs(candidate: &Candidate, pairs: Option<Vec<u32>>) -> SubNetwork {
    SubNetwork {
        layers: candidate.layers.clone(),
        width: candidate.width,
        kv_groups: candidate.kv_groups.clone(),
        mlp: candidate.mlp.clone(),
        pairs,
    }
}

/// The candidate that describes a sub-network of the study's own order.
pub(crate) fn candidate(sub: &SubNetwork) -> Candidate {
    Candidate {
        layers: sub.layers.clone(),
        width: sub.width,
        kv_groups: sub.kv_groups.clone(),
        mlp: sub.mlp.clone(),
        head_size: sub.pairs.as_ref().map(|pairs| 2 * pairs.len() as u32),
        order: None,
    }
}

/// Evaluates and exports, on whatever thread calls it.
pub(crate) struct Evaluator<'a> {
    pub(crate) supernet: &'a SuperNetwork,
    pub(crate) network: &'a Network,
    pub(crate) artifacts: &'a ArtifactWriter<'a, MappedWeights>,
    /// Super-networks that are sorted otherwise, by the order that a candidate names.
    pub(crate) others: &'a BTreeMap<String, SuperNetwork>,
    /// Of those, the network that was used last: their weights are loaded one at a time.
    pub(crate) loaded: Mutex<Option<(String, Network)>>,
    pub(crate) freights: &'a Freights<'a>,
    pub(crate) evaluation: &'a Evaluation,
    /// The full network on the same text, where the divergence from it is asked for.
    pub(crate) reference: Option<Reference>,
    /// What every candidate that devices measure is asked.
    pub(crate) tasks: Tasks<'a>,
    /// Tokens of the longest sequence that networks are loaded for.
    pub(crate) positions: usize,
    /// Artifacts live here only as long as they are needed.
    pub(crate) folder: PathBuf,
}

/// Tasks, ready to be asked.
pub(crate) struct Tasks<'a> {
    /// None, if the study has no tasks.
    pub(crate) plans: &'a [Plan],
    pub(crate) tokenizer: &'a Tokenizer,
    /// Longest prompt in tokens.
    pub(crate) max_length: usize,
    /// Questions end when this is set.
    pub(crate) cancel: &'a AtomicBool,
}

/// What is wanted of a candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) quality: bool,
    /// Its answers to tasks, where the study has some.
    pub(crate) tasks: bool,
    /// What devices need: a recipe, with the artifact's files where one takes no recipe.
    pub(crate) shipment: Option<Way>,
}

/// What became of a candidate before any device saw it.
pub(crate) struct Evaluated {
    pub(crate) quality: Option<Quality>,
    /// By task; empty where none was asked.
    pub(crate) tasks: BTreeMap<String, TaskScore>,
    pub(crate) shipment: Option<Shipment>,
    pub(crate) evaluate_s: f64,
    pub(crate) export_s: f64,
}

impl Evaluator<'_> {
    /// Does what is wanted; `Ok(Err(why))` is a result about the candidate, `Err` ends the search.
    pub(crate) fn work(&self, id: &str, candidate: &Candidate, wanted: Wanted) -> Result<Result<Evaluated, String>, Failure> {
        let Some(order) = candidate.order.as_deref() else {
            return self.cut(id, candidate, wanted, self.supernet, self.network, self.artifacts);
        };
        let supernet = self
            .others
            .get(order)
            .ok_or_else(|| Failure::new(exit_code::STUDY, format!("`{id}` is cut from a super-network sorted by `{order}`")))?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let network = match loaded.take() {
            Some((of, network)) if of == order => network,
            // Two of them at a time would take twice the memory.
            other => {
                drop(other);
                supernet.network(self.positions)?
            }
        };
        let (_, network) = loaded.insert((order.to_owned(), network));
        // Their own folder: what is shared between artifacts of one super-network is not what others share.
        let shared = self.folder.join(order);
        std::fs::create_dir_all(&shared).map_err(|e| Failure::file("make", &shared, &e))?;
        self.cut(id, candidate, wanted, supernet, network, &supernet.artifacts().sharing(&shared))
    }

    fn cut(
        &self,
        id: &str,
        candidate: &Candidate,
        wanted: Wanted,
        supernet: &SuperNetwork,
        network: &Network,
        artifacts: &ArtifactWriter<'_, MappedWeights>,
    ) -> Result<Result<Evaluated, String>, Failure> {
        let sub = sub_network(candidate, supernet)?;
        let begun = Instant::now();
        let mut out = Evaluated { quality: None, tasks: BTreeMap::new(), shipment: None, evaluate_s: 0.0, export_s: 0.0 };
        if wanted.quality {
            match self.quality(network, &sub) {
                Ok(quality) => out.quality = Some(quality),
                // Cut too deep, a network may overflow: that is what this candidate is like.
                Err(Error::Logits) => return Ok(Err("logits are not finite".into())),
                Err(error) => return Err(error.into()),
            }
        }
        if wanted.tasks {
            match self.tasks.scores(network, &sub) {
                Ok(tasks) => out.tasks = tasks,
                Err(Stopped::Network(Error::Logits)) => return Ok(Err("logits are not finite".into())),
                Err(stopped) => return Err(stopped.into()),
            }
        }
        let probe = wanted.shipment.map(|_| network.probe(&sub));
        out.evaluate_s = begun.elapsed().as_secs_f64();
        if let Some(probe) = probe {
            let begun = Instant::now();
            let probe = match probe {
                Ok(probe) => probe,
                Err(Error::Logits) => return Ok(Err("logits are not finite".into())),
                Err(error) => return Err(error.into()),
            };
            let order = candidate.order.as_deref();
            let freight = self.freights.of(order)?;
            // Writing hashes every byte as well: either way gives the name that the recipe asks for.
            let shipment = if wanted.shipment == Some(Way::Files) {
                let artifact = artifacts.write(&sub, &self.folder.join(id))?;
                let recipe = freight.recipe(&artifact.sha256, artifact.manifest.precision, &sub)?;
                Shipment::of_artifact(artifact, Some(probe)).with_recipe(recipe)
            } else {
                let made = artifacts.digest(&sub)?;
                let recipe = freight.recipe(&made.sha256.to_string(), made.manifest.precision, &sub)?;
                Shipment::of_recipe(made, recipe, Some(probe))
            };
            out.shipment = Some(shipment.in_order(order));
            out.export_s = begun.elapsed().as_secs_f64();
        }
        Ok(Ok(out))
    }

    fn quality(&self, network: &Network, sub: &SubNetwork) -> Result<Quality, Error> {
        let (quality, kl) = match &self.reference {
            None => (evaluate(network, sub, self.evaluation)?, None),
            Some(reference) => {
                let (quality, divergence) = evaluate_against(network, sub, self.evaluation, reference)?;
                (quality, Some(divergence.kl))
            }
        };
        Ok(Quality {
            perplexity: quality.perplexity,
            nll: quality.nll,
            tokens: quality.tokens as u64,
            kl,
            tasks: BTreeMap::new(),
        })
    }

    /// Whether the study has tasks.
    pub(crate) fn asks(&self) -> bool {
        !self.tasks.plans.is_empty()
    }

    /// Removes a candidate's artifact; devices keep theirs.
    pub(crate) fn forget(folder: &std::path::Path, id: &str) {
        // It may never have been made; what cannot be removed is removed with the folder at the end.
        let _ = std::fs::remove_dir_all(folder.join(id));
    }
}

impl Tasks<'_> {
    /// The metric that stands for each task.
    fn scores(&self, network: &Network, sub: &SubNetwork) -> Result<BTreeMap<String, TaskScore>, Stopped> {
        let score = |plan: &Plan| {
            let asked = ask(plan, network, sub, self.tokenizer, self.max_length, Some(self.cancel), |_| {})?;
            let found = asked.report.leading();
            let score = TaskScore { metric: asked.report.primary.to_owned(), value: found.value, stderr: found.stderr };
            Ok((plan.task.name().to_owned(), score))
        };
        self.plans.iter().map(score).collect()
    }
}
