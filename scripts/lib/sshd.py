"""A private OpenSSH server on free ports of the loopback interface, with keys and a configuration of its own.

It lets one key in, as the account that runs the script; nothing of the system's own server is
read or changed. Boards of `host` are entries that lead to its ports.
"""

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from command import Failure

# OpenSSH's MAX_LISTEN_SOCKS: what one server listens on at most.
MOST_PORTS = 16
START_S = 10


def free_ports(count):
    """Ports of the loopback interface that nobody listens on, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Sshd:
    """Running servers that let the key `user` in; a context manager."""

    def __init__(self, folder, ports):
        self.folder = Path(folder)
        self.ports = ports
        self.children = []
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh-keygen") is None:
            raise Failure("there is no OpenSSH server: apt-get install openssh-server")
        self.program = program
        self.user = getpass.getuser()

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # `stranger` is the key of a server that is not this one.
        for name in ("host", "user", "stranger"):
            command = ["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(self.folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        if os.geteuid() == 0:
            # Where it separates privileges; it does not start without.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        try:
            for first in range(0, len(self.ports), MOST_PORTS):
                self._start(self.ports[first : first + MOST_PORTS])
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, ports):
        at = self.folder / f"config-{len(self.children)}"
        log = at.with_name(f"log-{len(self.children)}")
        lines = [f"ListenAddress 127.0.0.1:{port}" for port in ports]
        lines += [
            f"HostKey {self.folder / 'host'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            f"PidFile {at.with_name(f'pid-{len(self.children)}')}",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            # A fleet knocks at once, from one address.
            "MaxStartups 200",
            "PerSourceMaxStartups none",
            "MaxSessions 64",
            "LoginGraceTime 120",
        ]
        at.write_text("\n".join(lines) + "\n")
        with open(log, "ab") as errors:
            child = subprocess.Popen(
                [self.program, "-D", "-e", "-f", str(at)], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        self.children.append(child)
        for port in ports:
            self._await(child, port, log)

    @staticmethod
    def _await(child, port, log):
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if child.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise Failure(f"sshd does not listen on port {port}:\n{log.read_text(errors='replace')}")

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()

    def key(self, name):
        """The public key of a file of the server, as known_hosts has it."""
        return (self.folder / f"{name}.pub").read_text().strip()


class Board:
    """An entry of devices.toml that leads to a port of an `Sshd`."""

    def __init__(self, sshd, name, port, store, **more):
        self.name, self.port = name, port
        self.entry = {
            "target": "linux-x86_64" if os.uname().machine == "x86_64" else "linux-aarch64",
            "address": f"{sshd.user}@127.0.0.1",
            "port": port,
            "identity": str(sshd.folder / "user"),
            # What this account's own configuration says of the loopback interface is nothing to these boards.
            "ssh_config": False,
            "store": str(store),
            **more,
        }

    def toml(self):
        """The entry. A JSON string, number or boolean is a TOML one."""
        return f"[device.{self.name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.entry.items())


def write_registry(home, boards):
    """Makes `boards` the boards of a home of `host`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "devices.toml").write_text("\n".join(board.toml() for board in boards))


def trust(home, port, key):
    """Makes a home of `host` trust a key at a port of the loopback interface."""
    with open(home / "known_hosts", "a") as file:
        file.write(f"[127.0.0.1]:{port} {key}\n")
