//! Every number that bounds what a host can make the agent do, and every wait.

use std::time::Duration;

/// The host must answer the agent's hello within this.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time between heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// The agent leaves when no frame came for this long and no request is open: its host is gone without a word.
pub(crate) const IDLE: Duration = Duration::from_mins(30);
/// Open requests have this long to wind up once the host is gone.
pub(crate) const WIND_UP: Duration = Duration::from_secs(5);
/// Asking a runtime for its version may take this long; libraries of hundreds of megabytes come from slow cards.
pub(crate) const RUNTIME_CHECK: Duration = Duration::from_mins(1);
/// A measurement waits this long for one of another agent on the same store.
pub(crate) const DEVICE_LOCK: Duration = Duration::from_secs(10);
/// A blob that another agent looks at, to see whether it may go, is waited for this long.
pub(crate) const BLOB_LOCK: Duration = Duration::from_secs(1);

/// Frames that wait between the reader and the dispatcher.
pub(crate) const INBOX: usize = 16;
/// Bytes of an upload between two acknowledgements.
pub(crate) const ACK_BYTES: u64 = 1 << 20;
/// Bytes that must stay free on the device's disk beyond a blob.
pub(crate) const DISK_RESERVE: u64 = 1 << 20;
/// Bytes of blobs that a store keeps at most, unless the command line says another number.
pub(crate) const STORE_BUDGET: u64 = 8 << 30;
/// Bytes of a worker's standard error that are kept for the error message.
pub(crate) const STDERR_TAIL: usize = 2 << 10;

/// Files of one artifact. Each is held by an open file while it is measured, of which a process commonly gets 1024.
pub(crate) const MAX_FILES: usize = 512;
/// Bytes of one artifact's file name.
pub(crate) const MAX_NAME: usize = 128;
/// Positions of a sequence, prompt and generated tokens together.
pub(crate) const MAX_POSITIONS: u32 = 1 << 20;
/// Threads of a runtime.
pub(crate) const MAX_THREADS: u16 = 1024;
/// Raw samples of each kind that are kept, so that a result fits a control frame whatever they are.
pub(crate) const MAX_SAMPLES: usize = 20_000;
