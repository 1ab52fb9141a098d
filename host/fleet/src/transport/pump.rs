//! The one thread that touches a session and its channel once the process runs.
//!
//! libssh2 locks a whole session for each call, so a blocking read would hold up every writer. Hence: non-blocking calls
//! only, poll(2) between them, queues to the rest of the program. Rules that the library imposes:
//! - `Channel::flush` throws away bytes that were *received*. It is never called here or anywhere in this crate; the
//!   channel is private to this file so that no generic writer can call it.
//! - A write that would block has to be repeated with the same bytes before anything else is sent, keepalives included.
//! - A process that was killed reports exit status 0: the signal has to be asked for as well.

use super::{
    End, Event, Exit, READ_SIZE,
    poll::{Interest, Sleeper},
    tail::{Tail, Words},
};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use ssh2::{BlockDirections, Channel, Session};
use std::{
    io::{ErrorKind, Read, Write},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// No byte accepted or received for this long while some wait to be sent: the connection is dead.
const STALL: Duration = Duration::from_secs(30);
/// Time for the end to arrive once nothing can be sent any more.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Time for the program in between to say why it ended.
const LAST_WORDS_OF_PROXY: Duration = Duration::from_millis(500);
/// Idle time after which a keepalive is sent.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// libssh2's code for "would block" (`LIBSSH2_ERROR_EAGAIN`).
const EAGAIN: i32 = -37;
/// Time for the closing handshake of the channel.
const GOODBYE_MS: u32 = 5_000;
/// Largest piece given to libssh2 at once.
const WRITE_SIZE: usize = 256 << 10;

/// What the pump and its handle share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) moved: AtomicU64,
    pub(crate) quiet: AtomicBool,
    /// The pump holds a piece that the full queue did not take; the receiver wakes it.
    pub(crate) reader_waits: AtomicBool,
    /// Close stdin once everything queued is sent.
    pub(crate) finish: AtomicBool,
    /// Give up at once.
    pub(crate) abort: AtomicBool,
}

pub(crate) struct Pump {
    pub(crate) session: Session,
    pub(crate) channel: Channel,
    /// What the program that the connection leads through says, if there is one.
    pub(crate) proxy: Option<Words>,
    pub(crate) outgoing: Receiver<Vec<u8>>,
    pub(crate) incoming: Sender<Event>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sleeper: Sleeper,
}

/// What one round of calls did.
#[derive(Default)]
struct Round {
    progress: bool,
    write_blocked: bool,
    ended: bool,
}

#[derive(Default)]
struct State {
    /// Being sent, from this offset on.
    message: Option<(Vec<u8>, usize)>,
    /// Received, but the queue was full.
    held: Option<Event>,
    stdin_closed: bool,
    /// Why and since when the process takes nothing more.
    refused: Option<(String, Instant)>,
    stderr: Tail,
}

impl State {
    /// The process closed its end, or the connection is gone; reading on tells which, and what it said last.
    fn refuse(&mut self, why: &str) {
        self.message = None;
        self.stdin_closed = true;
        self.refused.get_or_insert_with(|| (why.to_owned(), Instant::now()));
    }
}

impl Pump {
    /// Moves bytes until the process ends or the connection breaks; gives the session back if it is still of use.
    pub(crate) fn run(mut self) -> Option<Session> {
        self.session.set_keepalive(true, KEEPALIVE.as_secs() as u32);
        self.session.set_blocking(false);
        let mut state = State::default();
        let outcome = self.pump(&mut state);
        let exit = match outcome {
            Ok(()) => self.goodbye(),
            Err(why) => Exit::Lost(self.with_proxy(why)),
        };
        let usable = !matches!(exit, Exit::Lost(_));
        // What was received before the end comes before it. A receiver that is gone takes neither.
        if let Some(held) = state.held.take() {
            let _ = self.incoming.send(held);
        }
        let _ = self.incoming.send(Event::Ended(End { exit, stderr: state.stderr.text() }));
        // Freeing the channel may talk to the server: bounded, and after everybody was told.
        self.session.set_blocking(true);
        self.session.set_timeout(GOODBYE_MS);
        drop(self.channel);
        usable.then_some(self.session)
    }

    /// Why the connection broke, with what the program in between said about it.
    fn with_proxy(&self, why: String) -> String {
        let aborted = self.shared.abort.load(Ordering::Acquire);
        let said = self.proxy.as_ref().filter(|_| !aborted).map(|words| words.text(LAST_WORDS_OF_PROXY)).unwrap_or_default();
        if said.is_empty() { why } else { format!("{why}; the proxy said: {said}") }
    }

    fn pump(&mut self, state: &mut State) -> Result<(), String> {
        let mut buffer = vec![0; READ_SIZE];
        let mut last_progress = Instant::now();
        let mut last_keepalive = Instant::now();
        loop {
            if self.shared.abort.load(Ordering::Acquire) {
                return Err("closed from this side".into());
            }
            let mut round = Round::default();
            self.write(state, &mut round);
            // In this order: any call may take packets of the other stream off the socket, which poll then no longer shows.
            self.drain_stderr(state, &mut buffer, &mut round)?;
            self.read(state, &mut buffer, &mut round)?;
            if round.ended {
                return Ok(());
            }
            if round.progress {
                last_progress = Instant::now();
                last_keepalive = last_progress;
                continue;
            }
            // A far side that waits for us to read is not stalled.
            if state.message.is_some() && state.held.is_none() && last_progress.elapsed() > STALL {
                return Err(format!("nothing could be sent for {} s", STALL.as_secs()));
            }
            if let Some((why, since)) = &state.refused
                && since.elapsed() > LAST_WORDS
            {
                return Err(why.clone());
            }
            self.keepalive(state, &mut last_keepalive)?;
            self.sleep(state, &round)?;
        }
    }

