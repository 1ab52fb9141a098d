"""Runs the `host` command, or anything else that prints one JSON document."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = ROOT / "target/release/host"


class Failure(Exception):
    """What was to be measured could not be; the message says why."""


def say(text):
    """A line for the reader: stdout belongs to the report."""
    print(text, file=sys.stderr, flush=True)


def ends_on_sigterm():
    """Makes SIGTERM end the script as an exception does, so that servers, mounts and folders are cleared away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run_json(command, environment=None, accept=(0,)):
    """Runs a command and parses its stdout; its stderr is shown only if it fails."""
    shown = " ".join(map(str, command))
    try:
        done = subprocess.run(
            [str(word) for word in command], env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise Failure(f"cannot run `{shown}`: {error}") from None
    if done.returncode not in accept:
        raise Failure(f"`{shown}` ended with exit code {done.returncode}:\n{done.stderr.strip()}")
    return parsed(done.stdout, shown)


def parsed(text, shown):
    """A command's stdout as JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Failure(f"`{shown}` did not print JSON: {error}") from None


def installed_library():
    """The library inside the installed onnxruntime package, and its version."""
    try:
        import onnxruntime
    except ImportError as error:
        raise Failure(f"{error}: python3 -m pip install numpy onnxruntime") from None
    folder = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so.*")) + sorted(folder.glob("libonnxruntime.*.dylib"))
    if not found:
        raise Failure(f"{folder} holds no libonnxruntime")
    return found[-1], onnxruntime.__version__


def with_library(runtime):
    """This process's environment, with ONNX Runtime's library named where the runtime needs it."""
    if runtime != "ort":
        return dict(os.environ)
    return os.environ | {"ORT_DYLIB_PATH": str(installed_library()[0])}


def print_report(report):
    """The one JSON document on stdout."""
    json.dump(report, sys.stdout, indent=1)
    print()
