//! Which sub-networks a training trains besides the full one: of a space, of a calibrated grid, or those that a search found.

use super::{Args, args::GridBy};
use crate::{
    cli::Context,
    cmd::studies,
    exit_code,
    failure::Failure,
    model,
    search::{parameters, sub_network},
    space,
    ui::Progress,
};
use edgewise_finetune::{Corpus, Criterion, Size, Validation, calibrate};
use edgewise_onnx::SubNetwork;
use edgewise_search::{Candidate, Objective, Strata, spread_first};
use edgewise_supernet::{Evaluation, Network, SuperNetwork, Text, Windows};
use std::{path::Path, sync::Arc, sync::atomic::AtomicBool};

/// Held-out windows of a curve's point.
const WINDOWS: Windows = Windows { length: 512, count: 4 };
/// Windows of training text that a grid is calibrated on: a little, since it is for each of many sub-networks.
pub(super) const GRID_WINDOWS: Windows = Windows { length: 256, count: 2 };
/// Sub-networks of one size of which a grid keeps the best.
const GRID_EACH: usize = 8;
/// Sub-networks of a study that are trained at most: those that spread over its front.
const FOUND: usize = 24;

/// Who is trained.
pub(super) struct Students {
    strata: Strata,
    /// In every step.
    pub(super) smallest: SubNetwork,
    /// Of middling size, the same in every training of a space, so that curves can be compared.
    middle: SubNetwork,
    /// What a search found, ordered by size; nothing where none was asked.
    found: Vec<SubNetwork>,
}

impl Students {
    pub(super) fn new(args: &Args, supernet: &SuperNetwork, context: &Context) -> Result<Self, Failure> {
        let space = space::preset(&args.space, &args.head_sizes, supernet)?;
        let (config, smallest) = (supernet.config().clone(), sub_network(&space.smallest(), supernet)?);
        let strata = Strata::new(space, Arc::new(move |c: &Candidate| parameters(c, &config)));
        let middle = sub_network(&strata.at(0.5, 0), supernet)?;
        let found = match &args.study {
            None => Vec::new(),
            Some(path) => found(path, args.candidate.as_deref(), supernet, context)?,
        };
        Ok(match found.first() {
            None => Self { strata, smallest, middle, found },
            Some(first) => Self { strata, smallest: first.clone(), middle: found[found.len() / 2].clone(), found },
        })
    }

    /// What a search found, in the form in which a checkpoint must name it again.
    pub(super) fn found(&self) -> &[SubNetwork] {
        &self.found
    }

    /// Draws of the space for the group with this number.
    pub(super) fn draw(&self, supernet: &SuperNetwork, seed: u64, group: u64, count: usize) -> Vec<SubNetwork> {
        let cut = |candidate: &Candidate| sub_network(candidate, supernet).expect("a space has only sizes that can be cut");
        self.strata.draw(seed, group, count).iter().map(cut).collect()
    }

    /// The curves: held-out text, and the sizes that are looked at.
    pub(super) fn validation(&self, args: &Args, supernet: &SuperNetwork) -> Result<Validation, Failure> {
        let config = supernet.config();
        let text = model::held_out_text(args.text.as_deref())?;
        let windows = Windows { length: WINDOWS.length.min(config.max_positions), ..WINDOWS };
        let on = model::evaluation(&supernet.tokenizer, config, &text, windows)?;
        let size = |name: &str, sub: SubNetwork| Size { name: name.to_owned(), sub };
        let mut sizes = vec![size("full", supernet.full()), size("middle", self.middle.clone())];
        if self.smallest != self.middle {
            sizes.push(size("smallest", self.smallest.clone()));
        }
        Ok(Validation { on, sizes, every: args.validate_every })
    }

