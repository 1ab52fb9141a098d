//! Waiting on the socket and on the wake-up pipe at once.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

/// What to wait for on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// The end that interrupts a wait; cheap to clone and to use.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<UnixStream>);

impl Waker {
    pub(crate) fn wake(&self) {
        // A full pipe already wakes, a closed one has nobody to wake.
        let _ = (&*self.0).write(&[1]);
    }
}

/// The end that waits.
#[derive(Debug)]
pub(crate) struct Sleeper(UnixStream);

pub(crate) fn wake_pair() -> io::Result<(Waker, Sleeper)> {
    let (waker, sleeper) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    sleeper.set_nonblocking(true)?;
    Ok((Waker(Arc::new(waker)), Sleeper(sleeper)))
}

impl Sleeper {
    /// Waits until the socket is as asked, a waker woke, or `limit` passed; takes all wake-ups that came.
    pub(crate) fn wait(&self, socket: RawFd, interest: Interest, limit: Duration) -> io::Result<()> {
        let mut events = 0;
        if interest.readable {
            events |= libc::POLLIN;
        }
        if interest.writable {
            events |= libc::POLLOUT;
        }
        let mut fds = [
            libc::pollfd { fd: socket, events, revents: 0 },
            libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        let millis = limit.as_millis().clamp(1, 60_000) as libc::c_int;
        // SAFETY: the array lives across the call and its length is given.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        if fds[1].revents != 0 {
            let mut bytes = [0; 256];
            while matches!((&self.0).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        }
        Ok(())
    }
}
