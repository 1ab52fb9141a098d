//! tract: pure Rust, part of every build of the agent.

use super::{
    memory,
    model::{CausalModel, Model, rejected},
    signature::{Input, Output, Signature},
};
use edgewise_protocol::{Runtime, WireError};
use std::collections::HashMap;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::{
    prelude::*,
    tract_hir::{
        internal::{DimLike as _, TractErrorContext as _, ensure, format_err},
        ops::konst::Const,
    },
};

/// The version that is linked in.
pub(super) const VERSION: &str = env!("EDGEWISE_TRACT_VERSION");

/// A model in tract.
pub(super) struct TractModel {
    state: TypedSimpleState,
    signature: Signature,
    /// The cache of a sequence of no tokens.
    empty: Vec<TValue>,
    past: Vec<TValue>,
    length: usize,
    logits: Option<TValue>,
    scratch: Vec<i64>,
}

impl TractModel {
    pub(super) fn load(model: Model, threads: u16) -> Result<Self, WireError> {
        // tract's thread count is the process's; a worker loads one model.
        set_default_executor(match threads {
            0 | 1 => Executor::SingleThread,
            n => Executor::multithread(usize::from(n)),
        });
        Self::try_load(model).map_err(|e| rejected(Runtime::Tract, "prepare the model", &format!("{e:#}")))
    }

    fn try_load(model: Model) -> TractResult<Self> {
        let mut model = match model {
            Model::File(path) => tract_onnx::onnx().model_for_path(path)?,
            Model::Memory(assembly) => memory::parse(assembly)?,
        };
        keep_one_row(&mut model)?;
        // One sequence at a time. A symbolic batch is not only slower: it makes tract choose a wrong layout for the scales
        // of some quantised products.
        let batch = model.symbols.sym("batch_size");
        InferenceModelExt::set_symbols(&mut model, &HashMap::from([(batch, 1.to_dim())]))?;
        let model = model.into_typed()?.into_decluttered()?;

        let names = |outlets: &[OutletId]| -> Vec<String> {
            outlets.iter().map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_owned()).collect()
        };
        let (inputs, outputs) = (names(model.input_outlets()?), names(model.output_outlets()?));
        let signature = Signature::new(inputs.iter().map(String::as_str), outputs.iter().map(String::as_str))
            .map_err(|why| format_err!("{why}"))?;
        let empty = signature
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| matches!(input, Input::Past(_)))
            .map(|(at, _)| empty_cache(model.input_fact(at)?).with_context(|| format!("input `{}`", inputs[at])))
            .collect::<TractResult<Vec<_>>>()?;
        let state = model.into_optimized()?.into_runnable()?.spawn()?;
        Ok(Self { state, past: empty.clone(), empty, signature, length: 0, logits: None, scratch: Vec::new() })
    }

    fn try_feed(&mut self, tokens: &[u32]) -> TractResult<()> {
        let (before, after) = (self.length, self.length + tokens.len());
        // The last step's values are let go first, so that at most one generation of the cache is alive beside the next.
        self.logits = None;
        let mut past: Vec<Option<TValue>> = self.past.drain(..).map(Some).collect();
        let mut row = |values: &mut dyn Iterator<Item = i64>| -> TractResult<TValue> {
            self.scratch.clear();
            self.scratch.extend(values);
            Ok(Tensor::from_shape(&[1, self.scratch.len()], &self.scratch)?.into_tvalue())
        };
        let inputs = self
            .signature
            .inputs
            .iter()
            .map(|input| match *input {
                Input::Ids => row(&mut tokens.iter().map(|&token| i64::from(token))),
                Input::Mask => row(&mut std::iter::repeat_n(1, after)),
                Input::Positions => row(&mut (before as i64..after as i64)),
                Input::LogitsToKeep => Ok(tensor0(1_i64).into_tvalue()),
                Input::Past(part) => past[part].take().context("a part of the cache is missing"),
            })
            .collect::<TractResult<TVec<_>>>()?;
        let outputs = self.state.run(inputs)?;
        let mut present: Vec<Option<TValue>> = vec![None; self.signature.parts];
        for (output, value) in self.signature.outputs.iter().zip(outputs) {
            match *output {
                Output::Logits => self.logits = Some(value),
                Output::Present(part) => present[part] = Some(value),
            }
        }
        self.past = present.into_iter().collect::<Option<_>>().context("the graph gave too few outputs")?;
        self.length = after;
        Ok(())
    }

    fn last_row(&self) -> TractResult<&[f32]> {
        let logits = self.logits.as_ref().context("the graph gave no logits")?;
        let vocabulary = *logits.shape().last().context("the logits are a scalar")?;
        let all = logits.try_as_plain_ram()?.as_slice::<f32>()?;
        all.len().checked_sub(vocabulary).map(|start| &all[start..]).context("the logits have no row")
    }
}

impl CausalModel for TractModel {
    fn runtime_version(&self) -> &str {
        VERSION
    }

    fn reset(&mut self) {
        self.past.clone_from(&self.empty);
        self.length = 0;
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError> {
        let fail = |e: TractError| rejected(Runtime::Tract, "run the model", &format!("{e:#}"));
        self.try_feed(tokens).map_err(fail)?;
        self.last_row().map_err(fail)
    }
}

/// Makes the number of rows that get logits a constant 1 where the graph asks for it: tract cannot derive a shape from the
/// value of an input.
fn keep_one_row(model: &mut InferenceModel) -> TractResult<()> {
    let outlets = model.input_outlets()?.to_vec();
    for outlet in &outlets {
        if model.node(outlet.node).name == "num_logits_to_keep" {
            let one = tensor0(1_i64).into_arc_tensor();
            model.node_mut(outlet.node).op = Box::new(Const::new(one.clone())?);
            model.set_outlet_fact(*outlet, InferenceFact::from(one.into_tensor()))?;
            model.set_input_outlets(&outlets.iter().copied().filter(|other| other != outlet).collect::<Vec<_>>())?;
            break;
        }
    }
    Ok(())
}

/// A cache of no positions for an input `[batch, heads, past, size]`. The number of heads may differ from layer to layer.
fn empty_cache(fact: &TypedFact) -> TractResult<TValue> {
    ensure!(fact.datum_type == f32::datum_type(), "a cache of {:?}; only f32 is supported", fact.datum_type);
    ensure!(fact.rank() == 4, "a cache of rank {}", fact.rank());
    let shape = [1, fact.shape[1].to_usize()?, 0, fact.shape[3].to_usize()?];
    Ok(Tensor::zero::<f32>(&shape)?.into_tvalue())
}
