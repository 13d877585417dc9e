"""make.py FOLDER [OP...]: the goldens of mmcv/src/ops, from mmcv-full 1.7.2 and torch 1.13.1 on a CPU.

One file an op. A key is `parameters/tensor`: `mode=avg|aligned=1/y`. `x`, `rois`, ... are inputs, `y` is the result,
`dx` the gradient of `sum(y * weight)` by `x`; `weight` is `cos(1.1 i)` in flat order.
What mmcv runs on a GPU only is written out here, in f64 unless said otherwise.
"""
import sys

import numpy as np
import torch
from safetensors_np import save_file

torch.set_num_threads(1)
OPS = {}


def op(f):
    OPS[f.__name__] = f
    return f


def weight(shape):
    n = int(np.prod(shape))
    return torch.from_numpy(np.cos(1.1 * np.arange(n)).astype(np.float32)).reshape(shape)


def rand(seed, *shape, low=-1.0, high=1.0):
    return torch.from_numpy(np.random.RandomState(seed).uniform(low, high, shape).astype(np.float32))


class Cases:
    def __init__(self):
        self.out = {}

    def add(self, params, **tensors):
        key = "|".join(f"{k}={v}" for k, v in params.items())
        for name, t in tensors.items():
            a = t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t)
            self.out[f"{key}/{name}"] = np.ascontiguousarray(a)

    def run(self, params, f, inputs, fixed=(), y="y"):
        """Adds a case: `f` of the inputs, their gradients, and the inputs themselves."""
        inputs = {k: v.clone().requires_grad_(k not in fixed) for k, v in inputs.items()}
        res = f(**inputs)
        (res * weight(res.shape)).sum().backward()
        grads = {f"d{k}": v.grad if v.grad is not None else torch.zeros_like(v) for k, v in inputs.items() if k not in fixed}
        self.add(params, **{k: v.detach() for k, v in inputs.items()}, **{y: res}, **grads)


# Whole, small, outside, half outside, zero area, inverted, huge, on the last pixel.
ROIS = [
    [0, 1.3, 0.7, 6.2, 5.1], [1, 0, 0, 3, 2], [0, -30, -40, -20, -25], [1, 90, 80, 99, 95], [1, -3.7, -2.2, 4.4, 3.3],
    [0, 5.5, 4.25, 14.1, 30.3], [0, 3, 3, 3, 3], [1, 2.5, 1.5, 2.5, 6.5], [0, -50, -60, 70, 80], [1, 6.9, 5.9, 7.0, 6.0],
    [0, 0, 0, 8, 7], [0, 1, 1, 2, 2],
]
INVERTED = [[0, 6, 5, 2, 1], [1, 7, 0, 3, 6]]


@op
def roi_align(c):
    from mmcv.ops import roi_align
    for mode in ["avg", "max"]:
        for aligned in [0, 1]:
            for ratio in [0, 2]:
                for scale in [1.0, 0.5]:
                    boxes = torch.tensor(ROIS + ([] if aligned else INVERTED))
                    p = dict(h=3, w=2, scale=scale, ratio=ratio, mode=mode, aligned=aligned)
                    f = lambda x, rois: roi_align(x, rois, (3, 2), scale, ratio, mode, bool(aligned))
                    c.run(dict(p, c=3), f, dict(x=rand(1, 2, 3, 7, 8), rois=boxes), ["rois"])
                    if scale == 1.0:
                        c.run(dict(p, c=19), f, dict(x=rand(2, 2, 19, 7, 8), rois=boxes[:7]), ["rois"])
                        boxes = torch.tensor([[0, 0, 0, 1, 1], [0, -0.5, -1, 0.5, 1], [0, 3, 3, 4, 4.0]])
                        c.run(dict(p, one=1), f, dict(x=rand(3, 1, 2, 1, 1), rois=boxes), ["rois"])


def roi_pool_reference(x, rois, size, scale):
    """mmcv's CUDA kernel in f32; a malformed box has result 0 and, its argmax staying 0, a gradient to pixel 0."""
    f, (oh, ow) = np.float32, size
    x, rois, (n, ch, h, w) = x.numpy(), rois.numpy(), x.shape
    y, at = np.zeros((len(rois), ch, oh, ow), f), np.zeros((len(rois), ch, oh, ow), int)
    for k, r in enumerate(rois):
        x1, y1, x2, y2 = r[1] * f(scale), r[2] * f(scale), (r[3] + f(1)) * f(scale), (r[4] + f(1)) * f(scale)
        if x2 - x1 <= 0 or y2 - y1 <= 0:
            continue
        bw, bh = (x2 - x1) / f(ow), (y2 - y1) / f(oh)
        for i in range(oh):
            for j in range(ow):
                a0, a1 = (int(np.clip(v, 0, h)) for v in (np.floor(f(i) * bh + y1), np.ceil(f(i + 1) * bh + y1)))
                b0, b1 = (int(np.clip(v, 0, w)) for v in (np.floor(f(j) * bw + x1), np.ceil(f(j + 1) * bw + x1)))
                for q in range(ch):
                    if a1 <= a0 or b1 <= b0:
                        at[k, q, i, j] = -1
                        continue
                    part = x[int(r[0]), q, a0:a1, b0:b1]
                    best = np.unravel_index(part.argmax(), part.shape)
                    y[k, q, i, j], at[k, q, i, j] = part[best], (a0 + best[0]) * w + b0 + best[1]
    dx, g = np.zeros_like(x), weight(y.shape).numpy()
    for (k, q, i, j), p in np.ndenumerate(at):
        if p >= 0:
            dx[int(rois[k, 0]), q].reshape(-1)[p] += g[k, q, i, j]
    return y, dx


@op
def roi_pool(c):
    boxes = torch.tensor(ROIS + INVERTED)
    for size in [(3, 2), (7, 7)]:
        for scale in [1.0, 0.5]:
            x = rand(4, 2, 3, 7, 8)
            y, dx = roi_pool_reference(x, boxes, size, scale)
            c.add(dict(h=size[0], w=size[1], scale=scale), x=x, rois=boxes, y=y, dx=dx)
    x, boxes = rand(5, 1, 2, 1, 1), torch.tensor([[0, 0, 0, 0, 0], [0, -2, -1, 0.5, 1], [0, 3, 3, 4, 4.0]])
    y, dx = roi_pool_reference(x, boxes, (3, 2), 1.0)
    c.add(dict(h=3, w=2, scale=1.0, one=1), x=x, rois=boxes, y=y, dx=dx)


if __name__ == "__main__":
    import mmcv
    for name in sys.argv[2:] or OPS:
        cases = Cases()
        OPS[name](cases)
        meta = {"mmcv-full": mmcv.__version__, "torch": torch.__version__, "made by": "make.py"}
        save_file(cases.out, f"{sys.argv[1]}/{name}.safetensors", meta)
