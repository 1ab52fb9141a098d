"""Runs an exported decoder with ONNX Runtime's Python interface.

An artifact is a folder with ``model.onnx`` (and its weights beside it) in Optimum's naming:
``input_ids``, ``attention_mask``, ``position_ids``, ``past_key_values.N.key`` and ``.value``,
``num_logits_to_keep`` -> ``logits``, ``present.N.key`` and ``.value``. Batch size is 1.

The key/value caches stay OrtValues from one step to the next: they are never copied to numpy,
so that what is timed here is the runtime, as in the agent.
"""

import time
from pathlib import Path

try:
    import numpy as np
    import onnxruntime as ort
except ImportError as error:
    raise SystemExit(f"error: {error}\n\nhint: python3 -m pip install numpy onnxruntime") from None

ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Failure(Exception):
    """Something is wrong with the artifact; the message names it."""


class Decoder:
    """A loaded decoder and its cache."""

    def __init__(self, artifact, threads):
        """Loads ``artifact/model.onnx`` on ``threads`` threads of the processor."""
        path = Path(artifact) / "model.onnx"
        if not path.is_file():
            raise Failure(f"{path} is not there")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {node.name: node for node in self.session.get_inputs()}
        self.outputs = [node.name for node in self.session.get_outputs()]
        self.logits_at = self._index("logits", path)
        self.caches = [node for name, node in inputs.items() if name.startswith("past_key_values.")]
        if "input_ids" not in inputs or not self.caches:
            raise Failure(f"{path} is no decoder with a cache: its inputs are {', '.join(inputs)}")
        self.present_at = [self._index(node.name.replace("past_key_values", "present"), path) for node in self.caches]
        self.has = {name for name in ("attention_mask", "position_ids", "num_logits_to_keep") if name in inputs}
        self.empty = [self._empty_cache(node, path) for node in self.caches]
        # The last row of logits is all that a next token needs.
        self.keep_one = self._value(np.array(1, np.int64))
        self.reset()

    def _index(self, name, path):
        if name not in self.outputs:
            raise Failure(f"{path} has no output {name}")
        return self.outputs.index(name)

    def _empty_cache(self, node, path):
        if node.type not in ELEMENT_TYPES or len(node.shape) != 4:
            raise Failure(f"{path}: {node.name} has type {node.type} and shape {node.shape}")
        heads, head_dim = node.shape[1], node.shape[3]
        if not isinstance(heads, int) or not isinstance(head_dim, int):
            raise Failure(f"{path}: {node.name} leaves heads or head size open: {node.shape}")
        return self._value(np.zeros((1, heads, 0, head_dim), ELEMENT_TYPES[node.type]))

    @staticmethod
    def _value(array):
        return ort.OrtValue.ortvalue_from_numpy(array)

    def reset(self):
        """Forgets the context."""
        self.past = self.empty
        self.depth = 0

    def last_logits(self, ids):
        """Appends ``ids`` to the context and returns the logits of what may follow."""
        count = len(ids)
        feeds = {node.name: value for node, value in zip(self.caches, self.past)}
        feeds["input_ids"] = self._value(np.array([ids], np.int64))
        if "attention_mask" in self.has:
            feeds["attention_mask"] = self._value(np.ones((1, self.depth + count), np.int64))
        if "position_ids" in self.has:
            feeds["position_ids"] = self._value(np.arange(self.depth, self.depth + count, dtype=np.int64)[None])
        if "num_logits_to_keep" in self.has:
            feeds["num_logits_to_keep"] = self.keep_one
        results = self.session.run_with_ort_values(self.outputs, feeds)
        self.past = [results[at] for at in self.present_at]
        self.depth += count
        return results[self.logits_at].numpy()[0, -1]

    def step(self, ids):
        """Appends ``ids`` to the context and returns the most likely next id."""
        return int(self.last_logits(ids).argmax())

    def timed_step(self, ids):
        """Like `step`; returns (next id, milliseconds)."""
        start = time.perf_counter_ns()
        token = self.step(ids)
        return token, (time.perf_counter_ns() - start) / 1e6
