//! The loop: steps, looks at the held-out text, checkpoints, and its ends.

use crate::{
    Budget, Corpus, Distillation, Error, Example, Point, Sandwich, Settings, Validation,
    adamw::AdamW,
    checkpoint::{self, Position},
    corpus::Order,
    log::{Log, Look},
};
use candle_core::{Tensor, Var, backprop::GradStore};
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{
    Network,
    ops::{cross_entropy, divergence, mix},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Names the masks of a pass among the streams of random numbers that come from a seed.
const MASKS: u64 = 3;

/// Everything a training is made of.
pub struct Run<'a> {
    /// The network, made trainable as the settings say.
    pub network: &'a Network,
    /// What it learns from.
    pub corpus: &'a Corpus,
    /// Which sub-networks learn with it.
    pub sandwich: Sandwich<'a>,
    /// How.
    pub settings: &'a Settings,
    /// What is looked at on the way.
    pub validation: &'a Validation,
    /// Folder for checkpoints and the log; it must exist.
    pub folder: &'a Path,
    /// Steps between two checkpoints; 0 writes one only when the run is stopped.
    pub checkpoint_every: u64,
    /// All that the result depends on, settings included: a checkpoint of anything else is refused.
    pub identity: &'a Value,
    /// The calibrated grid, kept in checkpoints.
    pub grid: &'a [SubNetwork],
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// Stops the run at the end of a step.
    pub cancel: &'a AtomicBool,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// Cross-entropy of the full network, in nats per token.
    pub loss: f64,
    /// Mean cross-entropy of the sub-networks; nothing where there are none.
    pub students_loss: Option<f64>,
    /// Mean divergence of the sub-networks from the full one; nothing without distillation.
    pub divergence: Option<f64>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Tokens that the full network was trained on so far.
    pub tokens: u64,
    /// Wall-clock time of the training so far, in seconds.
    pub elapsed_s: f64,
    /// Share of the budget that is used up.
    pub progress: f64,
}

/// What happens in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step(&'a StepReport),
    /// The held-out text was looked at after this many steps.
    Validation(u64, &'a [Point]),
    /// A checkpoint was written.
    Checkpoint(&'a Path),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps of all runs of the training.
    pub steps: u64,
    /// Tokens that the full network was trained on.
    pub tokens: u64,
    /// Wall-clock time of all runs, in seconds.
    pub elapsed_s: f64,
    /// Whether it was stopped before its end; then there is a checkpoint.
    pub stopped: bool,
    /// The log.
    pub log: Vec<u8>,
}

/// Sums of a step's losses.
#[derive(Default)]
struct Sums {
    full: f64,
    students: f64,
    divergence: f64,
    passes: u64,
}

/// Gradients of several losses, added up; in the order of the variables.
struct Gradients<'a> {
    variables: &'a [(String, Var)],
    sums: Vec<Option<Tensor>>,
}

impl<'a> Gradients<'a> {
    fn new(variables: &'a [(String, Var)]) -> Self {
        Self { variables, sums: vec![None; variables.len()] }
    }

    /// Adds what a backward pass found. A sub-network does not reach every variable.
    fn add(&mut self, mut found: GradStore) -> Result<(), Error> {
        for ((_, var), sum) in self.variables.iter().zip(&mut self.sums) {
            if let Some(more) = found.remove(var) {
                // A gradient may hold on to the graph that it came from.
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + more)?.detach(),
                    None => more.detach(),
                });
            }
        }
        Ok(())
    }

    /// The gradients of every variable and their norm. One that is missing or no number is an error that names it.
    fn finish(self, step: u64) -> Result<(Vec<Tensor>, f64), Error> {
        let (mut out, mut squares) = (Vec::with_capacity(self.sums.len()), 0f64);
        for ((name, _), sum) in self.variables.iter().zip(self.sums) {
            let gradient = sum.ok_or_else(|| Error::NoGradient { name: name.clone() })?;
            let square = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            if !square.is_finite() {
                return Err(Error::BrokenGradient { name: name.clone(), step });
            }
            squares += square;
            out.push(gradient);
        }
        Ok((out, squares.sqrt()))
    }
}

