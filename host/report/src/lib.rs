//! The report of a study: one HTML page that needs nothing but itself.
//!
//! The page is plain data in, text out. It loads nothing, so it can be mailed, archived and opened years later; its plots are
//! SVG written here, its script only sorts tables and shows tooltips. Text from outside (names, paths, errors) is escaped where
//! it enters the page and nowhere else.

mod agreement;
mod comparison;
mod data;
mod drift_plot;
mod flags;
mod format;
mod front_plot;
mod importance_plot;
mod markup;
mod page;
mod plot;
mod profile;
mod scale;
mod table;
mod ties;

pub use data::{
    Agreement, Axis, Candidate, Comparison, Cut, Device, DriftPoint, Estimate, Fact, Hypervolume, Importance, LayerImportance,
    Measurement, Model, Quality, ReportData, Status, Workload,
};
pub use page::render;
