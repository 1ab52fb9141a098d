//! The programs under test, and what the processes that run tests share.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::UNIX_EPOCH,
};

/// `host`, as the workspace's build put it beside the tests.
pub fn host() -> PathBuf {
    program("host")
}

/// `device-agent`, likewise.
pub fn agent() -> PathBuf {
    program("device-agent")
}

fn program(name: &str) -> PathBuf {
    let path = build_folder().join(name);
    let build = "build the workspace first, for example with `cargo test --release --workspace`";
    assert!(path.is_file(), "there is no {}: {build}", path.display());
    path
}

/// `target/<profile>`; tests run from `target/<profile>/deps`.
fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    test.parent().and_then(Path::parent).expect("a test lies two folders deep").to_owned()
}

/// A folder for what test processes share, beside the build.
pub(crate) fn scratch() -> PathBuf {
    let folder = build_folder().join("edgewise-tests");
    fs::create_dir_all(&folder).expect("the build folder can be written");
    folder
}

/// Held while devices measure, so that two tests do not fight for the processors and both take longer.
#[derive(Debug)]
pub struct Measuring(File);

/// Waits for its turn among all test processes.
pub fn measuring() -> Measuring {
    Measuring(locked("measuring"))
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // Closing the file would do it; a child that inherited it must not keep it.
        let _ = self.0.unlock();
    }
}

fn locked(name: &str) -> File {
    let file = File::create(scratch().join(format!("{name}.lock"))).expect("the lock can be made");
    file.lock().expect("the lock can be taken");
    file
}

/// A home in which the demo model is prepared already, made once for each build of `host`.
pub(crate) fn prepared_demo() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let meta = fs::metadata(host()).expect("host was built");
        let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        let name = format!("demo-{time}-{}", meta.len());
        let folder = scratch().join(&name);
        let _lock = locked("demo");
        if !folder.join("complete").is_file() {
            for old in fs::read_dir(scratch()).expect("the folder can be read").flatten() {
                if old.file_name().to_string_lossy().starts_with("demo-") {
                    let _ = fs::remove_dir_all(old.path());
                }
            }
            fs::create_dir_all(&folder).expect("the build folder can be written");
            crate::home::call_in(&folder)
                .arg("evaluate")
                .arg("demo")
                .arg("--candidate")
                .arg(r#"{"layers":[0],"width":32,"kv_groups":[1],"mlp":[32]}"#)
                .words("--window 16 --windows 1")
                .run()
                .ok();
            fs::write(folder.join("complete"), "").expect("the build folder can be written");
        }
        folder
    })
}
