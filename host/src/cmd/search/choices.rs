//! What a study was begun with, what the flags say, and what follows from both.

use super::{
    Args,
    tasks::{self, StudyTasks},
};
use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    failure::Failure,
    importance::{self, Summary},
    measuring::WorkloadSpec,
    model::DEMO,
    space,
    view::ALLOW_EMULATED,
};
use edgewise_search::{Constraint, DIAGONAL_LOCAL, Device as StoredDevice, Objective, Settings, parse_objectives};
use edgewise_supernet::SuperNetwork;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Candidates that are measured unless the user says otherwise.
const BUDGET: u32 = 16;
/// Objectives unless the user says otherwise.
const OBJECTIVES: [Objective; 2] = [Objective::Perplexity, Objective::TpotMs];

/// What the study decided, or the flags.
pub(super) struct Choices {
    pub(super) model: String,
    /// Names of devices; unknown ones are errors later.
    pub(super) devices: Vec<String>,
    pub(super) workload: WorkloadSpec,
    pub(super) runtime: RuntimeChoice,
    pub(super) threads: Option<u16>,
    pub(super) text: Option<PathBuf>,
    pub(super) calibration: Option<PathBuf>,
    pub(super) space: String,
    pub(super) tasks: StudyTasks,
    /// Sizes of heads that are searched; none where heads stay whole.
    pub(super) head_sizes: Vec<u32>,
    pub(super) allow_emulated: bool,
}

impl Args {
    pub(super) fn objectives(&self) -> Result<Option<Vec<Objective>>, Failure> {
        if self.objective.is_empty() {
            return Ok(None);
        }
        let found = parse_objectives(&self.objective.join(",")).map_err(|e| Failure::usage(e.to_string()))?;
        if !found.iter().any(|objective| objective.is_quality()) {
            return Err(Failure::usage("perplexity, kl or task_error must be among the objectives")
                .hint("for example: --objective perplexity,tpot_ms"));
        }
        Ok(Some(found))
    }

    /// The seed of the flags, or of the study.
    pub(super) fn seed(&self, known: Option<&Settings>) -> u64 {
        self.seed.or(known.map(|s| s.seed)).unwrap_or(0)
    }

    fn constraints(&self, known: Option<&Settings>) -> Vec<Constraint> {
        match known {
            Some(s) if self.constraint.is_empty() => s.constraints.clone(),
            _ => self.constraint.clone(),
        }
    }

    /// Refuses a search for few mistakes on no tasks.
    fn check_tasks(&self, tasks: &StudyTasks, objectives: Option<&[Objective]>, known: Option<&Settings>) -> Result<(), Failure> {
        let objectives = objectives.or(known.map(|s| &s.objectives[..])).unwrap_or(&OBJECTIVES);
        let wanted = objectives.contains(&Objective::TaskError)
            || self.constraints(known).iter().any(|c| c.objective == Objective::TaskError);
        if wanted && tasks.plans.is_empty() {
            return Err(
                Failure::usage("task_error is the error on tasks, and there are none").hint("for example: --task mmlu=FILE")
            );
        }
        Ok(())
    }

