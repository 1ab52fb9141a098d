//! Android devices, with a stand-in for the adb program that runs everything on this machine and can misbehave.

use crate::common::{caller, script_agent_in, write_program};
use edgewise_fleet::{Adb, AdbProblem, AdbRoute, AgentBuild, Category, Connect, Device, DeviceFacts, Error, Exit};
use edgewise_protocol::BlobId;
use edgewise_targets::Profile;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Understands `devices` and `-s SERIAL shell -T COMMAND`. `list` is what it shows; a file `cut` makes it drop the connection
/// in mid-stream: it kills what it runs and ends as adb does then, without a word about the process's end.
const ADB: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
    devices) echo "* daemon started successfully" >&2; echo "List of devices attached"; cat "$here/list"; echo; exit 0;;
    -s) ;;
    *) echo "adb: unexpected $1" >&2; exit 1;;
esac
[ "$2 $3 $4" = "R58M shell -T" ] && [ $# = 5 ] || { echo "adb: unexpected $*" >&2; exit 1; }
[ -e "$here/closed" ] && { echo "error: closed" >&2; exit 1; }
unset HOME PREFIX XDG_CACHE_HOME
export HOME=/
exec 4<&0
mkfifo "$here/out.$$"
sh -c "$5" <&4 2>"$here/err.$$" >"$here/out.$$" &
child=$!
cat "$here/out.$$" 4<&- &
relay=$!
# Not waited for any more, or the shell would tell how they ended.
trap 'kill -KILL $relay $child; exit 1' TERM
( while [ ! -e "$here/cut" ]; do sleep 0.02; done; kill -TERM $$ ) <&- 4<&- >/dev/null 2>&1 &
watcher=$!
wait $child
status=$?
wait $relay
kill $watcher
cat "$here/err.$$" >&2
exit $status
"#;

struct Phone {
    dir: tempfile::TempDir,
}

impl Phone {
    fn new(list: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_program(&dir.path().join("adb"), ADB);
        fs::write(dir.path().join("list"), list).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn route(&self, serial: Option<&str>, build: AgentBuild) -> AdbRoute {
        let mut profile = Profile::find("android").unwrap();
        // The machine of the test is no phone.
        profile.triples = vec!["x86_64-unknown-linux-musl".into()];
        let adb = Adb { program: self.path("adb"), serial: serial.map(str::to_owned) };
        AdbRoute { adb, builds: vec![build], profile, store: Some(self.path("data/local/tmp/it's !here").display().to_string()) }
    }

    fn problem(&self, serial: Option<&str>) -> AdbProblem {
        match (Adb { program: self.path("adb"), serial: serial.map(str::to_owned) }).connect("phone") {
            Err(error @ Error::Adb { .. }) => {
                assert_eq!(error.category(), Category::Connect);
                assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
                let Error::Adb { problem, .. } = error else { unreachable!() };
                problem
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_agent_is_put_on_a_phone_and_talked_to() {
    let phone = Phone::new("R58M\tdevice\n");
    // Large, so that the upload is more than one piece, and with every byte that a terminal would change.
    let padding = "# ".to_owned() + &"é\\\u{1}\r\u{4}".repeat(400_000);
    let build = script_agent_in(phone.dir.path(), &format!("echo warning >&2\nexec cat >/dev/null\n{padding}"));
    let route = phone.route(None, build.clone());
    let mut device = Device::new("phone", Box::new(route.clone()), caller());
    assert_eq!(device.hello().unwrap_or_else(|e| panic!("{e}")).version, "script");
    device.close();
    let report = route.deploy("phone").unwrap().unwrap();
    assert_eq!(report.bytes_sent, 0, "it is there already");
    assert_eq!(fs::read(&report.path).unwrap(), fs::read(build.path()).unwrap());
    let DeviceFacts { system, home, .. } = report.facts;
    assert_eq!((system.as_str(), home.as_str()), ("Linux", "/"));
    // The device is always named, although it is the only one.
    let calls = fs::read_to_string(phone.path("calls")).unwrap();
    assert!(calls.lines().all(|call| call == "devices" || call.starts_with("-s R58M shell -T exec sh -c")), "{calls}");
    assert_eq!(Device::new("phone", Box::new(phone.route(Some("R58M"), build)), caller()).hello().unwrap().version, "script");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_agent_that_dies_is_told_from_a_cable_that_is_pulled() {
    let phone = Phone::new("R58M\tdevice\n");
    let dying = script_agent_in(phone.dir.path(), "head -c 1 >/dev/null; echo 'out of ideas' >&2; exit 3");
    let error = Device::new("phone", Box::new(phone.route(None, dying)), caller()).have(&[BlobId([1; 32])]).unwrap_err();
    let Error::AgentDied { end, .. } = &error else { panic!("{error}") };
    assert_eq!((&end.exit, end.stderr.as_str()), (&Exit::Code(3), "out of ideas"));

    let patient = script_agent_in(phone.dir.path(), "exec cat >/dev/null");
    let route = phone.route(None, patient);
    route.deploy("phone").unwrap();
    let mut transport = route.connect("phone", false).unwrap();
    let greeted = transport.receive(Instant::now() + Duration::from_secs(20));
    assert!(matches!(greeted, Some(edgewise_fleet::Event::Data(_))));
    let start = Instant::now();
    fs::write(phone.path("cut"), "").unwrap();
    let end = loop {
        match transport.receive(Instant::now() + Duration::from_secs(20)) {
            Some(edgewise_fleet::Event::Ended(end)) => break end,
            Some(edgewise_fleet::Event::Data(_)) => thread::yield_now(),
            None => panic!("no end"),
        }
    };
    assert!(matches!(&end.exit, Exit::Lost(why) if why.contains("status 1")), "{end}");
    assert!(start.elapsed() < Duration::from_secs(10));
    fs::remove_file(phone.path("cut")).unwrap();
    // In the middle of the bootstrap it is a lost connection as well.
    fs::write(phone.path("closed"), "").unwrap();
    let error = route.deploy("phone").unwrap_err();
    assert!(matches!(&error, Error::ConnectionLost { why, .. } if why == "error: closed"), "{error}");
}

#[test]
fn what_stands_in_between_is_named() {
    let missing = Adb { program: Path::new("/nowhere/adb").into(), serial: None }.connect("phone").unwrap_err();
    assert!(matches!(&missing, Error::Adb { problem: AdbProblem::NoProgram { .. }, .. }), "{missing}");
    assert!(missing.hint().unwrap().contains("EDGEWISE_ADB"));
    assert_eq!(Phone::new("").problem(None), AdbProblem::NoDevice);
    assert_eq!(Phone::new("R58M\tunauthorized\n").problem(None), AdbProblem::Unauthorized("R58M".into()));
    assert_eq!(Phone::new("R58M\toffline\n").problem(Some("R58M")), AdbProblem::Offline("R58M".into()));
    let two = Phone::new("R58M\tdevice\nemulator-5554\tdevice\n");
    assert_eq!(two.problem(None), AdbProblem::Several(vec!["R58M".into(), "emulator-5554".into()]));
    let seen = vec!["R58M".into(), "emulator-5554".into()];
    assert_eq!(two.problem(Some("other")), AdbProblem::NotFound { serial: "other".into(), seen });
    let broken = Phone::new("");
    write_program(&broken.path("adb"), "#!/bin/sh\necho 'cannot connect to daemon' >&2\nexit 1\n");
    assert!(matches!(broken.problem(None), AdbProblem::Failed(words) if words.contains("cannot connect to daemon")));
}
