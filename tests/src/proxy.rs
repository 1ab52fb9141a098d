//! A TCP proxy in front of a server, which breaks what it carries at the byte it is told.
//!
//! Contract: until it is told otherwise it forwards every byte, both ways, in order. Positions and counts are those of all
//! connections together since its start, so that a fault can be placed anywhere in a conversation that reconnects.

use crate::sshd::free_port;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Largest piece that is forwarded at once.
const PIECE: usize = 16 << 10;
/// Pieces on their way in one direction of a connection. With the delay they bound the throughput, as a window does.
const IN_FLIGHT: usize = 256;
/// How soon a change of its state is noticed.
const POLL: Duration = Duration::from_millis(2);

/// A direction through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// From the host to the device.
    Device,
    /// From the device to the host.
    Host,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends, for both sides.
    Cut,
    /// It stays open and carries nothing more, either way.
    Stall,
    /// One bit of the next byte is another.
    Flip,
}

#[derive(Debug)]
struct Armed {
    towards: Towards,
    at: u64,
    fault: Fault,
}

/// What all connections share.
#[derive(Debug, Default)]
struct Shared {
    /// Forwarded so far, and what is to happen; one lock, so that a fault hits one byte of one connection.
    ledger: Mutex<Ledger>,
    refusing: AtomicBool,
    closing: AtomicBool,
    /// One way, in microseconds.
    delay_us: AtomicU64,
    /// Bytes per second in each direction of each connection; 0 is no limit.
    rate: AtomicU64,
    accepted: AtomicU64,
}

#[derive(Debug, Default)]
struct Ledger {
    to_device: u64,
    to_host: u64,
    armed: Vec<Armed>,
    fired: u64,
    open: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    host: TcpStream,
    device: TcpStream,
    stalled: AtomicBool,
}

impl Connection {
    fn cut(&self) {
        // Either side may have gone before.
        let _ = self.host.shutdown(Shutdown::Both);
        let _ = self.device.shutdown(Shutdown::Both);
    }
}

/// A proxy that runs until it is dropped; then its connections end.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens on the loopback interface.
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one in front of a port of the loopback interface.
    pub fn to(server: u16) -> Self {
        let port = free_port();
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let listener = listen(port);
        thread::spawn(move || accept(listener, port, server, &mine));
        Self { port, shared }
    }

    /// Bytes forwarded this way so far.
    pub fn forwarded(&self, towards: Towards) -> u64 {
        self.shared.ledger().count(towards)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Faults that happened so far.
    pub fn fired(&self) -> u64 {
        self.shared.ledger().fired
    }

    /// Arms a fault for the connection that carries the byte after the next `bytes` this way.
    pub fn after(&self, towards: Towards, bytes: u64, fault: Fault) {
        let mut ledger = self.shared.ledger();
        let at = ledger.count(towards) + bytes;
        ledger.armed.push(Armed { towards, at, fault });
    }

    /// Takes back what is armed and has not happened.
    pub fn disarm(&self) {
        self.shared.ledger().armed.clear();
    }

    /// Ends all connections now.
    pub fn cut(&self) {
        self.shared.ledger().open.iter().for_each(|c| c.cut());
    }

    /// Lets nothing through any of the connections that are open now, and keeps them open.
    pub fn stall(&self) {
        self.shared.ledger().open.iter().for_each(|c| c.stalled.store(true, Ordering::Relaxed));
    }

    /// Whether it refuses new connections, as a port does that nobody listens on.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::Relaxed);
        // The listener is closed, or is there again, when this returns.
        crate::eventually("the proxy took notice", || {
            (TcpStream::connect(("127.0.0.1", self.port)).is_err() == refuse).then_some(())
        });
    }

    /// Makes the line slow: a delay each way, and bytes per second each way and connection, 0 for no limit.
    pub fn slow(&self, delay: Duration, bytes_per_second: u64) {
        self.shared.delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.cut();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn count(&self, towards: Towards) -> u64 {
        match towards {
            Towards::Device => self.to_device,
            Towards::Host => self.to_host,
        }
    }

    /// Counts a piece up to the first fault in it, and gives that.
    fn pass(&mut self, towards: Towards, length: usize) -> (usize, Option<Fault>) {
        let from = self.count(towards);
        let due = |a: &Armed| a.towards == towards && a.at < from + length as u64;
        let first = self.armed.iter().enumerate().filter(|(_, a)| due(a)).min_by_key(|(_, a)| a.at).map(|(i, _)| i);
        let armed = first.map(|i| self.armed.remove(i));
        let passed = armed.as_ref().map_or(length, |a| a.at.saturating_sub(from) as usize);
        match towards {
            Towards::Device => self.to_device += passed as u64,
            Towards::Host => self.to_host += passed as u64,
        }
        self.fired += u64::from(armed.is_some());
        (passed, armed.map(|a| a.fault))
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy can listen");
    listener.set_nonblocking(true).expect("a listener can be polled");
    listener
}

fn accept(first: TcpListener, port: u16, server: u16, shared: &Arc<Shared>) {
    let mut listener = Some(first);
    while !shared.closing.load(Ordering::Relaxed) {
        if shared.refusing.load(Ordering::Relaxed) {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen(port));
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((host, _))) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                host.set_nonblocking(false).expect("a socket can block");
                // A server that is down closes what it cannot take; so does this.
                if let Ok(device) = TcpStream::connect(("127.0.0.1", server)) {
                    carry(host, device, shared);
                }
            }
            _ => thread::sleep(POLL),
        }
    }
}

