//! Taking away builds of the agent that newer ones replaced: a board's flash is small, and every version has its own path.

use super::probe::{BEGIN, END, between_markers};
use crate::{AgentBuild, Error, Remote, shell};
use std::{io, time::Duration};

/// Builds that stay on a device, the one in use included: two hosts of different versions must not chase each other.
const KEPT: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// The script. Kept are the build in use, the newest others, and whatever runs: although a running file may be unlinked, its
/// host would have to upload it again. Only directories that are named as builds are touched, and below them only what an
/// upload left a day ago.
fn script(base: &str, build: &AgentBuild) -> String {
    let current = build.directory();
    let current = shell::quote(current.rsplit('/').next().unwrap_or_default());
    format!(
        "echo {BEGIN}; cd {agents} || exit 1; c={current}; touch \"$c\"; r=$(ls -l /proc/[0-9]*/exe 2>/dev/null); n=1; \
         for d in $(ls -t); do case \"$d\" in \"$c\") continue;; *-{hash}) ;; *) continue;; esac; n=$((n + 1)); \
         if [ $n -le {KEPT} ]; then continue; fi; case \"$r\" in *\"/$d/device-agent\"*) continue;; esac; \
         rm -rf \"./$d\" && echo \"removed=$d\"; done; \
         find . -name 'device-agent.part-*' -mtime +0 -exec rm -f {{}} \\; 2>/dev/null; echo {END}",
        agents = shell::quote(&format!("{base}/agents")),
        hash = "[0-9a-f]".repeat(16),
    )
}

/// Removes old builds below `base`, and gives their names. Failing to is no failure of the device.
pub(super) fn clean<R: Remote>(remote: R, base: &str, build: &AgentBuild) -> Result<(R, Vec<String>), Error> {
    let (remote, output) = remote.run(&script(base, build), &mut io::empty(), PATIENCE)?;
    let lines = between_markers(&output.stdout).unwrap_or_default();
    let removed = lines.iter().filter_map(|line| line.strip_prefix("removed=")).map(str::to_owned).collect();
    Ok((remote, removed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, process::Command};

    #[test]
    fn the_newest_and_the_running_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("build");
        fs::write(&file, "now").unwrap();
        let build = AgentBuild::open("x86_64-unknown-linux-musl", &file).unwrap();
        let base = dir.path().join("it's a base");
        let agents = base.join("agents");
        let current = base.join(build.directory());
        fs::create_dir_all(&current).unwrap();
        let old: Vec<_> = (1..=6).map(|i| format!("aarch64-unknown-linux-gnu-{i:016x}")).collect();
        for (age, name) in old.iter().enumerate() {
            fs::create_dir_all(agents.join(name)).unwrap();
            fs::write(agents.join(name).join("device-agent"), "").unwrap();
            let touched = Command::new("touch").arg("-d").arg(format!("{} hours ago", age + 1)).arg(agents.join(name)).status();
            assert!(touched.unwrap().success());
        }
        // The oldest one runs.
        fs::copy("/bin/sleep", agents.join(&old[5]).join("device-agent")).unwrap();
        let mut running = Command::new(agents.join(&old[5]).join("device-agent")).arg("60").spawn().unwrap();
        for stranger in ["notes", "x-0123456789abcdeg"] {
            fs::create_dir_all(agents.join(stranger)).unwrap();
        }
        for (name, age) in [("part-old", "2 days ago"), ("part-new", "1 hour ago")] {
            let path = current.join(format!("device-agent.{name}"));
            fs::write(&path, "").unwrap();
            assert!(Command::new("touch").arg("-d").arg(age).arg(path).status().unwrap().success());
        }

        let out = Command::new("sh").arg("-c").arg(shell::command(&script(base.to_str().unwrap(), &build))).output().unwrap();
        running.kill().unwrap();
        running.wait().unwrap();
        let removed: Vec<_> = between_markers(&out.stdout).unwrap_or_else(|| panic!("{out:?}"));
        assert_eq!(removed, [&old[2], &old[3], &old[4]].map(|name| format!("removed={name}")));
        for stays in [&old[0], &old[1], &old[5], &"notes".into(), &"x-0123456789abcdeg".into()] {
            assert!(agents.join(stays).exists(), "{stays}");
        }
        assert_eq!(fs::read_dir(&current).unwrap().count(), 1, "only what an old upload left is gone");
        assert_eq!(fs::read_dir(&agents).unwrap().count(), 6);
    }
}
