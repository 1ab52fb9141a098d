//! Putting one file on a device with nothing but a POSIX shell there.

use super::probe::{BEGIN, END, between_markers};
use crate::{AgentBuild, Error, Remote, shell};
use std::{fs::File, time::Duration};

/// A slow link moves 50 KiB/s.
const BYTES_PER_SECOND_AT_LEAST: u64 = 50 << 10;

/// The script that receives the file on stdin. Everything happens in one command, since each costs a fifth of a second.
///
/// Where there is no sha256sum, the agent hashes its own file: a damaged agent either does not run or gives another hash.
fn script(build: &AgentBuild, base: &str, token: &str, runner: &[String]) -> String {
    let dir = format!("{base}/{}", build.directory());
    let part = shell::quote(&format!("{dir}/device-agent.part-{token}"));
    let runner: String = runner.iter().map(|word| shell::quote(word) + " ").collect();
    format!(
        "LC_ALL=C; export LC_ALL; umask 077; p={part}; step() {{ echo \"failed=$1\"; rm -f \"$p\"; echo {END}; exit 1; }}; \
         echo {BEGIN}; mkdir -p {dir} || step mkdir; cat > \"$p\" || step write; echo size=$(wc -c < \"$p\"); \
         chmod 700 \"$p\" || step chmod; if command -v sha256sum >/dev/null 2>&1; then h=$(sha256sum < \"$p\"); else \
         h=$({runner}\"$p\" hash \"$p\"); fi; echo \"hash=$h\"; case \"$h\" in {sha}*) ;; *) step check;; esac; \
         mv -f \"$p\" {target} || step rename; echo done=1; echo {END}",
        dir = shell::quote(&dir),
        target = shell::quote(&format!("{dir}/device-agent")),
        sha = build.sha256(),
    )
}

pub(super) fn upload<R: Remote>(remote: R, build: &AgentBuild, base: &str, runner: &[String]) -> Result<R, Error> {
    let device = remote.device().to_owned();
    let failed = |source| Error::File { action: "read", path: build.path().into(), source };
    let mut file = File::open(build.path()).map_err(failed)?;
    let token = token().map_err(failed)?;
    let limit = Duration::from_secs(60 + build.size() / BYTES_PER_SECOND_AT_LEAST);
    let (remote, output) = remote.run(&script(build, base, &token, runner), &mut file, limit)?;
    let refused = |what: String| Error::Remote { device: device.clone(), action: "upload the agent", what };
    let lines = between_markers(&output.stdout).ok_or_else(|| refused(output.describe()))?;
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match value("failed") {
        None if value("done") == Some("1") => Ok(remote),
        Some("mkdir" | "write") if output.end.stderr.contains("No space left") => {
            Err(Error::NoSpace { device, dir: base.into(), needed: build.size(), free: 0 })
        }
        Some("mkdir" | "write") if output.end.stderr.contains("Read-only file system") => {
            Err(Error::ReadOnly { device, dirs: vec![base.into()] })
        }
        Some("check") => {
            let (size, hash) = (value("size").unwrap_or("?").trim(), value("hash").unwrap_or("?").trim());
            let what = format!("{} bytes sent, {size} arrived; SHA-256 {} sent, {hash} arrived", build.size(), build.sha256());
            Err(Error::UploadDamaged { device, what })
        }
        step => Err(refused(format!("step `{}` failed: {}", step.unwrap_or("?"), output.end.stderr))),
    }
}

/// Names the temporary file; random, since two hosts may upload at once.
fn token() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        io::Write,
        path::Path,
        process::{Command, Stdio},
    };

    /// The script's last stdout and its exit status, with `path` as PATH.
    fn receive(build: &AgentBuild, base: &Path, bytes: &[u8], path: &str, hash: &str) -> (String, bool) {
        let command = shell::command(&script(build, base.to_str().unwrap(), "0011", &[]));
        let mut child = Command::new("/bin/sh")
            .args(["-c", &command])
            .env("PATH", path)
            .env("FAKE_HASH", hash)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The script may end before it read everything.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        let out = child.wait_with_output().unwrap();
        (String::from_utf8(out.stdout).unwrap(), out.status.success())
    }

    fn build(dir: &Path, content: &[u8]) -> AgentBuild {
        let path = dir.join("build");
        fs::write(&path, content).unwrap();
        AgentBuild::open("t", &path).unwrap()
    }

    #[test]
    fn what_arrives_whole_is_renamed_and_what_does_not_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        let build = build(dir.path(), &content);
        let base = dir.path().join("it's a base");
        let place = base.join(build.directory());
        let path = std::env::var("PATH").unwrap();

        let (out, ok) = receive(&build, &base, &content[..50_000], &path, "");
        assert!(!ok && out.contains("failed=check") && out.contains("size=50000"), "{out}");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);

        let (out, ok) = receive(&build, &base, &content, &path, "");
        assert!(ok && out.contains("done=1"), "{out}");
        assert_eq!(fs::read(place.join("device-agent")).unwrap(), content);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(place.join("device-agent")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_device_without_sha256sum_asks_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let tools = dir.path().join("bin");
        fs::create_dir(&tools).unwrap();
        for tool in ["sh", "cat", "mkdir", "chmod", "mv", "rm", "wc"] {
            let real = ["/bin", "/usr/bin"].iter().map(|d| Path::new(d).join(tool)).find(|p| p.exists()).unwrap();
            std::os::unix::fs::symlink(real, tools.join(tool)).unwrap();
        }
        // An agent that can name its hash cannot hold it; this one is told through its environment.
        let agent = b"#!/bin/sh\n[ \"$1\" = hash ] && echo $FAKE_HASH\n";
        let build = build(dir.path(), agent);
        let base = dir.path().join("base");
        let (out, ok) = receive(&build, &base, agent, tools.to_str().unwrap(), "00");
        assert!(!ok && out.contains("failed=check"), "{out}");
        let (out, ok) = receive(&build, &base, agent, tools.to_str().unwrap(), build.sha256());
        assert!(ok && out.contains("done=1"), "{out}");
    }

    #[test]
    fn a_place_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let build = build(dir.path(), b"x");
        let (out, ok) = receive(&build, Path::new("/dev/null/base"), b"x", &std::env::var("PATH").unwrap(), "");
        assert!(!ok && out.contains("failed=mkdir"), "{out}");
    }
}