/// Carries a connection on threads of its own.
fn carry(host: TcpStream, device: TcpStream, shared: &Arc<Shared>) {
    for stream in [&host, &device] {
        stream.set_nodelay(true).expect("a socket of this machine has the option");
    }
    let connection = Arc::new(Connection { host, device, stalled: AtomicBool::new(false) });
    shared.ledger().open.push(Arc::clone(&connection));
    for towards in [Towards::Device, Towards::Host] {
        let (sender, pieces) = sync_channel(IN_FLIGHT);
        let (reading, writing) = (Arc::clone(&connection), Arc::clone(&connection));
        let (of_reader, of_writer) = (Arc::clone(shared), Arc::clone(shared));
        thread::spawn(move || read(&reading, towards, &sender, &of_reader));
        thread::spawn(move || write(&writing, towards, &pieces, &of_writer));
    }
}

fn read(connection: &Connection, towards: Towards, pieces: &SyncSender<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut from = match towards {
        Towards::Device => &connection.host,
        Towards::Host => &connection.device,
    };
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + Duration::from_micros(shared.delay_us.load(Ordering::Relaxed));
        // Nothing is the end, which travels as the bytes do.
        if pieces.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

fn write(connection: &Connection, towards: Towards, pieces: &Receiver<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut to = match towards {
        Towards::Device => &connection.device,
        Towards::Host => &connection.host,
    };
    let mut free = Instant::now();
    for (due, mut piece) in pieces {
        if piece.is_empty() {
            // The other side may have ended first.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        let rate = shared.rate.load(Ordering::Relaxed);
        if rate > 0 {
            free = free.max(Instant::now()) + Duration::from_secs_f64(piece.len() as f64 / rate as f64);
            thread::sleep(free.saturating_duration_since(Instant::now()));
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            while connection.stalled.load(Ordering::Relaxed) {
                if shared.closing.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(POLL);
            }
            let (passed, fault) = shared.ledger().pass(towards, rest.len());
            let (now, later) = rest.split_at_mut(passed);
            if to.write_all(now).is_err() {
                connection.cut();
                return;
            }
            rest = later;
            match fault {
                None => {}
                Some(Fault::Cut) => {
                    connection.cut();
                    return;
                }
                Some(Fault::Stall) => connection.stalled.store(true, Ordering::Relaxed),
                Some(Fault::Flip) => rest[0] ^= 1,
            }
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
