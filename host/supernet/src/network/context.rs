//! A forward pass that goes on where an earlier one ended: keys and values of a context are kept.
//!
//! Contract: the hidden states are those of [`Network::hidden`] of the whole sequence, up to the rounding of sums of another
//! shape. What follows a context may branch: all branches go through the network together, each sees the context and itself
//! alone, and none is kept.

use super::{Network, heads::Heads};
use crate::{
    Error,
    linear::{Linear, Pass},
    ops,
};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use edgewise_onnx::SubNetwork;

/// Keys and values grow by at least this many tokens at a time.
const LEAST_GROWTH: usize = 256;

/// Nothing is trained on what is kept.
const PASS: Pass = Pass::Evaluation;

/// A sequence whose keys and values are kept, for one sub-network.
pub struct Context<'a> {
    network: &'a Network,
    sub: &'a SubNetwork,
    heads: Heads,
    /// The attention's projections of each kept layer, where heads are cut: copied once, not for every token.
    cut: Option<Vec<[Linear; 4]>>,
    tokens: Vec<u32>,
    /// Tokens that the caches have room for.
    capacity: usize,
    caches: Vec<Cache>,
}

/// Keys and values of a layer, each `[groups, capacity, head size]`; what is beyond the kept tokens means nothing.
struct Cache {
    keys: Tensor,
    values: Tensor,
}

/// The rows of one forward pass.
struct Rows {
    tokens: Vec<u32>,
    /// `[rows, kept tokens + rows]`: zero where a row may look, minus infinity elsewhere; nothing where it may look at all.
    mask: Option<Tensor>,
    cos: Tensor,
    sin: Tensor,
}

impl Network {
    /// Longest sequence that the network was loaded for, in tokens.
    pub fn positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// An empty context of a sub-network. Where its heads are smaller than the network's, their weights are copied.
    ///
    /// # Errors
    /// [`Error::Artifact`] if `sub` does not fit, candle's.
    pub fn context<'a>(&'a self, sub: &'a SubNetwork) -> Result<Context<'a>, Error> {
        self.config.check(sub)?;
        let heads = self.heads(sub)?;
        let cut = self.cut_attention(sub, &heads)?;
        Ok(Context { network: self, sub, heads, cut, tokens: Vec::new(), capacity: 0, caches: Vec::new() })
    }
}

