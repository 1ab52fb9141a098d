"""A TCP proxy that is a link of a given rate and delay, and keeps count of what crosses it.

Contract: every byte arrives, in order, no sooner than the delay after it left the link's queue, and
all connections together are no faster than the rate, in each direction. Until it is cut: then all
open connections end at once, and what was still in the link is lost; new connections are welcome.

A piece that comes while the link is busy waits in a short queue, as in a router. It is counted as bytes
on the wire with the moment when the last of it has entered the link, which may be some milliseconds
ahead. Moments follow from the rate alone, so that a proxy that the machine wakes late does not make the
link slower; only its deliveries are late then.
"""

import asyncio
import socket
import threading
import time
from collections import deque

from command import Failure

UP, DOWN = "up", "down"
# Largest piece; 1.6 ms of a link of 10 MB/s.
PIECE = 16 << 10
# The proxy's own sockets hold this much each; what is in them is not yet on the wire.
SOCKET_BUFFER = 64 << 10
# The queue before the link. Longer than the machine takes to wake the proxy, or the rate is not reached.
QUEUE_S = 0.040
# The delivery of pieces is waited for if it is further away than this; asyncio is not more exact.
GRAIN_S = 0.001


class Link:
    """Forwards connections to a port of the loopback interface; a context manager. `port` is its own."""

    def __init__(self, target, rate, delay_s):
        """`rate` in bytes per second and direction, `delay_s` one way."""
        self.target, self.rate, self.delay_s = target, rate, delay_s
        self.port = None
        # Of each direction: when the link is free again, and (monotonic seconds, bytes) of every piece.
        self._free = {UP: 0.0, DOWN: 0.0}
        self._log = {UP: [], DOWN: []}
        self._sums = {UP: 0, DOWN: 0}
        self._cut_at = None
        self._cuts = []
        self._open = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._started = threading.Event()
        self._error = None

    def __enter__(self):
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise Failure(f"the link cannot listen: {self._error}")
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def sent(self, direction):
        """Bytes that have entered the link in a direction."""
        return self._sums[direction]

    def pieces(self, direction, since=0):
        """(monotonic seconds, bytes) of all that crossed it from the piece with this number on."""
        return self._log[direction][since:]

    def cut_after(self, more):
        """Cuts all connections once, when this many more bytes have gone up."""
        self._cut_at = self._sums[UP] + more

    @property
    def cuts(self):
        """Where it was cut: (monotonic seconds, bytes that had gone up)."""
        return list(self._cuts)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self):
        self._stop = asyncio.Event()
        try:
            listener = socket.create_server(("127.0.0.1", 0))
            # Inherited by accepted connections, and small only if set before them.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
            self.port = listener.getsockname()[1]
            server = await asyncio.start_server(self._accept, sock=listener, limit=PIECE)
        except OSError as error:
            self._error = error
            return
        self._started.set()
        await self._stop.wait()
        server.close()
        ending = [connection.served for connection in self._open]
        self._drop_all()
        await asyncio.gather(*ending, return_exceptions=True)

    def _drop_all(self):
        for connection in list(self._open):
            for task in connection.tasks:
                task.cancel()
            for writer in connection.writers:
                writer.transport.abort()

    async def _accept(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
        except OSError:
            writer.transport.abort()
            return
        for one in (writer, far_writer):
            one.transport.set_write_buffer_limits(high=SOCKET_BUFFER)
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection([writer, far_writer], asyncio.current_task())
        self._open.add(connection)
        for direction, source, target in ((UP, reader, far_writer), (DOWN, far_reader, writer)):
            queue = _Queue()
            connection.tasks.append(asyncio.ensure_future(self._enter(direction, source, queue)))
            connection.tasks.append(asyncio.ensure_future(self._leave(target, queue)))
        try:
            await asyncio.gather(*connection.tasks, return_exceptions=True)
        finally:
            self._open.discard(connection)
            for one in connection.writers:
                one.close()

    async def _enter(self, direction, source, queue):
        """Puts pieces onto the link at its rate."""
        try:
            while piece := await source.read(PIECE):
                # All connections share the link: this piece has it to itself until it is through.
                free = max(self._free[direction], time.monotonic())
                self._free[direction] = through = free + len(piece) / self.rate
                self._log[direction].append((through, len(piece)))
                self._sums[direction] += len(piece)
                if direction == UP and self._cut_at is not None and self._sums[UP] >= self._cut_at:
                    self._cut_at = None
                    await _until(through)
                    self._cut()
                    return
                queue.put((through + self.delay_s, piece))
                await _until(through - QUEUE_S)
        except OSError:
            pass
        queue.put((0.0, b""))

    def _cut(self):
        now = time.monotonic()
        for direction, log in self._log.items():
            # What waits before the link never gets onto it.
            while log and log[-1][0] > now:
                self._sums[direction] -= log.pop()[1]
            self._free[direction] = now
        self._cuts.append((now, self._sums[UP]))
        # Not from within: the task that calls this is one of those that end.
        self._loop.call_soon(self._drop_all)

    async def _leave(self, target, queue):
        """Delivers pieces when their delay is over."""
        try:
            while True:
                due, piece = await queue.get()
                if not piece:
                    if target.can_write_eof():
                        target.write_eof()
                    return
                await _until(due)
                target.write(piece)
                await target.drain()
        except OSError:
            target.transport.abort()


class _Connection:
    def __init__(self, writers, served):
        self.writers, self.served, self.tasks = writers, served, []


class _Queue:
    """What is in the link. The rate and the delay bound it, unless who receives is slower than the link."""

    def __init__(self):
        self.pieces, self.filled = deque(), asyncio.Event()

    def put(self, piece):
        self.pieces.append(piece)
        self.filled.set()

    async def get(self):
        while not self.pieces:
            self.filled.clear()
            await self.filled.wait()
        return self.pieces.popleft()


async def _until(moment):
    wait = moment - time.monotonic()
    if wait > GRAIN_S:
        await asyncio.sleep(wait)