    /// The sub-networks that are drawn from, ordered by size: those that a search found, or the calibrated grid if one is asked
    /// for, or none.
    pub(super) fn grid(
        &self,
        args: &Args,
        context: &Context,
        supernet: &SuperNetwork,
        network: &Network,
        corpus: &Corpus,
        cancel: &AtomicBool,
    ) -> Result<Vec<SubNetwork>, Failure> {
        if args.grid == 0 {
            return Ok(self.found.clone());
        }
        let bins = self.strata.bins(args.seed, args.grid, GRID_EACH);
        let cut = |bin: &Vec<Candidate>| -> Result<Vec<SubNetwork>, Failure> {
            bin.iter().map(|candidate| sub_network(candidate, supernet)).collect()
        };
        let bins = bins.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
        let length = GRID_WINDOWS.length.min(network.config().max_positions);
        let tokens = corpus.first(length * GRID_WINDOWS.count).to_vec();
        let text = Text { sha256: String::new(), tokens };
        let on = Evaluation { text, windows: Windows { length, ..GRID_WINDOWS } };
        let criterion = match args.grid_by {
            GridBy::Perplexity => Criterion::Perplexity(&on),
            GridBy::Magnitude => Criterion::Magnitude,
        };
        let count: usize = bins.iter().map(Vec::len).sum();
        let mut progress = Progress::new(context.printer, count as u64);
        progress.at(&format!("calibrating the grid: {count} sub-networks of {} sizes", args.grid));
        let found = calibrate(network, &bins, criterion, &mut |done| progress.done(done as u64), cancel)?;
        drop(progress);
        match found {
            None => Err(Failure::new(exit_code::INTERRUPTED, "stopped by the user before the first step")),
            Some(grid) if grid.is_empty() => Err(Failure::usage(format!("the space `{}` has nothing for a grid", args.space))
                .hint("give --grid 0, or another --space")),
            Some(grid) => Ok(grid),
        }
    }
}

/// The candidate of a study that is asked for, or those on its front of quality against size, looked at or measured, ordered
/// by size; the full network is none of them.
fn found(path: &Path, id: Option<&str>, supernet: &SuperNetwork, context: &Context) -> Result<Vec<SubNetwork>, Failure> {
    let study = studies::open(Some(path), context)?;
    if study.view.detail("model_sha256") != supernet.file.source.sha256 {
        let message = format!("the study `{}` is of another model: {}", path.display(), study.view.detail("model_name"));
        return Err(Failure::usage(message).hint(format!("that was `{}`", study.view.detail("model"))));
    }
    let config = supernet.config();
    if let Some(id) = id {
        let record = study.candidate(id)?;
        let own = supernet.file.ranking();
        if let Some(order) = record.candidate.order.as_deref().filter(|order| *order != own) {
            return Err(Failure::usage(format!(
                "`{id}` is cut from a super-network sorted by `{order}`, this one is by `{own}`"
            ))
            .hint(format!("train one made by `host prepare --importance {order}`")));
        }
        let sub = sub_network(&record.candidate, supernet)?;
        if sub == supernet.full() {
            return Err(Failure::usage(format!("`{id}` is the full network, which every training trains")));
        }
        return Ok(vec![sub]);
    }
    let mut known: Vec<(SubNetwork, [f64; 2])> = Vec::new();
    for record in study.view.records.iter().filter(|r| r.candidate.order.is_none()) {
        if let Some(perplexity) = study.view.value(record, "", Objective::Perplexity) {
            let sub = sub_network(&record.candidate, supernet)?;
            let size = config.parameters(&sub) as f64;
            known.push((sub, [perplexity, size]));
        }
    }
    let points: Vec<[f64; 2]> = known.iter().map(|(_, point)| *point).collect();
    let full = config.parameters(&supernet.full()) as f64;
    let order = spread_first(&points, full).map_err(edgewise_search::SamplerError::from)?;
    let mut out: Vec<&(SubNetwork, [f64; 2])> = order.into_iter().map(|at| &known[at]).filter(|k| k.1[1] < full).collect();
    out.truncate(FOUND);
    out.sort_by(|a, b| a.1[1].total_cmp(&b.1[1]));
    if out.is_empty() {
        return Err(Failure::usage(format!("the study `{}` found nothing smaller than the full network", path.display()))
            .hint("give it a larger --budget or --explore"));
    }
    Ok(out.into_iter().map(|(sub, _)| sub.clone()).collect())
}