    fn write(&mut self, state: &mut State, round: &mut Round) {
        if state.message.is_none() && !state.stdin_closed {
            // The flag is read first: what was queued before it was set is then found in the queue.
            let finish = self.shared.finish.load(Ordering::Acquire);
            match self.outgoing.try_recv() {
                Ok(message) => state.message = Some((message, 0)),
                Err(TryRecvError::Empty) if !finish => {}
                Err(_) => match self.channel.send_eof() {
                    Ok(()) => {
                        state.stdin_closed = true;
                        round.progress = true;
                    }
                    Err(e) if would_block(&e) => round.write_blocked = true,
                    Err(e) => state.refuse(e.message()),
                },
            }
        }
        let Some((message, sent)) = &mut state.message else { return };
        if message.is_empty() {
            state.message = None;
            return;
        }
        let piece = &message[*sent..message.len().min(*sent + WRITE_SIZE)];
        match self.channel.write(piece) {
            // A full remote window takes nothing.
            Ok(0) => round.write_blocked = true,
            Ok(n) => {
                *sent += n;
                round.progress = true;
                self.shared.moved.fetch_add(n as u64, Ordering::Relaxed);
                if *sent == message.len() {
                    state.message = None;
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => round.write_blocked = true,
            Err(e) => state.refuse(&e.to_string()),
        }
    }

    fn read(&mut self, state: &mut State, buffer: &mut [u8], round: &mut Round) -> Result<(), String> {
        if let Some(held) = state.held.take()
            && !self.hand_over(state, held, round)
        {
            return Ok(());
        }
        match self.channel.read(buffer) {
            Ok(0) if self.channel.eof() => {
                // Both streams end with the channel; stderr may hold more.
                self.drain_stderr(state, buffer, round)?;
                round.ended = true;
            }
            Ok(0) => {}
            Ok(n) => {
                self.hand_over(state, Event::Data(buffer[..n].to_vec()), round);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.to_string()),
        }
        Ok(())
    }

    /// Queues an event, or holds it and asks to be woken; false then.
    fn hand_over(&mut self, state: &mut State, event: Event, round: &mut Round) -> bool {
        match self.incoming.try_send(event) {
            Ok(()) => round.progress = true,
            Err(TrySendError::Full(event)) => {
                self.shared.reader_waits.store(true, Ordering::SeqCst);
                // The receiver may have made room between the two lines above.
                match self.incoming.try_send(event) {
                    Ok(()) => round.progress = true,
                    Err(TrySendError::Full(event)) => {
                        state.held = Some(event);
                        return false;
                    }
                    Err(TrySendError::Disconnected(_)) => self.shared.abort.store(true, Ordering::Release),
                }
            }
            Err(TrySendError::Disconnected(_)) => self.shared.abort.store(true, Ordering::Release),
        }
        true
    }

    /// An undrained stderr fills the window and stops stdout as well.
    fn drain_stderr(&mut self, state: &mut State, buffer: &mut [u8], round: &mut Round) -> Result<(), String> {
        loop {
            match self.channel.stderr().read(buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    state.stderr.push(&buffer[..n]);
                    round.progress = true;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    /// Keeps middleboxes from forgetting the connection. Whether the agent lives is for its heartbeats to say.
    fn keepalive(&mut self, state: &State, last: &mut Instant) -> Result<(), String> {
        let due = last.elapsed() >= KEEPALIVE;
        // Half-sent data must be finished first, see the module's rules; a stalled send has its own watchdog.
        if !due || state.message.is_some() {
            return Ok(());
        }
        *last = Instant::now();
        if self.shared.quiet.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.session.keepalive_send().map(drop).map_err(|e| e.to_string())
    }

    fn sleep(&mut self, state: &State, round: &Round) -> Result<(), String> {
        let directions = self.session.block_directions();
        let outbound = matches!(directions, BlockDirections::Outbound | BlockDirections::Both);
        let interest = Interest {
            // Reading on while a piece is held would spin; the receiver wakes us.
            readable: state.held.is_none() || round.write_blocked,
            writable: round.write_blocked && outbound,
        };
        let limit = match (round.write_blocked, outbound) {
            // The window opened while this round was reading: poll would not show it.
            (true, false) if self.channel.write_window().remaining > 0 => Duration::from_millis(1),
            (true, _) => Duration::from_secs(1),
            (false, _) if state.refused.is_some() => Duration::from_secs(1),
            (false, _) => KEEPALIVE,
        };
        self.sleeper.wait(self.session.as_raw_fd(), interest, limit).map_err(|e| e.to_string())
    }

    /// Closes the channel properly, for only then does the server say how the process ended.
    fn goodbye(&mut self) -> Exit {
        self.session.set_blocking(true);
        self.session.set_timeout(GOODBYE_MS);
        // The server's close comes after the exit status; closing first could cut that off.
        if let Err(e) = self.channel.wait_close() {
            return Exit::Lost(format!("the process closed its output and did not end: {e}"));
        }
        let _ = self.channel.close();
        if let Ok(signal) = self.channel.exit_signal()
            && let Some(name) = signal.exit_signal
        {
            return Exit::Signal(name);
        }
        match self.channel.exit_status() {
            Ok(code) => Exit::Code(code),
            Err(e) => Exit::Lost(e.to_string()),
        }
    }
}

fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ssh2::ErrorCode::Session(EAGAIN)
}