    pub(super) fn choices(
        &self,
        fleet: &Fleet,
        before: Option<(&Settings, &[StoredDevice])>,
        objectives: Option<&[Objective]>,
    ) -> Result<Choices, Failure> {
        fn detail<T: serde::de::DeserializeOwned>(before: Option<(&Settings, &[StoredDevice])>, key: &str) -> Option<T> {
            before.and_then(|(s, _)| serde_json::from_value(s.details.get(key)?.clone()).ok())
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|e| Failure::file("use", path, &e));
        let file = |given: &Option<PathBuf>, key: &str| match given {
            Some(path) => absolute(path).map(Some),
            None => Ok(detail::<String>(before, key).filter(|t| !t.is_empty()).map(PathBuf::from)),
        };
        let model = match &self.model {
            // A path means the same from wherever the study is resumed.
            Some(model) if model != DEMO && !model.starts_with("hf:") => absolute(&PathBuf::from(model))?.display().to_string(),
            Some(model) => model.clone(),
            None => detail(before, "model").unwrap_or_else(|| DEMO.to_owned()),
        };
        let named: Vec<String> = before.map(|(_, d)| d.iter().map(|d| d.name.clone()).collect()).unwrap_or_default();
        let devices = match self.devices.names(fleet)? {
            Some(names) => names,
            None if named.is_empty() => vec![edgewise_fleet::LOCAL.to_owned()],
            None => named,
        };
        let known = before.map(|(settings, _)| settings);
        let tasks = StudyTasks::of(self, known)?;
        self.check_tasks(&tasks, objectives, known)?;
        Ok(Choices {
            model,
            devices,
            workload: self.workload.or_else(|| detail(before, "workload")).unwrap_or_default(),
            runtime: self.runtime.or_else(|| detail(before, "runtime")).unwrap_or(RuntimeChoice::Auto),
            threads: self.threads.or_else(|| detail::<Option<u16>>(before, "threads").flatten()),
            text: file(&self.text, "text")?,
            calibration: file(&self.calibration, "calibration")?,
            space: self.space.clone().or_else(|| detail(before, "space")).unwrap_or_else(|| "default".to_owned()),
            tasks,
            head_sizes: match before.and_then(|(settings, _)| settings.space.head_sizes()) {
                Some(sizes) if self.head_sizes.is_empty() => sizes.sizes().to_vec(),
                _ => self.head_sizes.clone(),
            },
            allow_emulated: self.allow_emulated || detail(before, ALLOW_EMULATED).unwrap_or_default(),
        })
    }

    pub(super) fn settings(
        &self,
        choices: &Choices,
        supernet: &SuperNetwork,
        text: &str,
        known: Option<&Settings>,
        objectives: Option<Vec<Objective>>,
    ) -> Result<Settings, Failure> {
        let config = supernet.config();
        let shape = space::shape(config);
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let details = serde_json::json!({
            "model": choices.model,
            "model_name": supernet.file.source.name,
            "model_sha256": supernet.file.source.sha256,
            "model_parameters": config.parameters(&supernet.full()),
            "model_shape": { "layers": shape.layers, "width": shape.width, "kv_groups": shape.kv_groups, "mlp": shape.mlp },
            "importance": supernet.file.method,
            "calibration": path(&choices.calibration),
            "calibration_sha256": supernet.file.calibration_sha256,
            "text": path(&choices.text),
            "text_sha256": hex::encode(Sha256::digest(text.as_bytes())),
            "workload": choices.workload,
            "runtime": choices.runtime,
            "threads": choices.threads,
            "precision": "fp32",
            "space": choices.space,
            ALLOW_EMULATED: choices.allow_emulated,
            "program": concat!("edgewise ", env!("CARGO_PKG_VERSION")),
        });
        let serde_json::Value::Object(mut details) = details else { unreachable!("an object was written") };
        // They follow from what is compared already. A study that was begun without them goes on without.
        let scores = match known {
            Some(settings) => settings.details.get(importance::DETAIL).cloned(),
            None => serde_json::to_value(Summary::of(&supernet.file)).ok(),
        };
        details.extend(scores.map(|scores| (importance::DETAIL.to_owned(), scores)));
        details.extend(choices.tasks.detail.clone().map(|detail| (tasks::DETAIL.to_owned(), detail)));
        Ok(Settings {
            seed: self.seed(known),
            sampler: self
                .sampler
                .clone()
                .or_else(|| known.map(|s| s.sampler.clone()))
                .unwrap_or_else(|| DIAGONAL_LOCAL.to_owned()),
            space: space::preset(&choices.space, &choices.head_sizes, supernet)?,
            objectives: objectives.or_else(|| known.map(|s| s.objectives.clone())).unwrap_or_else(|| OBJECTIVES.to_vec()),
            constraints: self.constraints(known),
            budget: self.budget.or(known.map(|s| s.budget)).unwrap_or(BUDGET),
            details: details.into_iter().collect(),
        })
    }

    pub(super) fn study_path(&self, context: &Context, settings: &Settings) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.study {
            return Ok(path.clone());
        }
        let folder = &context.home.studies;
        std::fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
        let name = settings.details.get("model_name").and_then(|n| n.as_str()).unwrap_or("model");
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        Ok(folder.join(format!("{}-{}.study", name.to_lowercase(), crate::json::now_ms())))
    }
}
