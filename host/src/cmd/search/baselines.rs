//! The fixed pruning recipes that `--baselines` measures beside the search.

use super::choices::Choices;
use crate::{cli::Context, failure::Failure, model, space::STEP};
use edgewise_search::{Candidate, Origin, ParameterCount, Recipes, Record, SERIES_PREFIX, Settings};
use edgewise_supernet::{Aggregate, Ranking, SuperNetwork};
use std::collections::{BTreeMap, VecDeque};

/// Every recipe by its name. Those with a ranking cut every layer to the same number of neurons, and keep the first by it.
const RECIPES: [(&str, Option<Ranking>); 6] = [
    ("depth", None),
    ("width-contribution", Some(Ranking::Contribution)),
    ("width-activation", Some(Ranking::Activation(Aggregate::Mean, Aggregate::Mean))),
    ("width-fluctuation", Some(Ranking::Fluctuation)),
    ("width-magnitude", Some(Ranking::Magnitude)),
    ("random", None),
];
/// What stands for all of them.
const ALL: &str = "all";

/// Names of the recipes that are asked for, or that a resumed study was begun with.
pub(super) fn named(asked: Option<&str>, begun_with: &[Record]) -> Result<Vec<&'static str>, Failure> {
    let all = || RECIPES.iter().map(|r| r.0);
    let mut wanted: Vec<&str> = match asked {
        Some(ALL) => all().collect(),
        Some(list) => list.split(',').map(str::trim).collect(),
        None => Vec::new(),
    };
    let origins = begun_with.iter().flat_map(|r| &r.origins);
    wanted.extend(origins.filter_map(|o| o.series.strip_prefix(SERIES_PREFIX)));
    if let Some(unknown) = wanted.iter().find(|name| !all().any(|known| known == **name)) {
        let known = all().collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("unknown recipe `{unknown}` (known: {known})")));
    }
    Ok(all().filter(|name| wanted.contains(name)).collect())
}

/// What is measured beside the search, and what it is cut from.
pub(super) struct Baselines {
    /// Candidates by their places in their series.
    pub(super) candidates: VecDeque<(Origin, Candidate)>,
    /// Super-networks that are not sorted as the study's own, by the order that candidates name.
    pub(super) supernets: BTreeMap<String, SuperNetwork>,
}

impl Baselines {
    pub(super) fn new(
        names: &[&str],
        choices: &Choices,
        settings: &Settings,
        own: &SuperNetwork,
        parameters: ParameterCount,
        context: &Context,
    ) -> Result<Self, Failure> {
        let recipes = Recipes::new(&settings.space, parameters);
        let (mut candidates, mut rankings) = (VecDeque::new(), Vec::new());
        for (name, ranking) in RECIPES.into_iter().filter(|(name, _)| names.contains(name)) {
            let ladder = match (name, ranking) {
                (_, Some(ranking)) => {
                    let order = ranking.to_string();
                    // The study's own super-network may be sorted this way already.
                    if own.file.ranking() == order {
                        recipes.width(STEP, None)
                    } else {
                        rankings.push(ranking);
                        recipes.width(STEP, Some(&order))
                    }
                }
                ("depth", _) => recipes.depth(),
                _ => recipes.random(settings.seed),
            };
            let series = format!("{SERIES_PREFIX}{name}");
            candidates.extend((0..).zip(ladder).map(|(position, c)| (Origin { series: series.clone(), position }, c)));
        }
        let supernets = if rankings.is_empty() {
            BTreeMap::new()
        } else {
            let calibration = choices.calibration.as_deref();
            model::open_sorted(&choices.model, &rankings, calibration, &context.home, context.printer)?
        };
        Ok(Self { candidates, supernets })
    }
}