/// Trains to the end of the budget, or until it is cancelled; `hear` is told what happens.
///
/// # Errors
/// Any of [`Error`]; checkpoints that were written before stay.
pub fn train(run: &Run<'_>, hear: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Error> {
    run.settings.check()?;
    checkpoint::clear(run.folder)?;
    let variables = run.network.variables();
    let mut optimiser = AdamW::new(variables, run.settings.weight_decay);
    let mut position = match &run.resume {
        Some(path) => checkpoint::load(path, variables, &mut optimiser, run.identity)?,
        None => Position { steps: 0, tokens: 0, elapsed_s: 0.0, grid: run.grid.to_vec() },
    };
    let mut order = Order::new(run.corpus);
    let mut log = Log::open(run.folder, position.steps)?;
    let (begun, earlier) = (Instant::now(), position.elapsed_s);
    let elapsed = || earlier + begun.elapsed().as_secs_f64();
    let progress = |steps: u64, elapsed_s: f64| match run.settings.budget {
        Budget::Steps(all) => steps as f64 / all as f64,
        Budget::Minutes(minutes) => elapsed_s / (60.0 * minutes),
    };
    let save =
        |position: &Position, optimiser: &AdamW| checkpoint::save(run.folder, variables, optimiser, position, run.identity);

    let mut looked_at = None;
    if position.steps == 0 {
        look(run, 0, &mut log, hear)?;
        looked_at = Some(0);
    }
    loop {
        position.elapsed_s = elapsed();
        let done = progress(position.steps, position.elapsed_s);
        let stopped = run.cancel.load(Ordering::SeqCst);
        if done >= 1.0 || stopped {
            let stopped = done < 1.0;
            if stopped {
                hear(Event::Checkpoint(&save(&position, &optimiser)?));
            } else if looked_at != Some(position.steps) {
                look(run, position.steps, &mut log, hear)?;
            }
            let Position { steps, tokens, elapsed_s, .. } = position;
            return Ok(Outcome { steps, tokens, elapsed_s, stopped, log: log.content()? });
        }
        let rate = run.settings.schedule.rate(position.steps, done);
        let (sums, gradient_norm) = step(run, &mut order, &mut optimiser, position.steps, rate)?;
        position.steps += 1;
        position.tokens += run.settings.sequences_per_step() * run.settings.sequence as u64;
        position.elapsed_s = elapsed();
        let sequences = run.settings.sequences_per_step() as f64;
        let of_students = |sum: f64| (sums.passes > 0).then(|| sum / sums.passes as f64);
        let report = StepReport {
            step: position.steps,
            loss: sums.full / sequences,
            students_loss: of_students(sums.students),
            divergence: run.settings.distillation.and_then(|_| of_students(sums.divergence)),
            gradient_norm,
            rate,
            tokens: position.tokens,
            elapsed_s: position.elapsed_s,
            progress: progress(position.steps, position.elapsed_s).min(1.0),
        };
        log.line(&json!(report))?;
        hear(Event::Step(&report));
        let every = |steps: u64| steps > 0 && position.steps.is_multiple_of(steps);
        if every(run.validation.every) {
            look(run, position.steps, &mut log, hear)?;
            looked_at = Some(position.steps);
        }
        if report.progress < 1.0 && every(run.checkpoint_every) {
            position.elapsed_s = elapsed();
            hear(Event::Checkpoint(&save(&position, &optimiser)?));
        }
    }
}

/// Looks at the held-out text after `steps` steps.
fn look(run: &Run<'_>, steps: u64, log: &mut Log, hear: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
    let points = run.validation.look(run.network)?;
    log.line(&json!(Look { step: steps, validation: points.clone() }))?;
    hear(Event::Validation(steps, &points));
    Ok(())
}

/// One update of the weights: step `number`, from 0.
fn step(run: &Run<'_>, order: &mut Order<'_>, optimiser: &mut AdamW, number: u64, rate: f64) -> Result<(Sums, f64), Error> {
    let settings = run.settings;
    let (batch, groups) = (settings.batch as u64, settings.accumulate as u64);
    let mut gradients = Gradients::new(run.network.variables());
    let mut sums = Sums::default();
    for group in number * groups..(number + 1) * groups {
        let students = run.sandwich.students(group);
        for sequence in group * batch..(group + 1) * batch {
            let example = order.example(sequence);
            let pass = Pass {
                network: run.network,
                example,
                rows: counted_rows(&example),
                share: 1.0 / settings.sequences_per_step() as f64,
                step: number + 1,
            };
            let seed = |part: usize| mix(mix(mix(settings.seed, MASKS), sequence), part as u64);
            let (teacher, loss, _) = pass.run(&run.sandwich.full, seed(0), None, &mut gradients)?;
            sums.full += loss;
            for (part, student) in students.iter().enumerate() {
                let lesson = settings.distillation.as_ref().map(|how| (&teacher, how));
                let (_, loss, divergence) = pass.run(student, seed(part + 1), Some(lesson), &mut gradients)?;
                sums.students += loss;
                sums.divergence += divergence;
                sums.passes += 1;
            }
        }
    }
    let (gradients, norm) = gradients.finish(number + 1)?;
    let scale = if settings.clip > 0.0 && norm > settings.clip { settings.clip / norm } else { 1.0 };
    optimiser.update(run.network.variables(), &gradients, rate, scale)?;
    Ok((sums, norm))
}

