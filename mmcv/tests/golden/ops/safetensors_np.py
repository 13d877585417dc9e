"""Writes safetensors with numpy alone."""
import json
import struct

import numpy as np


def save_file(tensors, path, metadata):
    head, body = {"__metadata__": metadata}, b""
    for name, value in tensors.items():
        value = np.ascontiguousarray(value)
        kind = {"uint8": "U8", "float32": "F32", "int64": "I64"}[value.dtype.name]
        head[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + body)
