//! Starting the agent, and putting it there first where need be.

use super::{
    probe::{self, DeviceFacts},
    upload::upload,
};
use crate::{AgentBuild, Error, SshSession, SshTransport, shell};
use std::{io, time::Duration};

/// For a command that only looks around.
const PROBE: Duration = Duration::from_secs(30);

/// What is needed to start an agent on a device.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
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
             --store \"$d/store\"; fi; done; done; exit 127",
            self.runner_words()
        )
    }
}

/// Starts whatever build is in place. If none is, the process ends with status 127 and says nothing.
pub(crate) fn start(session: SshSession, plan: &Plan) -> Result<SshTransport, Error> {
    session.start(&shell::command(&plan.start_script()))
}

/// Makes sure that the right build is on the device, whole: probes it, and uploads unless the very bytes are there.
///
/// # Errors
/// [`Error::NoAgentBuild`], [`Error::NoExec`], [`Error::ReadOnly`], [`Error::NoSpace`], [`Error::UploadDamaged`],
/// [`Error::Remote`], [`Error::ConnectionLost`].
pub(crate) fn install(session: SshSession, plan: &Plan) -> Result<(SshSession, DeployReport), Error> {
    let device = session.device().to_owned();
    let command = shell::command(&probe::script(&plan.dirs));
    let (session, output) = session.run(&command, &mut io::empty(), PROBE)?;
    let facts = probe::parse(&output.stdout).ok_or_else(|| Error::Remote {
        device: device.clone(),
        action: "look around",
        what: output.describe(),
    })?;
    let build = facts.choose(&device, &plan.triples, &plan.builds, !plan.runner.is_empty())?;
    let (session, there) = find_whole(session, plan, build)?;
    let (session, base, bytes_sent) = if let Some(base) = there {
        (session, base, 0)
    } else {
        let base = facts.place(&device, build.size())?.to_owned();
        (upload(session, build, &base, &plan.runner)?, base, build.size())
    };
    let report = DeployReport {
        device,
        triple: build.triple().into(),
        sha256: build.sha256().into(),
        path: format!("{base}/{}/device-agent", build.directory()),
        facts,
        bytes_sent,
    };
    Ok((session, report))
}

/// The base directory in which the build lies undamaged, if one does. A power cut may leave a file short or empty.
fn find_whole(session: SshSession, plan: &Plan, build: &AgentBuild) -> Result<(SshSession, Option<String>), Error> {
    let dirs = plan.dirs.iter().map(|dir| shell::dir_word(dir)).collect::<Vec<_>>().join(" ");
    let script = format!(
        "echo {begin}; for d in {dirs}; do a=\"$d\"/{sub}/device-agent; if [ -x \"$a\" ]; then if command -v sha256sum \
         >/dev/null 2>&1; then h=$(sha256sum < \"$a\"); else h=$({runner}\"$a\" hash \"$a\"); fi; case \"$h\" in {sha}*) \
         echo \"whole=$d\"; break;; esac; fi; done; echo {end}",
        begin = probe::BEGIN,
        end = probe::END,
        sub = shell::quote(&build.directory()),
        runner = plan.runner_words(),
        sha = build.sha256(),
    );
    let (session, output) = session.run(&shell::command(&script), &mut io::empty(), PROBE)?;
    let lines = probe::between_markers(&output.stdout).ok_or_else(|| Error::Remote {
        device: session.device().into(),
        action: "look for an agent",
        what: output.describe(),
    })?;
    Ok((session, lines.iter().find_map(|line| line.strip_prefix("whole=")).map(str::to_owned)))
}
