# torch 1.13.1: makes zip.pth, legacy.pth and module.pth beside this file.
from collections import OrderedDict

import numpy as np
import torch

base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
state = OrderedDict(
    f32=base, turned=base.t(), row=base[1], f16=torch.tensor([1.5, -2.0]).half(),
    bf16=torch.tensor([3.0]).bfloat16(), f64=torch.tensor([0.1], dtype=torch.float64),
    i64=torch.tensor(7), i32=torch.tensor([-3], dtype=torch.int32), i16=torch.tensor([-4], dtype=torch.int16),
    i8=torch.tensor([-5], dtype=torch.int8), u8=torch.tensor([200], dtype=torch.uint8),
    bool=torch.tensor([True, False]), expanded=torch.tensor([9.0]).expand(2, 3), empty=torch.zeros(0, 4),
    parameter=torch.nn.Parameter(torch.ones(2)), array=np.array([[1, 2], [3, 4]], dtype=np.float32))
state._metadata = OrderedDict({'': {'version': 1}})
meta = dict(epoch=12, CLASSES=('cat', 'dog'), mAP=np.float64(0.25), palette=np.array([[1, 2]], dtype=np.int64),
            nan=float('nan'), big=2**100, raw=b'ab', kind=torch.nn.ReLU, dtype=torch.float32)
weight = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(weight.parameters())
weight(torch.ones(1, 2)).sum().backward()
optimizer.step()
whole = dict(meta=meta, state_dict=state, optimizer=optimizer.state_dict())
torch.save(whole, 'zip.pth')
torch.save(whole, 'legacy.pth', _use_new_zipfile_serialization=False)
module = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
torch.save(module, 'module.pth')
