//! Curves: the perplexity of some sizes on held-out text.

use crate::Error;
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{Evaluation, Network, evaluate};
use serde::{Deserialize, Serialize};

/// A sub-network that is looked at again and again.
#[derive(Debug, Clone)]
pub struct Size {
    /// Its name in the curves.
    pub name: String,
    /// What it is.
    pub sub: SubNetwork,
}

/// What is looked at, and how often.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The held-out text.
    pub on: Evaluation,
    /// The sub-networks.
    pub sizes: Vec<Size>,
    /// Steps between two looks; 0 looks before the first step and after the last only.
    pub every: u64,
}

/// One look at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The size's name.
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
    /// `exp(nll)`; nothing where the sub-network's numbers overflow.
    pub perplexity: Option<f64>,
    /// Nats per token, likewise.
    pub nll: Option<f64>,
}

impl Validation {
    /// Looks at every size.
    pub(crate) fn look(&self, network: &Network) -> Result<Vec<Point>, Error> {
        let look = |size: &Size| {
            let quality = match evaluate(network, &size.sub, &self.on) {
                Ok(quality) => Some(quality),
                Err(edgewise_supernet::Error::Logits) => None,
                Err(error) => return Err(error.into()),
            };
            Ok(Point {
                name: size.name.clone(),
                parameters: network.config().parameters(&size.sub),
                perplexity: quality.map(|q| q.perplexity),
                nll: quality.map(|q| q.nll),
            })
        };
        self.sizes.iter().map(look).collect()
    }
}
