//! Permuting a checkpoint so that the most important part of every dimension comes first.
//!
//! The function of the network does not change: whatever is permuted on the way out of one matrix is permuted the same way on
//! the way into the next. The residual stream ties every layer together, so its order is one for the whole network.

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
    key_value: Rc<Vec<usize>>,
    neurons: Rc<Vec<usize>>,
}

/// Positions by descending score; equal scores keep their order.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Positions of blocks of `size`, block by block.
fn blocks(order: &[usize], size: usize) -> Rc<Vec<usize>> {
    Rc::new(order.iter().flat_map(|&block| block * size..(block + 1) * size).collect())
}

impl Orders {
    pub(crate) fn new(config: &ModelConfig, importance: &Importance) -> Self {
        let layers = importance.kv_groups.iter().zip(&importance.neurons).map(|(groups, neurons)| {
            let groups = descending(groups);
            LayerOrders {
                query: blocks(&groups, config.heads_per_group() * config.head_dim),
                key_value: blocks(&groups, config.head_dim),
                neurons: Rc::new(descending(neurons)),
            }
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
        let query = || Some(own.query.clone());
        let (kv, neurons) = (|| Some(own.key_value.clone()), || Some(own.neurons.clone()));
        let attention = [(query(), width()), (kv(), width()), (kv(), width()), (width(), query())];
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
}
