//! What boards are like: login shells of every kind that print banners, systems with hardly a tool, directories that forbid
//! running or writing.

use crate::common::{
    Setup, caller, free_port, is_root, keygen, program, route, script_agent, script_agent_in, server, server_with, user,
    wait_for_port,
};
use edgewise_fleet::{
    Address, Connect, Destination, Device, Error, KnownHosts, SshRoute, SshSession, SshSettings, fetch_host_key,
};
use edgewise_targets::Profile;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

/// A directory whose name means something to every shell, unless it is quoted for each.
const ODD: &str = "it's $HOME !here `id` \\n \"x\" {a,b} ~ %1 #;&|<é>";

/// Deploys, starts and deploys again through a server whose commands go through `login`.
fn is_usable(login: &str) {
    let Some(server) = server_with(&Setup { login, ..Setup::default() }) else { return };
    let store = server.path(ODD);
    let route = route(&server, script_agent(&server, "exec cat >/dev/null"), &store);
    let mut device = Device::new("pi", Box::new(route.clone()), caller());
    assert_eq!(device.hello().unwrap_or_else(|e| panic!("{login}: {e}\n{}", server.log())).version, "script");
    device.close();
    let report = route.deploy("pi").unwrap_or_else(|e| panic!("{login}: {e}")).unwrap();
    assert_eq!(report.bytes_sent, 0, "{login}: it is there, whole");
    assert!(report.path.starts_with(store.to_str().unwrap()) && Path::new(&report.path).is_file(), "{login}: {}", report.path);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_login_shell_understands_us() {
    for shell in ["dash", "bash", "mksh", "fish", "tcsh", "busybox"] {
        let Some(path) = program(shell) else { continue };
        let applet = if shell == "busybox" { " sh" } else { "" };
        is_usable(&format!("exec {}{applet} -c \"$SSH_ORIGINAL_COMMAND\"", path.display()));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn banners_and_talkative_rc_files_are_seen_through() {
    is_usable(
        "printf 'Welcome to \\033[1mBoard OS\\033[0m\\r\\n\\n'; echo 'system=Lies'; echo 'Last login: never' >&2; head -c 20000 \
         /dev/zero; echo; eval \"$SSH_ORIGINAL_COMMAND\"; echo goodbye",
    );
}

/// PATH with nothing but what the smallest images have.
fn bare_tools(dir: &Path, tools: &[&str]) -> PathBuf {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    for tool in tools {
        let real = ["/bin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.exists());
        std::os::unix::fs::symlink(real.unwrap_or_else(|| panic!("no {tool}")), bin.join(tool)).unwrap();
    }
    bin
}

/// No getconf, ldd, sha256sum, od, id, df, tail, mktemp, find, touch, ls; no sftp-server or scp, which are never used.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_system_with_hardly_a_tool_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let bin = bare_tools(dir.path(), &["sh", "cat", "mkdir", "rmdir", "chmod", "mv", "rm", "wc", "uname", "head"]);
    let login = format!("PATH={}; export PATH; eval \"$SSH_ORIGINAL_COMMAND\"", bin.display());
    let Some(server) = server_with(&Setup { login: &login, ..Setup::default() }) else { return };
    // What hashes itself cannot hold its own hash: it is told through a file beside it.
    let hash = dir.path().join("hash");
    let body = format!("if [ \"$1\" = hash ]; then cat {}; exit; fi", hash.display());
    let build = script_agent(&server, "exec cat >/dev/null");
    let text = fs::read_to_string(build.path()).unwrap().replacen('\n', &format!("\n{body}\n"), 1);
    fs::write(build.path(), text).unwrap();
    let build = edgewise_fleet::AgentBuild::open(build.triple(), build.path()).unwrap();
    fs::write(&hash, build.sha256()).unwrap();
    let route = route(&server, build, &server.path("store"));
    let mut device = Device::new("pi", Box::new(route.clone()), caller());
    assert_eq!(device.hello().unwrap_or_else(|e| panic!("{e}\n{}", server.log())).version, "script");
    device.close();
    assert_eq!(route.deploy("pi").unwrap().unwrap().bytes_sent, 0);
    // Damage is found by the agent, too.
    fs::write(&hash, "0000").unwrap();
    assert!(matches!(route.deploy("pi"), Err(Error::UploadDamaged { .. })));
}

/// dropbear, as small images have it, in a mount namespace where the account's home is ours: it reads no other file of keys.
struct Dropbear {
    dir: tempfile::TempDir,
    child: Child,
    address: Address,
}

impl Dropbear {
    fn start() -> Option<Self> {
        let (dropbear, dropbearkey, unshare) = (program("dropbear")?, program("dropbearkey")?, program("unshare")?);
        program("ssh-keygen")?;
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        keygen(&dir.path().join("user"), "ed25519", "");
        fs::copy(dir.path().join("user.pub"), home.join(".ssh/authorized_keys")).unwrap();
        let mut command = String::from("mount --bind \"$1\" ~root && exec \"$2\" -F -E -s -p \"127.0.0.1:$3\" -P \"$4/pid\"");
        for kind in ["rsa", "ecdsa", "ed25519"] {
            let key = dir.path().join(kind);
            assert!(Command::new(&dropbearkey).args(["-t", kind, "-f"]).arg(&key).output().unwrap().status.success());
            write!(command, " -r \"$4/{kind}\"").unwrap();
        }
        let port = free_port();
        let log = dir.path().join("log");
        let child = Command::new(unshare)
            .args(["--mount", "sh", "-c", &command, "sh"])
            .arg(&home)
            .arg(dropbear)
            .arg(port.to_string())
            .arg(dir.path())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let server = Self { dir, child, address: Address { user: user(), host: "127.0.0.1".into(), port } };
        wait_for_port(port, || server.log());
        Some(server)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn dropbear_is_a_server_like_another() {
    let Some(server) = Dropbear::start() else { return };
    let hosts = KnownHosts::new(server.dir.path().join("known_hosts"), None);
    let endpoint = server.address.clone().into();
    hosts.store(&server.address, &fetch_host_key(&endpoint, &hosts).unwrap()).unwrap();
    // Each cipher that a profile may prefer and dropbear knows.
    for cipher in ["chacha20-poly1305@openssh.com", "aes128-ctr"] {
        let settings = SshSettings { identity: Some(server.dir.path().join("user")), ciphers: vec![cipher.into()] };
        SshSession::connect("pi", &endpoint, &hosts, &settings).unwrap_or_else(|e| panic!("{cipher}: {e}\n{}", server.log()));
    }
    let padding = "# ".to_owned() + &"é\\\u{1}\r".repeat(700_000);
    let route = SshRoute {
        destination: Destination {
            user: Some(server.address.user.clone()),
            host: server.address.host.clone(),
            port: Some(server.address.port),
        },
        ssh: None,
        known_hosts: hosts,
        identity: Some(server.dir.path().join("user")),
        builds: vec![script_agent_in(server.dir.path(), &format!("exec cat >/dev/null\n{padding}"))],
        profile: Profile::find("linux-x86_64").unwrap(),
        store: Some(server.dir.path().join(ODD).display().to_string()),
    };
    let mut device = Device::new("pi", Box::new(route.clone()), caller());
    assert_eq!(device.hello().unwrap_or_else(|e| panic!("{e}\n{}", server.log())).version, "script");
    device.close();
    assert_eq!(route.deploy("pi").unwrap().unwrap().bytes_sent, 0);
}

/// A file system in memory; unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status().unwrap();
        assert!(mounted.success(), "root cannot mount");
        Some(Self(dir))
    }

    fn folder(&self) -> String {
        self.0.path().join("edgewise").display().to_string()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_directory_that_forbids_programs_or_writing_is_passed_over() {
    let (Some(noexec), Some(readonly)) = (Mount::new("noexec,size=8m"), Mount::new("ro,size=8m")) else { return };
    let Some(server) = server() else { return };
    let build = script_agent(&server, "exec cat >/dev/null");
    let with = |dirs: &[&str]| {
        let mut route = route(&server, build.clone(), Path::new("/"));
        route.store = None;
        route.profile.remote_dirs = dirs.iter().map(|dir| (*dir).to_owned()).collect();
        route
    };
    let good = server.path("good").display().to_string();
    let all = with(&["$NO_SUCH_VARIABLE/x", &readonly.folder(), &noexec.folder(), &good]);
    let report = all.deploy("pi").unwrap_or_else(|e| panic!("{e}\n{}", server.log())).unwrap();
    assert!(report.path.starts_with(&good), "{}", report.path);
    assert_eq!(Device::new("pi", Box::new(all), caller()).hello().unwrap().version, "script");
    assert!(!Path::new(&noexec.folder()).exists(), "nothing stays in a directory that was no use");

    let error = with(&[&readonly.folder(), &noexec.folder()]).deploy("pi").unwrap_err();
    assert!(matches!(&error, Error::NoExec { dirs, .. } if *dirs == [noexec.folder()]), "{error}");
    assert!(error.hint().unwrap().contains("`store`"), "it asks for another directory");
    let error = with(&[&readonly.folder()]).deploy("pi").unwrap_err();
    assert!(matches!(&error, Error::ReadOnly { dirs, .. } if *dirs == [readonly.folder()]), "{error}");
    // An agent that lies there already, as after a remount, cannot be started: that is told and not taken for its absence.
    let remount = |options: &str| {
        let done = Command::new("mount").args(["-o", options]).arg(noexec.0.path()).status().unwrap();
        assert!(done.success());
    };
    remount("remount,exec");
    let here = with(&[&noexec.folder()]);
    here.deploy("pi").unwrap();
    remount("remount,noexec");
    let error = Device::new("pi", Box::new(here), caller()).hello().unwrap_err();
    assert!(matches!(&error, Error::NoExec { .. }), "{error}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_disk_that_is_full_is_told_with_what_is_missing() {
    let Some(disk) = Mount::new("size=2m") else { return };
    let Some(server) = server() else { return };
    let build = script_agent(&server, &format!("exec cat >/dev/null\n# {}", "x".repeat(3 << 20)));
    let route = route(&server, build.clone(), Path::new(&disk.folder()));
    let refused = |free_at_most: u64| {
        let error = route.deploy("pi").unwrap_err();
        let Error::NoSpace { dir, needed, free, .. } = &error else { panic!("{error}") };
        assert!(*dir == disk.folder() && *needed > build.size() && *free <= free_at_most, "{error}");
        assert!(error.hint().unwrap().contains("free space there"), "{error}");
        assert!(!Path::new(&disk.folder()).exists(), "nothing stays on a disk that is too small");
    };
    refused(2 << 20);
    // Where not a byte more can be written it is not taken for a directory that forbids writing.
    let filled =
        Command::new("sh").arg("-c").arg("cat /dev/zero > \"$0/filler\" 2>/dev/null").arg(disk.0.path()).status().unwrap();
    assert!(!filled.success());
    refused(0);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn old_builds_go_when_new_ones_come() {
    let Some(server) = server() else { return };
    let store = server.path("d");
    let mut removed = Vec::new();
    for version in 0..5 {
        let build = script_agent(&server, &format!("exec cat >/dev/null # {version}"));
        // The times that order them must differ.
        for entry in fs::read_dir(store.join("agents")).into_iter().flatten() {
            let path = entry.unwrap().path();
            let age = format!("{} minutes ago", 10 - version);
            assert!(Command::new("touch").arg("-r").arg(&path).arg("-d").arg(age).arg(&path).status().unwrap().success());
        }
        removed.push(route(&server, build, &store).deploy("pi").unwrap().unwrap().removed.len());
    }
    assert_eq!(removed, [0, 0, 0, 1, 1]);
    assert_eq!(fs::read_dir(store.join("agents")).unwrap().count(), 3);
}
