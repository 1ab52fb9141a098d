//! `host target`: the kinds of boards that are known.

use crate::{cli::Context, failure::Failure};
use clap::Subcommand;
use comfy_table::{Table, presets};
use edgewise_targets::{Listed, Origin, Profile};

/// Flags of `host target`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List target profiles, the user's own among them
    List,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    targets: Vec<Target>,
}

#[derive(serde::Serialize)]
struct Target {
    name: String,
    description: String,
    /// Agent builds, the best first.
    triples: Vec<String>,
    glibc: Option<String>,
    runtimes: Vec<&'static str>,
    providers: Vec<&'static str>,
    threads: u16,
    boards: Vec<Board>,
    sensors: Vec<&'static str>,
    port: u16,
    ciphers: Vec<String>,
    remote_dirs: Vec<String>,
    ort_library: Option<String>,
    runner: Option<Vec<String>>,
    /// `null` for one that is built in.
    file: Option<String>,
}

#[derive(serde::Serialize)]
struct Board {
    model: String,
    processors: String,
    cores: u32,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let Action::List = self.action;
        let targets: Vec<Target> = Profile::all_in(&context.home.targets)?.into_iter().map(Target::from).collect();
        let printer = context.printer;
        if printer.json {
            return printer.json(&Document { schema: "edgewise.targets/1", targets });
        }
        printer.data(&format!("{}\n", table(&targets)))?;
        printer.note(&format!("your own: {}", context.home.targets.join("NAME.toml").display()));
        Ok(())
    }
}

impl From<Listed> for Target {
    fn from(listed: Listed) -> Self {
        let p = listed.profile;
        let board = |b: &edgewise_targets::Board| Board { model: b.model.clone(), processors: b.processors(), cores: b.cores() };
        Self {
            glibc: p.glibc.map(|(major, minor)| format!("{major}.{minor}")),
            runtimes: p.runtimes.iter().map(|r| r.name()).collect(),
            providers: p.providers.iter().map(|r| r.name()).collect(),
            boards: p.boards.iter().map(board).collect(),
            sensors: p.sensors.iter().map(|s| s.name()).collect(),
            file: match listed.origin {
                Origin::Embedded => None,
                Origin::File { path, .. } => Some(path.display().to_string()),
            },
            name: p.name,
            description: p.description,
            triples: p.triples,
            threads: p.threads,
            port: p.port,
            ciphers: p.ciphers,
            remote_dirs: p.remote_dirs,
            ort_library: p.ort_library,
            runner: p.runner,
        }
    }
}

fn table(targets: &[Target]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["target", "for", "agents, the best first", "glibc", "runtimes", "providers", "port", "from"]);
    for t in targets {
        table.add_row([
            t.name.clone(),
            t.description.clone(),
            t.triples.join("\n"),
            t.glibc.clone().unwrap_or_else(|| "any".into()),
            t.runtimes.join(", "),
            t.providers.join(", "),
            t.port.to_string(),
            t.file.clone().unwrap_or_else(|| "built in".into()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_its_row() {
        let targets: Vec<Target> =
            Profile::all_in(std::path::Path::new("/nowhere")).unwrap().into_iter().map(Target::from).collect();
        let text = table(&targets).to_string();
        for profile in Profile::all() {
            assert!(text.contains(&profile.name) && profile.triples.iter().all(|triple| text.contains(triple)), "{text}");
        }
        let json = serde_json::to_value(&targets).unwrap();
        let jetson = json.as_array().unwrap().iter().find(|t| t["name"] == "jetson").unwrap();
        assert_eq!((&jetson["glibc"], &jetson["file"]), (&"2.31".into(), &serde_json::Value::Null));
        assert!(jetson["providers"].as_array().unwrap().contains(&"CPU".into()), "{jetson}");
    }
}
