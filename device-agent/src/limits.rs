//! Every number that bounds what a host can make the agent do, and every wait.

use std::time::Duration;

/// The host must answer the agent's hello within this.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time between heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// The agent leaves when no frame came for this long and no request is open: its host is gone without a word.
pub(crate) const IDLE: Duration = Duration::from_mins(30);
/// The same while an upload is open: its host asks for signs of life all the time, and others may want to send the same blob.
pub(crate) const SILENT_UPLOAD: Duration = Duration::from_secs(30);
/// Open requests have this long to wind up once the host is gone.
pub(crate) const WIND_UP: Duration = Duration::from_secs(5);
/// Asking a runtime for its version may take this long; libraries of hundreds of megabytes come from slow cards.
pub(crate) const RUNTIME_CHECK: Duration = Duration::from_mins(1);
/// A blob that another agent looks at, to see whether it may go, is waited for this long.
pub(crate) const BLOB_LOCK: Duration = Duration::from_secs(1);

/// Who waits for the lease asks for its holder's name this often: each question wakes the holder for a moment.
pub(crate) const ASK_OWNER: Duration = Duration::from_secs(5);
/// The holder of a lease has this long to say its name.
pub(crate) const OWNER_REPLY: Duration = Duration::from_millis(500);
/// A device that rests is looked at this often.
pub(crate) const REST_POLL: Duration = Duration::from_secs(1);
/// Power with nothing running is measured this long.
pub(crate) const IDLE_POWER: Duration = Duration::from_secs(2);
/// Time between two readings of a power meter: meters average over about as long, and reading one costs processor time.
pub(crate) const METER_POLL: Duration = Duration::from_millis(20);
/// A run for the power meter lasts at least this long, in milliseconds.
pub(crate) const MIN_ENERGY_MS: u32 = 5_000;
/// An examination watches the idle device this long.
pub(crate) const IDLE_WATCH: Duration = Duration::from_secs(2);
/// An examination repeats a fixed computation this long.
pub(crate) const SPIN_WATCH: Duration = Duration::from_secs(1);
/// Warm-up lasts at least this long, in milliseconds, where clocks follow the load: they must have risen before anything is
/// timed.
pub(crate) const CLOCK_RAMP_MS: u32 = 2_000;

/// Uploads that are open at a time; each has an open file, and a part of the window that a host keeps in flight.
pub(crate) const MAX_UPLOADS: usize = 64;
/// Bytes of the name of a lease.
pub(crate) const MAX_LEASE: usize = 64;
/// Characters of a lease's owner that are told.
pub(crate) const MAX_OWNER: usize = 200;
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
/// Execution providers that may be asked for.
pub(crate) const MAX_PROVIDERS: usize = 16;
/// Tokens that may end a text.
pub(crate) const MAX_STOPS: usize = 64;
/// Raw samples of each kind that are kept, so that a result fits a control frame whatever they are.
pub(crate) const MAX_SAMPLES: usize = 20_000;
/// Other prompt lengths and depths, together, that a measurement may ask for.
pub(crate) const MAX_POINTS: usize = 16;
/// Raw samples of each of them: with [`MAX_POINTS`] and [`MAX_SAMPLES`] the result still fits a control frame.
pub(crate) const MAX_POINT_SAMPLES: usize = 1_000;
/// Tokens that are timed from one filling of the cache to a depth: over more of them it would be another depth.
pub(crate) const DEPTH_ROUND: usize = 64;
/// Attempts that may be thrown away.
pub(crate) const MAX_RETRIES: u8 = 10;
