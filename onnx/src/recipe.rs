//! A candidate as it travels: what to make of a super-network that is there already.

use crate::{ContentHash, Error, Precision, SubNetwork, SuperNetworkIndex};
use serde::{Deserialize, Serialize};

/// Version of the recipe's layout.
const RECIPE_SCHEMA: &str = "edgewise.recipe/1";
/// No recipe is larger, in bytes: room for about a thousand layers.
pub const MAX_RECIPE_BYTES: usize = 32 << 10;

/// An artifact by what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Hash of the super-network's index.
    pub index: ContentHash,
    /// Hash of the manifest that must come out.
    pub artifact: ContentHash,
    /// Number format of the weights.
    pub precision: Precision,
    /// What is kept.
    pub sub: SubNetwork,
}

/// The recipe as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    schema: String,
    index: ContentHash,
    artifact: ContentHash,
    precision: Precision,
    sub: SubNetwork,
}

impl Recipe {
    /// The recipe as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { index, artifact, precision, sub } = self.clone();
        let content = Content { schema: RECIPE_SCHEMA.into(), index, artifact, precision, sub };
        serde_json::to_vec(&content).expect("a recipe has no map")
    }

    /// Reads a recipe that somebody else wrote. Whether it fits a super-network is for [`Self::check`].
    ///
    /// # Errors
    /// [`Error::BadRecipe`] saying what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_RECIPE_BYTES {
            return Err(Error::BadRecipe(format!("{} bytes, at most {MAX_RECIPE_BYTES} can be", bytes.len())));
        }
        let content: Content = serde_json::from_slice(bytes).map_err(|e| Error::BadRecipe(e.to_string()))?;
        let Content { schema, index, artifact, precision, sub } = content;
        if schema != RECIPE_SCHEMA {
            return Err(Error::BadRecipe(format!("its schema is `{schema}`, this version reads `{RECIPE_SCHEMA}`")));
        }
        Ok(Self { index, artifact, precision, sub })
    }

    /// Checks that this is a recipe for the super-network whose index has the name `sha256`.
    ///
    /// # Errors
    /// [`Error::BadRecipe`] if it is for another one, [`Error::BadSubNetwork`] if what is kept is not in it.
    pub fn check(&self, index: &SuperNetworkIndex, sha256: &ContentHash) -> Result<(), Error> {
        if self.index != *sha256 {
            return Err(Error::BadRecipe(format!("it is for super-network {}, this is {sha256}", self.index)));
        }
        index.model().check(&self.sub)
    }
}
