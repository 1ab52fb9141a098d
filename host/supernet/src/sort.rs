//! Permuting a checkpoint so that the most important part of every dimension comes first.
//!
//! The function of the network does not change: whatever is permuted on the way out of one matrix is permuted the same way on
//! the way into the next. The residual stream ties every layer together, so its order is one for the whole network. Queries and
//! keys are not permuted within a head: their places say how fast they turn, and who reads the weights counts on that.

use crate::{Error, Importance, written};
use edgewise_onnx::{ModelConfig, TensorView, Weights, names};
use safetensors::{Dtype, View};
use std::{borrow::Cow, path::Path, rc::Rc};

/// Positions in the checkpoint, the most important first.
#[derive(Debug)]
pub(crate) struct Orders {
    width: Rc<Vec<usize>>,
    layers: Vec<LayerOrders>,
}

#[derive(Debug)]
struct LayerOrders {
    query: Rc<Vec<usize>>,
    key: Rc<Vec<usize>>,
    value: Rc<Vec<usize>>,
    /// Of what heads make of values.
    mixed: Rc<Vec<usize>>,
    neurons: Rc<Vec<usize>>,
}

/// Positions by descending score; equal scores keep their order.
pub(crate) fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Positions of blocks of `size`, block by block.
fn blocks(order: &[usize], size: usize) -> Rc<Vec<usize>> {
    Rc::new(order.iter().flat_map(|&block| block * size..(block + 1) * size).collect())
}

/// Positions of values and of what each group's heads make of them, given the order of groups and the scores of their dimensions.
fn values(config: &ModelConfig, groups: &[usize], scores: &[f64]) -> [Rc<Vec<usize>>; 2] {
    let (size, heads) = (config.head_dim, config.heads_per_group());
    let (mut value, mut mixed) = (Vec::with_capacity(scores.len()), Vec::with_capacity(scores.len() * heads));
    for &group in groups {
        let order = descending(&scores[group * size..][..size]);
        let of_head = |head: usize| order.iter().map(move |&dim| head * size + dim);
        value.extend(of_head(group));
        mixed.extend((group * heads..(group + 1) * heads).flat_map(of_head));
    }
    [value, mixed].map(Rc::new)
}

impl Orders {
    pub(crate) fn new(config: &ModelConfig, importance: &Importance) -> Self {
        let parts = importance.kv_groups.iter().zip(&importance.neurons).enumerate();
        let layers = parts.map(|(layer, (groups, neurons))| {
            let groups = descending(groups);
            let query = blocks(&groups, config.heads_per_group() * config.head_dim);
            let key = blocks(&groups, config.head_dim);
            let [value, mixed] = match &importance.heads {
                None => [key.clone(), query.clone()],
                Some(heads) => values(config, &groups, &heads.values[layer]),
            };
            LayerOrders { query, key, value, mixed, neurons: Rc::new(descending(neurons)) }
        });
        Self { width: Rc::new(descending(&importance.width)), layers: layers.collect() }
    }
}

type Order = Option<Rc<Vec<usize>>>;

/// A tensor that is permuted when its bytes are asked for.
struct Sorted<'a> {
    view: TensorView<'a>,
    rows: Order,
    columns: Order,
}

impl Sorted<'_> {
    fn bytes(&self) -> Vec<u8> {
        let size = self.view.element.size();
        let (count, row) = match self.view.shape {
            [length] => (*length, size),
            shape => (shape[0], shape[1..].iter().product::<usize>() * size),
        };
        let mut out = Vec::with_capacity(self.view.bytes.len());
        for position in 0..count {
            let from = self.rows.as_ref().map_or(position, |order| order[position]);
            let bytes = &self.view.bytes[from * row..(from + 1) * row];
            match &self.columns {
                None => out.extend_from_slice(bytes),
                Some(order) => order.iter().for_each(|&c| out.extend_from_slice(&bytes[c * size..(c + 1) * size])),
            }
        }
        out
    }
}

impl View for Sorted<'_> {
    fn dtype(&self) -> Dtype {
        written::dtype(self.view.element)
    }

    fn shape(&self) -> &[usize] {
        self.view.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes())
    }

    fn data_len(&self) -> usize {
        self.view.bytes.len()
    }
}

/// Writes the sorted weights as one safetensors file; tensors are permuted one at a time.
///
/// # Errors
/// [`Error::Artifact`] for missing tensors, [`Error::Io`] when the disk is full.
pub(crate) fn write<W: Weights>(config: &ModelConfig, weights: &W, orders: &Orders, path: &Path) -> Result<(), Error> {
    let width = || Some(orders.width.clone());
    let mut all: Vec<(String, Sorted<'_>)> = Vec::new();
    let mut add = |name: String, rows: Order, columns: Order| -> Result<(), Error> {
        let view = weights.tensor(&name)?;
        all.push((name, Sorted { view, rows, columns }));
        Ok(())
    };
    add(names::EMBEDDING.into(), None, width())?;
    add(names::FINAL_NORM.into(), width(), None)?;
    if !config.tied_embeddings {
        add(names::OUTPUT.into(), None, width())?;
    }
    for (layer, own) in orders.layers.iter().enumerate() {
        for norm in names::NORMS {
            add(names::weight(layer, norm), width(), None)?;
        }
        let order = |of: &Rc<Vec<usize>>| Some(of.clone());
        let neurons = || order(&own.neurons);
        let into = [&own.query, &own.key, &own.value].map(|of| (order(of), width()));
        let attention = into.into_iter().chain([(width(), order(&own.mixed))]);
        let mlp = [(neurons(), width()), (neurons(), width()), (width(), neurons())];
        let parts = names::ATTENTION.into_iter().zip(attention).map(|part| (part, config.attention_bias));
        for ((part, (rows, columns)), bias) in parts.chain(names::MLP.into_iter().zip(mlp).map(|part| (part, config.mlp_bias))) {
            if bias {
                add(names::bias(layer, part), rows.clone(), None)?;
            }
            add(names::weight(layer, part), rows, columns)?;
        }
    }
    written::safetensors(all, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_keep_their_order_and_blocks_stay_whole() {
        assert_eq!(descending(&[1.0, 3.0, 1.0, 2.0]), [1, 3, 0, 2]);
        assert_eq!(*blocks(&[2, 0], 2), [4, 5, 0, 1]);
    }

    #[test]
    fn values_are_sorted_within_their_group_and_for_all_of_its_heads() {
        let config = ModelConfig { num_heads: 4, num_kv_heads: 2, head_dim: 2, ..edgewise_onnx::testing::tiny_config() };
        let [value, mixed] = values(&config, &[1, 0], &[3.0, 1.0, 1.0, 2.0]);
        assert_eq!(*value, [3, 2, 0, 1]);
        assert_eq!(*mixed, [5, 4, 7, 6, 0, 1, 2, 3]);
    }
}