/// Which rows of a sequence count, unless all do.
fn counted_rows(example: &Example<'_>) -> Option<Vec<u32>> {
    let rows = || (0..example.counted.len() as u32).filter(|&row| example.counted[row as usize]);
    (!example.counted.iter().all(|counted| *counted)).then(|| rows().collect())
}

/// Forward and backward passes over one sequence.
struct Pass<'a> {
    network: &'a Network,
    example: Example<'a>,
    /// Rows that a loss is taken on, unless all are.
    rows: Option<Vec<u32>>,
    /// What the gradient is multiplied by.
    share: f64,
    /// For errors.
    step: u64,
}

/// What a student is taught by: its teacher's logits, and how.
type Lesson<'a> = Option<(&'a Tensor, &'a Distillation)>;

impl Pass<'_> {
    /// Runs a network, adds its gradients, and gives its logits, its cross-entropy and its divergence from its teacher. The
    /// teacher itself has no lesson at all. The graph is gone when this returns.
    fn run(
        &self,
        sub: &SubNetwork,
        seed: u64,
        lesson: Option<Lesson<'_>>,
        gradients: &mut Gradients<'_>,
    ) -> Result<(Tensor, f64, f64), Error> {
        let mut hidden = self.network.hidden_in_training(sub, self.example.inputs, seed)?;
        let mut targets = self.example.targets.to_vec();
        if let Some(rows) = &self.rows {
            hidden = hidden.index_select(&Tensor::new(&rows[..], hidden.device())?, 0)?;
            targets = rows.iter().map(|&row| targets[row as usize]).collect();
        }
        let logits = self.network.logits(&hidden)?;
        let likelihood = cross_entropy(&logits, &targets)?;
        let what = if lesson.is_some() { "a sub-network" } else { "the full network" };
        let number = |x: &Tensor| -> Result<f64, Error> {
            let value = f64::from(x.to_scalar::<f32>()?);
            if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { what, step: self.step }) }
        };
        let loss = number(&likelihood)?;
        let (objective, distance) = match lesson.flatten() {
            None => (likelihood, 0.0),
            Some((teacher, how)) => {
                let distance = divergence(&logits, teacher, how.kind, how.temperature)?;
                let value = number(&distance)?;
                (((likelihood * how.ce_weight)? + (distance * how.weight)?)?, value)
            }
        };
        gradients.add((objective * self.share)?.backward()?)?;
        Ok((logits.detach(), loss, distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_variable_without_a_gradient_is_named() {
        let var = |value: f32| Var::from_vec(vec![value], 1, &Device::Cpu).unwrap();
        let variables = [("reached".to_owned(), var(2.0)), ("forgotten".to_owned(), var(3.0))];
        let loss = |a: &Var, b: &Var| (a.as_tensor() * b.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let (reached, forgotten) = (&variables[0].1, &variables[1].1);

        let mut gradients = Gradients::new(&variables);
        gradients.add(loss(reached, reached)).unwrap();
        let error = gradients.finish(1).unwrap_err();
        assert!(matches!(&error, Error::NoGradient { name } if name == "forgotten"), "{error}");

        let mut gradients = Gradients::new(&variables);
        gradients.add(loss(reached, reached)).unwrap();
        gradients.add(loss(reached, forgotten)).unwrap();
        let (sums, norm) = gradients.finish(1).unwrap();
        let sums: Vec<f32> = sums.iter().flat_map(|sum| sum.to_vec1::<f32>().unwrap()).collect();
        assert_eq!(sums, [2.0 * 2.0 + 3.0, 2.0]);
        assert!((norm - 53f64.sqrt()).abs() < 1e-6);

        forgotten.set(&Tensor::new(&[f32::INFINITY], &Device::Cpu).unwrap()).unwrap();
        let mut gradients = Gradients::new(&variables);
        gradients.add(loss(reached, forgotten)).unwrap();
        let error = gradients.finish(4).unwrap_err();
        assert!(matches!(&error, Error::BrokenGradient { name, step: 4 } if name == "reached"), "{error}");
    }
}
