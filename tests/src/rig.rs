//! A board behind a line that can break: a home, an sshd, and a proxy between them.

use crate::{Call, Home, Proxy, Sshd, agents_of, eventually};
use std::path::{Path, PathBuf};

/// Quick to measure, and screened only: for tests of everything but the numbers.
pub const ONCE: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";

/// A registered, trusted board named `board`.
pub struct Rig {
    /// The line to it.
    pub proxy: Proxy,
    /// Its server.
    pub server: Sshd,
    /// Where the board keeps its things.
    pub store: PathBuf,
    /// The host's home, with the demo model prepared.
    pub home: Home,
}

impl Rig {
    /// Sets one up. `None`, and a visible word, where there is no OpenSSH.
    pub fn new() -> Option<Self> {
        Self::with("")
    }

    /// The same with more lines in the configuration of the server.
    pub fn with(sshd_config: &str) -> Option<Self> {
        let server = Sshd::start_with(1, sshd_config)?;
        let home = Home::with_demo();
        let proxy = Proxy::to(server.port);
        let store = server.board(&home, "board", proxy.port, "");
        Some(Self { proxy, server, store, home })
    }

    /// `host WORDS --device board`.
    pub fn host(&self, words: &str) -> Call {
        self.home.host(words).words("--device board")
    }

    /// A quick search on the board into this study, with a document at the end.
    pub fn search(&self, study: &Path, words: &str) -> Call {
        self.host("search --json").words(ONCE).words(words).arg("--study").arg(study)
    }

    /// Waits until no agent of the board runs, nor what it started.
    pub fn nothing_runs(&self) {
        eventually("the agents of the board are gone", || agents_of(&self.store).is_empty().then_some(()));
        eventually("their workers are gone", || crate::workers_of(&self.store).is_empty().then_some(()));
    }

    /// Puts the agent on the board, over a line that does not break.
    pub fn deploy(&self) {
        self.host("deploy --runtime tract").run().ok();
    }
}
