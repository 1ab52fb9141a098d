"""Ways to compile the agent for another platform, none of which changes the user's own toolchain.

Contract: a way says why it cannot be used before anything is built; what it has to download goes into the cache folder, is
used from there, and can be deleted at any time.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from command import ROOT, Failure, say

# What Debian's browser packages are built with: the newest Rust of a stable Debian, with the library's sources beside it.
DEBIAN_PACKAGES = ("rustc-web", "libstd-rust-web-dev", "rust-web-src")
# The library's sources are compiled by the compiler that they came with.
BUILD_STD = ["-Z", "build-std=std,panic_abort"]
ZIG = ("ziglang==0.17.1", "cargo-zigbuild==0.24.1")
GLIBC = "2.28"


def is_static(triple):
    """Static builds need no C library on the board, and can load no ONNX Runtime."""
    return "-musl" in triple


def zig_targets(triples):
    """The arguments that name targets, those for glibc with the version that zig links against."""
    return [word for triple in triples for word in ("--target", triple if is_static(triple) else f"{triple}.{GLIBC}")]


def static_from_sources(triple):
    """Flags of a static build whose standard library is compiled from its sources, and which zig links.

    Such a library comes without the C library's startup files: zig has them. And zig links static programs for a fixed address,
    so code and tables need not be made for any other.
    """
    return ["-Clink-self-contained=no", "-Crelocation-model=static"] if is_static(triple) else []


def direct(triple):
    """Flags that let the linker address directly what is in the program itself, where a compiler takes unstable ones.

    Without, an x86-64 program for any address has a table of everything that one crate uses of another: a tenth of the file, which
    the loader reads and fills at every start.
    """
    return ["-Zrelax-elf-relocations=yes"] if triple.startswith("x86_64") and not is_static(triple) else []


def output(*command, environment=None):
    """A command's stdout, or None if it fails or is not there."""
    try:
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def run(command, environment=None, cwd=ROOT):
    """A command whose words go to stderr; a failure ends the build."""
    shown = " ".join(map(str, command))
    try:
        code = subprocess.run([str(w) for w in command], env=environment, cwd=cwd, stdout=sys.stderr, check=False).returncode
    except OSError as error:
        raise Failure(f"cannot run `{shown}`: {error}") from None
    if code != 0:
        raise Failure(f"`{shown}` ended with exit code {code}")