impl Context<'_> {
    /// The kept tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Keeps the first `count` tokens and forgets the others.
    pub fn keep(&mut self, count: usize) {
        self.tokens.truncate(count);
    }

    /// Appends `trunk`, which is kept, and after it each of `branches`, which are not. Gives the hidden states after the last
    /// norm, `[rows, width]`: a row for each token of the trunk, then those of the branches in turn.
    ///
    /// # Errors
    /// [`Error::Positions`] if a sequence gets longer than [`Network::positions`]; [`Error::ShortText`] without any token;
    /// candle's errors. After an error the context is what it was.
    pub fn advance(&mut self, trunk: &[u32], branches: &[&[u32]]) -> Result<Tensor, Error> {
        let longest = branches.iter().map(|branch| branch.len()).max().unwrap_or_default();
        let (found, most) = (self.tokens.len() + trunk.len() + longest, self.network.positions());
        if found > most {
            return Err(Error::Positions { found, most });
        }
        let rows = Rows::new(&self.heads, self.tokens.len(), trunk, branches)?;
        self.reserve(self.tokens.len() + rows.tokens.len())?;
        let hidden = self.forward(&rows)?;
        self.tokens.extend_from_slice(trunk);
        Ok(hidden)
    }

    /// Makes room for `total` tokens; what is kept is copied.
    fn reserve(&mut self, total: usize) -> Result<(), Error> {
        if total <= self.capacity {
            return Ok(());
        }
        let (head, kept) = (self.heads.size, self.tokens.len());
        let capacity = total.max(self.capacity + self.capacity.max(LEAST_GROWTH));
        let grown = |old: Option<&Tensor>, groups: usize| -> candle_core::Result<Tensor> {
            let new = Tensor::zeros((groups, capacity, head), DType::F32, &Device::Cpu)?;
            if let Some(old) = old.filter(|_| kept > 0) {
                new.slice_set(&old.narrow(1, 0, kept)?.contiguous()?, 1, 0)?;
            }
            Ok(new)
        };
        let layers = self.sub.kv_groups.iter().enumerate().map(|(layer, &groups)| {
            let old = self.caches.get(layer);
            let part = |of: fn(&Cache) -> &Tensor| grown(old.map(of), groups as usize);
            Ok(Cache { keys: part(|cache| &cache.keys)?, values: part(|cache| &cache.values)? })
        });
        self.caches = layers.collect::<candle_core::Result<_>>()?;
        self.capacity = capacity;
        Ok(())
    }

    fn forward(&self, rows: &Rows) -> candle_core::Result<Tensor> {
        let network = self.network;
        let (width, eps) = (self.sub.width as usize, network.config.norm_eps as f32);
        let ids = Tensor::new(&rows.tokens[..], &Device::Cpu)?;
        let mut x = network.embedding.index_select(&ids, 0)?.narrow(1, 0, width)?.contiguous()?;
        for (kept, &id) in self.sub.layers.iter().enumerate() {
            let layer = &network.layers[id as usize];
            let y = ops::rms_norm(&x, &layer.input_norm.narrow(0, 0, width)?, eps)?;
            let attention = self.cut.as_ref().map_or_else(|| layer.attention(), |cut| cut[kept].each_ref());
            let mixed = self.attention(attention, &self.caches[kept], &y, self.sub.kv_groups[kept] as usize, rows)?;
            x = (x + attention[3].forward(&mixed, width, mixed.dim(1)?, PASS)?)?;
            let z = ops::rms_norm(&x, &layer.mlp_norm.narrow(0, 0, width)?, eps)?;
            let neurons = self.sub.mlp[kept] as usize;
            let gate = layer.gate.forward(&z, neurons, width, PASS)?;
            let gated = ops::swiglu(&gate, &layer.up.forward(&z, neurons, width, PASS)?)?;
            x = (x + layer.down.forward(&gated, width, neurons, PASS)?)?;
        }
        ops::rms_norm(&x, &network.norm.narrow(0, 0, width)?, eps)
    }

    /// Attention of the new rows over the cache and themselves, up to the output projection,
    /// `[rows, width] -> [rows, heads * head size]`.
    fn attention(
        &self,
        [query, key, value, _]: [&Linear; 4],
        cache: &Cache,
        x: &Tensor,
        groups: usize,
        rows: &Rows,
    ) -> candle_core::Result<Tensor> {
        let (width, head) = (self.sub.width as usize, self.heads.size);
        let (count, kept) = (x.dim(0)?, self.tokens.len());
        let total = kept + count;
        let heads = groups * self.network.config.heads_per_group();
        let split = |y: Tensor, n: usize| y.reshape((count, n, head))?.transpose(0, 1)?.contiguous();
        let rotate = |y: Tensor| ops::rope(&y, &rows.cos, &rows.sin);
        let query = rotate(split(query.forward(x, heads * head, width, PASS)?, heads)?)?;
        cache.keys.slice_set(&rotate(split(key.forward(x, groups * head, width, PASS)?, groups)?)?, 1, kept)?;
        cache.values.slice_set(&split(value.forward(x, groups * head, width, PASS)?, groups)?, 1, kept)?;
        let (keys, values) = (cache.keys.narrow(1, 0, total)?, cache.values.narrow(1, 0, total)?);
        // The query heads of a group are rows of one matrix; keys and values are not repeated.
        let stacked = heads / groups * count;
        let query = (query * self.heads.scale)?.reshape((groups, stacked, head))?;
        let scores = query.matmul(&keys.t()?)?.reshape((heads, count, total))?;
        let scores = match &rows.mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let shares = softmax_last_dim(&scores)?.reshape((groups, stacked, total))?;
        shares.matmul(&values)?.reshape((heads, count, head))?.transpose(0, 1)?.reshape((count, heads * head))
    }
}

impl Rows {
    fn new(heads: &Heads, kept: usize, trunk: &[u32], branches: &[&[u32]]) -> Result<Self, Error> {
        let tokens: Vec<u32> = trunk.iter().chain(branches.iter().copied().flatten()).copied().collect();
        if tokens.is_empty() {
            return Err(Error::ShortText { found: 0, needed: 1 });
        }
        let fork = kept + trunk.len();
        let ends = branches.iter().flat_map(|branch| fork..fork + branch.len());
        let positions: Vec<u32> = (kept..fork).chain(ends).map(|position| position as u32).collect();
        let at = Tensor::new(&positions[..], &Device::Cpu)?;
        let (cos, sin) = (heads.cos.index_select(&at, 0)?, heads.sin.index_select(&at, 0)?);
        Ok(Self { mask: mask(kept, trunk.len(), branches)?, tokens, cos, sin })
    }
}

/// Rows of the trunk see what is kept and the trunk so far; those of a branch what is kept, the trunk, and the branch so far.
fn mask(kept: usize, trunk: usize, branches: &[&[u32]]) -> candle_core::Result<Option<Tensor>> {
    let rows = trunk + branches.iter().map(|branch| branch.len()).sum::<usize>();
    if rows == 1 {
        return Ok(None);
    }
    let total = kept + rows;
    let mut cells = vec![f32::NEG_INFINITY; rows * total];
    let mut lines = cells.chunks_exact_mut(total);
    for (row, line) in lines.by_ref().take(trunk).enumerate() {
        line[..=kept + row].fill(0.0);
    }
    let mut begin = kept + trunk;
    for branch in branches {
        for (row, line) in lines.by_ref().take(branch.len()).enumerate() {
            line[..kept + trunk].fill(0.0);
            line[begin..=begin + row].fill(0.0);
        }
        begin += branch.len();
    }
    Tensor::from_vec(cells, (rows, total), &Device::Cpu).map(Some)
}
