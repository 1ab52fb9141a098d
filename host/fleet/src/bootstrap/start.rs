//! Starting the agent, and putting it there first where need be.

use super::{
    choose::Offer,
    cleanup,
    probe::{self, DeviceFacts},
    upload::upload,
};
use crate::{AgentBuild, Error, Remote, shell};
use std::{io, time::Duration};

/// For a command that only looks around.
const PROBE: Duration = Duration::from_secs(30);

/// What is needed to start an agent on a device.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// What the user said the device is.
    pub(crate) target: String,
    /// Builds that may run there, the best first.
    pub(crate) triples: Vec<String>,
    pub(crate) builds: Vec<AgentBuild>,
    /// Where it may live, see [`shell::dir_word`].
    pub(crate) dirs: Vec<String>,
    /// Words before the agent's path.
    pub(crate) runner: Vec<String>,
}

/// What was done to put an agent on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployReport {
    /// The device.
    pub device: String,
    /// What the device says about itself.
    pub facts: DeviceFacts,
    /// The build's triple.
    pub triple: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Where it is on the device.
    pub path: String,
    /// Bytes that were sent: 0 if it was there already, whole.
    pub bytes_sent: u64,
    /// Builds that were removed beside it, since newer ones are there, as directories' names.
    pub removed: Vec<String>,
}

impl Plan {
    fn candidates(&self) -> impl Iterator<Item = &AgentBuild> {
        self.triples.iter().flat_map(|triple| self.builds.iter().filter(move |build| build.triple() == triple))
    }

    fn runner_words(&self) -> String {
        self.runner.iter().map(|word| shell::quote(word) + " ").collect()
    }

    /// Runs the first build that is in place; 127 if none is.
    fn start_script(&self) -> String {
        let dirs = self.dirs.iter().map(|dir| shell::dir_word(dir)).collect::<Vec<_>>().join(" ");
        let builds = self.candidates().map(|build| shell::quote(&build.directory())).collect::<Vec<_>>().join(" ");
        format!(
            "for d in {dirs}; do for b in {builds}; do a=\"$d/$b/device-agent\"; if [ -x \"$a\" ]; then exec {}\"$a\" serve \
             --store \"$d/store\"{}; fi; done; done; exit 127",
            self.runner_words(),
            // The agent starts its workers the same way.
            self.runner.iter().map(|word| " ".to_owned() + &shell::quote(&format!("--runner={word}"))).collect::<String>(),
        )
    }
}

/// Starts whatever build is in place. If none is, the process ends with status 127 and says nothing.
pub(crate) fn start<R: Remote>(remote: R, plan: &Plan) -> Result<R::Process, Error> {
    remote.start(&plan.start_script())
}

/// Makes sure that the right build is on the device, whole: probes it, and uploads unless the very bytes are there.
///
/// # Errors
/// [`Error::NoAgentBuild`], [`Error::NoExec`], [`Error::ReadOnly`], [`Error::NoSpace`], [`Error::UploadDamaged`],
/// [`Error::Remote`], [`Error::ConnectionLost`].
pub(crate) fn install<R: Remote>(remote: R, plan: &Plan) -> Result<(R, DeployReport), Error> {
    let device = remote.device().to_owned();
    let (remote, output) = remote.run(&probe::script(&plan.dirs), &mut io::empty(), PROBE)?;
    let facts = probe::parse(&output.stdout).ok_or_else(|| Error::Remote {
        device: device.clone(),
        action: "look around",
        what: output.describe(),
    })?;
    let emulated = !plan.runner.is_empty();
    let offer = Offer { target: &plan.target, triples: &plan.triples, builds: &plan.builds, emulated };
    let build = facts.choose(&device, &offer)?;
    let (remote, there) = find_whole(remote, plan, build)?;
    let (remote, base, bytes_sent) = if let Some(base) = there {
        (remote, base, 0)
    } else {
        let base = facts.place(&device, build.size())?.to_owned();
        (upload(remote, build, &base, &plan.runner)?, base, build.size())
    };
    let (remote, removed) = cleanup::clean(remote, &base, build)?;
    let report = DeployReport {
        device,
        triple: build.triple().into(),
        sha256: build.sha256().into(),
        path: format!("{base}/{}/device-agent", build.directory()),
        facts,
        bytes_sent,
        removed,
    };
    Ok((remote, report))
}

/// The base directory in which the build lies undamaged, if one does. A power cut may leave a file short or empty.
fn find_whole<R: Remote>(remote: R, plan: &Plan, build: &AgentBuild) -> Result<(R, Option<String>), Error> {
    let dirs = plan.dirs.iter().map(|dir| shell::dir_word(dir)).collect::<Vec<_>>().join(" ");
    let script = format!(
        "{say}echo {begin}; for d in {dirs}; do a=\"$d\"/{sub}/device-agent; if [ -x \"$a\" ]; then if command -v sha256sum \
         >/dev/null 2>&1; then h=$(sha256sum < \"$a\"); else h=$({runner}\"$a\" hash \"$a\"); fi; case \"$h\" in {sha}*) \
         say \"whole=$d\"; break;; esac; fi; done; echo {end}",
        say = probe::SAY,
        begin = probe::BEGIN,
        end = probe::END,
        sub = shell::quote(&build.directory()),
        runner = plan.runner_words(),
        sha = build.sha256(),
    );
    let (remote, output) = remote.run(&script, &mut io::empty(), PROBE)?;
    let lines = probe::between_markers(&output.stdout).ok_or_else(|| Error::Remote {
        device: remote.device().into(),
        action: "look for an agent",
        what: output.describe(),
    })?;
    Ok((remote, lines.iter().find_map(|line| line.strip_prefix("whole=")).map(str::to_owned)))
}