class Way:
    """How to compile for a triple."""

    name = ""
    install = ""
    # Whether one call builds for several triples.
    takes_several = True

    def problem(self, triple):
        """Why it cannot be used for a triple, or None."""
        raise NotImplementedError

    def prepare(self):
        """Brings what it needs into the cache."""

    def describe(self):
        """What builds, in one line."""
        raise NotImplementedError

    def command(self, triples):
        """The words up to and with the targets."""
        raise NotImplementedError

    def environment(self, flags):
        """The environment, with flags for the compiler."""
        return dict(os.environ) | {"CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}

    def flags(self, triple):
        """Flags for the compiler that the way itself needs."""
        return []

    def remapped(self):
        """Folders that must not be named in a build, and what stands for them."""
        return {}


class Cross(Way):
    """cross, with a container engine."""

    name = "cross"
    install = "cargo install cross, and Docker or Podman"
    takes_several = False

    def problem(self, triple):
        if shutil.which("cross") is None:
            return "cross is not installed"
        if not any(shutil.which(engine) and output(engine, "info") is not None for engine in ("docker", "podman")):
            return "neither docker nor podman answers"
        return None

    def describe(self):
        return f"{(output('cross', '--version') or 'cross').splitlines()[0]}, {output('rustc', '--version')}"

    def command(self, triples):
        return ["cross", "build", "--target", triples[0]]

    def environment(self, flags):
        # Containers get variables that Cross.toml lets through.
        return dict(os.environ) | {"CROSS_CONFIG": str(ROOT / "targets/Cross.toml"), "RUSTFLAGS": " ".join(flags)}


class Zigbuild(Way):
    """cargo-zigbuild with the user's own compiler: its standard library for the triple, or the library's sources."""

    name = "zigbuild"
    install = "python3 -m pip install cargo-zigbuild ziglang, and rustup target add TRIPLE (or rustup component add rust-src)"

    def problem(self, triple):
        if shutil.which("cargo-zigbuild") is None:
            return "cargo-zigbuild is not installed"
        if shutil.which("zig") is None and output("python3", "-m", "ziglang", "version") is None:
            return "zig is not installed"
        if not self.has_std(triple) and not self.sources().is_dir():
            return f"rustc has neither a standard library for {triple} nor its sources"
        return None

    @staticmethod
    def has_std(triple):
        folder = output("rustc", "--print", "target-libdir", "--target", triple)
        return folder is not None and any(Path(folder).glob("libstd-*.rlib"))

    @staticmethod
    def sources():
        return Path(output("rustc", "--print", "sysroot") or "/nowhere") / "lib/rustlib/src/rust/library"

    def describe(self):
        return f"{output('cargo-zigbuild', '--version') or 'cargo-zigbuild'}, {output('rustc', '--version')}"

    def command(self, triples):
        own = [] if all(self.has_std(triple) for triple in triples) else BUILD_STD
        return ["cargo", "zigbuild", *own, *zig_targets(triples)]

    def environment(self, flags):
        return super().environment(flags) | {"RUSTC_BOOTSTRAP": "1"}

    def flags(self, triple):
        return [*direct(triple), *([] if self.has_std(triple) else static_from_sources(triple))]

    def remapped(self):
        return {output("rustc", "--print", "sysroot"): "rust"}


class Debian(Way):
    """Debian's Rust and PyPI's zig, unpacked into the cache; the standard library is compiled from its sources."""

    name = "debian"
    install = "a Debian or Ubuntu system with apt-get, dpkg and python3-venv, and rustup's cargo"

    def __init__(self, cache):
        self.folder = cache / "toolchain/debian"
        self.root = self.folder / "root"
        self.compiler = self.folder / "rustc"

    def problem(self, triple):
        lacking = [tool for tool in ("apt-get", "apt-cache", "dpkg", "cargo", "python3") if shutil.which(tool) is None]
        if lacking:
            return f"there is no {', '.join(lacking)}"
        if output("uname", "-m") != "x86_64":
            return "only tried on x86_64"
        if not self.compiler.exists() and self.version() is None:
            return f"apt knows no {DEBIAN_PACKAGES[0]} with {DEBIAN_PACKAGES[2]} of the same version (apt-get update?)"
        return None

    @staticmethod
    def version():
        """The newest version that all packages have."""

        def versions(package):
            lines = (output("apt-cache", "madison", package) or "").splitlines()
            return [line.split("|")[1].strip() for line in lines if line.count("|") == 2 and "Sources" not in line]

        others = [set(versions(package)) for package in DEBIAN_PACKAGES[1:]]
        return next((v for v in versions(DEBIAN_PACKAGES[0]) if all(v in other for other in others)), None)

    @staticmethod
    def depends(package, *options):
        """The libraries that a package depends on."""
        lines = (output("apt-cache", "depends", "--important", *options, package) or "").splitlines()
        words = {line.split(":", 1)[1].strip() for line in lines if "Depends:" in line}
        return {word for word in words if word.startswith(("lib", "zlib"))}

    @staticmethod
    def installed():
        """The packages that this system has."""
        lines = (output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n") or "").splitlines()
        return {line.split()[0] for line in lines if line.endswith(" installed")}

    def prepare(self):
        if self.compiler.exists():
            return
        version = self.version()
        say(f"unpacking Debian's Rust {version} into {self.folder}")
        shutil.rmtree(self.folder, ignore_errors=True)
        packages = self.folder / "packages"
        packages.mkdir(parents=True)
        wanted = [f"{package}={version}" for package in DEBIAN_PACKAGES]
        # The libraries that the compiler itself consists of, with their version where they have the same.
        shared = [p for p in self.depends(f"{DEBIAN_PACKAGES[1]}={version}") if p.startswith("libstd-rust-web-")]
        wanted += [f"{package}={version}" for package in shared]
        llvm = {p for package in shared for p in self.depends(f"{package}={version}") if p.startswith("libllvm")}
        # What LLVM needs is on most systems, but not on one that was just installed.
        wanted += sorted(llvm | {p for package in llvm for p in self.depends(package, "--recurse")} - self.installed())
        run(["apt-get", "download", "-q", *wanted], cwd=packages)
        for package in sorted(packages.glob("*.deb")):
            run(["dpkg", "-x", package, self.root])
        shutil.rmtree(packages)
        run([sys.executable, "-m", "venv", self.folder / "python"])
        run([self.folder / "python/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *ZIG])
        libraries = ":".join(str(self.root / part / "x86_64-linux-gnu") for part in ("usr/lib", "lib"))
        script = f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{self.root}/usr/bin/rustc" "$@"\n'
        # Last: its being there says that all of it is.
        partial = self.folder / "rustc.part"
        partial.write_text(script)
        partial.chmod(0o755)
        run([partial, "--version"])
        partial.rename(self.compiler)

    def describe(self):
        zigbuild = output(self.folder / "python/bin/cargo-zigbuild", "--version") or "cargo-zigbuild"
        return f"{zigbuild}, Debian's {output(self.compiler, '--version')}"

    def command(self, triples):
        return ["cargo", "zigbuild", *BUILD_STD, *zig_targets(triples)]

    def environment(self, flags):
        path = f"{self.folder / 'python/bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        own = {"PATH": path, "RUSTC": str(self.compiler), "RUSTC_BOOTSTRAP": "1"}
        return super().environment(flags) | own

    def flags(self, triple):
        return [*direct(triple), *static_from_sources(triple)]

    def remapped(self):
        return {(self.root / "usr/lib/rustlib/src/rust").resolve(): "rust", self.root / "usr/lib/rustlib/src/rust": "rust"}
