//! One file per subcommand: its arguments and what it does.

pub(crate) mod deploy;
pub(crate) mod device;
mod doctor;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod finetune;
pub(crate) mod front;
pub(crate) mod measure;
pub(crate) mod prepare;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod search;
mod selection;
mod studies;
pub(crate) mod target;
