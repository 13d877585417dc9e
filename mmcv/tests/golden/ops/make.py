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


@op
def conv1d(c):
    import torch.nn.functional as F
    for i, (n, ch, l, o, k, s, p, d, g) in enumerate([(2, 3, 11, 4, 3, 1, 1, 1, 1), (1, 4, 13, 6, 4, 3, 2, 2, 2), (1, 2, 5, 2, 1, 2, 0, 1, 2)]):
        f = lambda x, w, b: F.conv1d(x, w, b, s, p, d, g)
        c.run(dict(stride=s, padding=p, dilation=d, groups=g), f,
              dict(x=rand(10 + i, n, ch, l), w=rand(20 + i, o, ch // g, k), b=rand(30 + i, o)))


@op
def conv3d(c):
    import torch.nn.functional as F
    text = lambda v: ",".join(map(str, v))
    for i, (x, w, s, p, d, g) in enumerate([
        ((2, 3, 4, 5, 6), (4, 3, 3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
        ((1, 4, 7, 6, 5), (6, 2, 3, 2, 1), (2, 1, 2), (2, 0, 1), (2, 1, 1), 2),
        ((2, 2, 3, 4, 4), (2, 2, 1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1), 1),
        ((1, 3, 5, 4, 4), (3, 1, 2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), 3),
    ]):
        f = lambda x, w, b: F.conv3d(x, w, b, s, p, d, g)
        c.run(dict(stride=text(s), padding=text(p), dilation=text(d), groups=g), f,
              dict(x=rand(40 + i, *x), w=rand(50 + i, *w), b=rand(60 + i, w[0])))


WINDOWS = [((3, 2), (1, 1), (0, 0), (1, 1)), ((2, 3), (2, 3), (1, 2), (2, 1)), ((1, 1), (2, 1), (0, 1), (1, 1)), ((4, 4), (4, 3), (3, 4), (1, 2))]


@op
def unfold(c):
    import torch.nn.functional as F
    text = lambda v: ",".join(map(str, v))
    for i, (k, s, p, d) in enumerate(WINDOWS):
        f = lambda x: F.unfold(x, k, d, p, s)
        c.run(dict(kernel=text(k), stride=text(s), padding=text(p), dilation=text(d)), f, dict(x=rand(70 + i, 2, 3, 5, 7)))


@op
def fold(c):
    import torch.nn.functional as F
    text = lambda v: ",".join(map(str, v))
    for i, (k, s, p, d) in enumerate(WINDOWS):
        shape = F.unfold(rand(0, 2, 3, 5, 7), k, d, p, s).shape
        f = lambda x: F.fold(x, (5, 7), k, d, p, s)
        c.run(dict(size="5,7", kernel=text(k), stride=text(s), padding=text(p), dilation=text(d)), f, dict(x=rand(80 + i, *shape)))


@op
def scatter(c):
    for axis in [0, 1, 2]:
        for how in ["sum", "prod", "mean", "amax", "amin"]:
            for own in [0, 1]:
                rng = np.random.RandomState(axis)
                x = torch.from_numpy(rng.randint(-2, 3, (4, 3, 5)).astype(np.float32))
                shape = [3, 3, 4]
                top, shape[axis] = x.shape[axis], 6
                src = torch.from_numpy(rng.randint(-2, 4, shape).astype(np.float32))
                index = torch.from_numpy(rng.randint(0, top, shape))
                f = lambda x, src: x.scatter_reduce(axis, index, src, how, include_self=bool(own))
                p = dict(axis=axis, how=how, own=own)
                c.run(p, f, dict(x=x, src=src))
                c.add(p, index=index)


@op
def reduce(c):
    fs = dict(sum=torch.sum, mean=torch.mean, var=lambda x, d, keepdim: torch.var(x, d, unbiased=True, keepdim=keepdim),
              amax=torch.amax, amin=torch.amin, logsumexp=torch.logsumexp)
    for how, f in fs.items():
        for i, axes in enumerate([(0,), (1,), (3,), (0, 2, 3), (1, 3), (0, 1), (2, 3), (0, 1, 2, 3), (0, 3)]):
            p = dict(how=how, axes=",".join(map(str, axes)), keep=i % 2)
            c.run(p, lambda x: f(x, axes, keepdim=bool(i % 2)), dict(x=rand(90, 2, 3, 4, 5)))
        ties = torch.tensor([[1.0, 2, 2], [3, 3, 3], [float("inf"), 1, 2], [float("-inf"), 5, 5]])
        c.run(dict(how=how, axes="1", keep=0, ties=1), lambda x: f(x, (1,), keepdim=False), dict(x=ties))
        bad = torch.tensor([[1.0, float("nan"), 2], [0, 1, 0]])
        c.run(dict(how=how, axes="1", keep=0, nan=1), lambda x: f(x, (1,), keepdim=False), dict(x=bad))


@op
def deform_conv(c):
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d
    text = lambda v: ",".join(map(str, v))
    for i, (x, w, s, p, d, g, dg) in enumerate([
        ((2, 4, 6, 7), (4, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
        ((1, 4, 7, 6), (6, 2, 3, 2), (2, 1), (1, 2), (1, 2), 2, 1),
        ((1, 6, 5, 5), (3, 2, 3, 3), (2, 2), (2, 2), (2, 2), 3, 2),
        ((1, 2, 1, 1), (2, 2, 1, 1), (1, 1), (0, 0), (1, 1), 1, 2),
    ]):
        k = w[2] * w[3]
        oh, ow = ((x[2 + a] + 2 * p[a] - d[a] * (w[2 + a] - 1) - 1) // s[a] + 1 for a in (0, 1))
        params = dict(stride=text(s), padding=text(p), dilation=text(d), groups=g, deform=dg)
        offset = rand(110 + i, x[0], 2 * dg * k, oh, ow, low=-2.5, high=2.5)
        offset[0, :, 0, 0] = 0
        inputs = dict(x=rand(100 + i, *x), offset=offset, w=rand(120 + i, *w))
        c.run(dict(params, v=1), lambda x, offset, w: deform_conv2d(x, offset, w, s, p, d, g, dg), inputs)
        more = dict(mask=rand(130 + i, x[0], dg * k, oh, ow, low=0), b=rand(140 + i, w[0]))
        f = lambda x, offset, w, mask, b: modulated_deform_conv2d(x, offset, mask, w, b, s, p, d, g, dg)
        c.run(dict(params, v=2), f, dict(inputs, **more))


@op
def dcn(c):
    import mmcv.ops
    from mmcv.cnn import build_conv_layer
    for i, (kind, bias) in enumerate([("DCN", 0), ("DCNv2", 0), ("DCNv2", 1)]):
        layer = build_conv_layer(dict(type=kind, deform_groups=2), 4, 6, 3, stride=2, padding=1, groups=2, bias=bool(bias))
        for j, (k, v) in enumerate(layer.state_dict().items()):
            v.copy_(rand(160 + 10 * i + j, *v.shape))
        c.run(dict(type=kind, bias=bias), lambda input: layer(input), dict(input=rand(150 + i, 2, 4, 7, 6)))
        c.add(dict(type=kind, bias=bias), **layer.state_dict())
        for new, old in [("x", "input"), ("dx", "dinput")]:
            c.out[f"type={kind}|bias={bias}/{new}"] = c.out.pop(f"type={kind}|bias={bias}/{old}")


@op
def ms_deform_attn(c):
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch as f
    for i, (levels, b, q, m, p, d) in enumerate([([(4, 5), (2, 3)], 2, 3, 2, 4, 6), ([(1, 1)], 1, 5, 1, 2, 3)]):
        keys = sum(h * w for h, w in levels)
        shapes = torch.tensor(levels)
        inputs = dict(value=rand(200 + i, b, keys, m, d),
                      locations=rand(210 + i, b, q, m, len(levels), p, 2, low=-0.3, high=1.3),
                      weights=rand(220 + i, b, q, m, len(levels), p))
        text = ",".join(f"{h},{w}" for h, w in levels)
        c.run(dict(levels=text), lambda value, locations, weights: f(value, shapes, locations, weights), inputs)


@op
def corner_pool(c):
    from mmcv.ops import CornerPool
    for mode in ["bottom", "left", "right", "top"]:
        # Integers, so that there are ties.
        x = torch.from_numpy(np.random.RandomState(7).randint(-2, 3, (2, 2, 5, 4)).astype(np.float32))
        c.run(dict(mode=mode), lambda x: CornerPool(mode)(x), dict(x=x))


@op
def rotated(c):
    from mmcv.ops import box_iou_rotated, nms_rotated
    rng = np.random.RandomState(3)

    def boxes(n):
        b = np.stack([rng.uniform(0, 20, n), rng.uniform(0, 20, n), rng.uniform(1, 12, n), rng.uniform(1, 12, n),
                      rng.uniform(-4, 4, n)], 1)
        return torch.from_numpy(b.astype(np.float32))

    a, b = boxes(12), boxes(9)
    b[0] = a[0]
    b[1] = torch.tensor([5, 5, 0, 3, 0.1])
    b[2], a[2] = torch.tensor([5, 5, 4, 4, 0.0]), torch.tensor([7, 5, 4, 4, 0.0])
    b[3] = torch.tensor([7, 5, 2, 2, 0.7853982])
    for clockwise in [0, 1]:
        for mode in ["iou", "iof"]:
            y = box_iou_rotated(a, b, mode=mode, clockwise=bool(clockwise))
            c.add(dict(op="iou", mode=mode, clockwise=clockwise), a=a, b=b, y=y)
        many = boxes(60)
        scores = torch.from_numpy(rng.permutation(60).astype(np.float32) / 60)
        for thr in [0.1, 0.5]:
            y = nms_rotated(many, scores, thr, clockwise=bool(clockwise))[1]
            c.add(dict(op="nms", thr=thr, clockwise=clockwise), a=many, scores=scores, y=y)


@op
def points(c):
    def distances(p, q):
        d = q[:, :, None, :] - p[:, None, :, :]
        return d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] + d[..., 2] * d[..., 2]

    p, q = rand(230, 2, 30, 3), rand(231, 2, 7, 3)
    q[0, 0] = p[0, 5]
    q[1, 1] = 9.0
    d = distances(p.numpy(), q.numpy())
    for low, high, k in [(0.0, 0.6, 4), (0.3, 0.9, 5)]:
        y = np.zeros((2, 7, k), np.int64)
        for i, j in np.ndindex(2, 7):
            near = np.nonzero((d[i, j] == 0) | ((d[i, j] >= np.float32(low) ** 2) & (d[i, j] < np.float32(high) ** 2)))[0][:k]
            if len(near):
                y[i, j] = near[0]
                y[i, j, :len(near)] = near
        c.add(dict(op="ball_query", min=low, max=high, k=k), points=p, centres=q, y=y)
    for k in [1, 5, 30]:
        y = np.argsort(d, -1, kind="stable")[..., :k]
        c.add(dict(op="knn", k=k), points=p, centres=q, y=y, d=np.take_along_axis(d, y, -1))
    y = np.argsort(d, -1, kind="stable")[..., :3]
    c.add(dict(op="three_nn"), points=p, centres=q, y=y, d=np.sqrt(np.take_along_axis(d, y, -1)))
    own = distances(p.numpy(), p.numpy())
    y = np.zeros((2, 12), np.int64)
    for i in range(2):
        near = np.full(30, 1e10, np.float32)
        for j in range(1, 12):
            near = np.minimum(near, own[i, y[i, j - 1]])
            y[i, j] = near.argmax()
    c.add(dict(op="fps", k=12), points=p, y=y)
    c.add(dict(op="fps_dist", k=12), points=own, y=y)
    x, rng = rand(232, 2, 4, 9), np.random.RandomState(8)
    places = torch.from_numpy(rng.randint(0, 9, (2, 6)))
    c.run(dict(op="gather"), lambda x: x.gather(2, places[:, None].expand(2, 4, 6)), dict(x=x))
    c.add(dict(op="gather"), places=places)
    places = torch.from_numpy(rng.randint(0, 9, (2, 5, 3)))
    group = lambda x: x.gather(2, places.reshape(2, 1, 15).expand(2, 4, 15)).reshape(2, 4, 5, 3)
    c.run(dict(op="group"), group, dict(x=x))
    c.add(dict(op="group"), places=places)
    w = rand(233, 2, 5, 3)
    c.run(dict(op="three"), lambda x: (group(x) * w[:, None]).sum(-1), dict(x=x))
    c.add(dict(op="three"), places=places, weights=w)


@op
def voxelize(c):
    from mmcv.ops.voxelize import voxelization
    size, span = [0.5, 0.4, 1.0], [0.0, -2.0, -1.0, 4.0, 2.0, 3.0]
    p = rand(240, 200, 4, low=-1, high=4.5)
    p[0, :3], p[1, :3], p[2, :3] = torch.tensor([0, -2, -1.0]), torch.tensor([4, 2, 3.0]), torch.tensor([0.5, 0, 1.0])
    places = voxelization(p, size, span, -1, -1)
    for most, voxels in [(2, 20), (3, 1000), (1, 0)]:
        v, coords, counts = voxelization(p, size, span, most, voxels if voxels else 400)
        c.add(dict(points=most, voxels=voxels), points=p, places=places.long(), voxels=v, coords=coords.long(), counts=counts.long())


@op
def carafe(c):
    """Written out: mmcv has a GPU kernel only."""
    import torch.nn.functional as F
    for i, (n, ch, h, w, k, g, s) in enumerate([(2, 4, 3, 4, 3, 1, 2), (1, 6, 4, 3, 5, 2, 2), (1, 2, 2, 2, 1, 2, 3), (1, 2, 3, 3, 3, 1, 1)]):
        def f(x, masks):
            around = F.unfold(x, k, padding=k // 2).reshape(n, g, ch // g, k * k, h, w)
            around = around.repeat_interleave(s, -2).repeat_interleave(s, -1)
            return (around * masks.reshape(n, g, 1, k * k, h * s, w * s)).sum(3).reshape(n, ch, h * s, w * s)
        c.run(dict(kernel=k, groups=g, scale=s), f, dict(x=rand(250 + i, n, ch, h, w), masks=rand(260 + i, n, g * k * k, h * s, w * s)))


@op
def softmax_focal_loss(c):
    """Written out: mmcv has a GPU kernel only."""
    for gamma, alpha in [(2.0, 0.25), (0.5, 1.0)]:
        target = torch.tensor([0, 3, 2, 3, 1])
        f = lambda x: -alpha * (1 - x.softmax(1)[range(5), target]) ** gamma * x.log_softmax(1)[range(5), target]
        p = dict(gamma=gamma, alpha=alpha)
        c.run(p, f, dict(x=rand(270, 5, 4, low=-3, high=3)))
        c.add(p, target=target)
        w = rand(271, 4, low=0.1)
        c.run(dict(p, weight=1), lambda x: f(x) * w[target], dict(x=rand(270, 5, 4, low=-3, high=3)))
        c.add(dict(p, weight=1), target=target, weight=w)


@op
def psa_mask(c):
    from mmcv.ops import PSAMask
    for mode in ["collect", "distribute"]:
        for i, (h, w) in enumerate([(3, 5), (7, 5)]):
            c.run(dict(mode=mode, h=h, w=w), lambda x: PSAMask(mode, (h, w))(x), dict(x=rand(280 + i, 2, h * w, 4, 3)))


@op
def roi_align_rotated(c):
    from mmcv.ops import roi_align_rotated
    boxes = torch.tensor([[0, 4, 3, 5, 4, 0.3], [1, 2.5, 2, 3, 6, -1.2], [0, -20, 3, 4, 4, 0.5], [1, 7, 6, 9, 2, 2.0],
                          [0, 3, 3, 0, 0, 1.0], [1, 4, 4, 40, 30, 0.7]])
    for aligned in [0, 1]:
        for clockwise in [0, 1]:
            for ratio, scale, ch in [(0, 1.0, 3), (2, 0.5, 10)]:
                p = dict(scale=scale, ratio=ratio, aligned=aligned, clockwise=clockwise)
                f = lambda x, rois: roi_align_rotated(x, rois, (3, 2), scale, ratio, bool(aligned), bool(clockwise))
                c.run(p, f, dict(x=rand(290, 2, ch, 7, 8), rois=boxes), ["rois"])


@op
def point_sample(c):
    from mmcv.ops import point_sample, rel_roi_point_to_rel_img_point
    for align in [0, 1]:
        for i, shape in enumerate([(2, 5, 2), (2, 3, 4, 2)]):
            f = lambda x, points: point_sample(x, points, align_corners=bool(align))
            inputs = dict(x=rand(300, 2, 3, 4, 5), points=rand(301 + i, *shape, low=-0.1, high=1.1))
            c.run(dict(op="sample", align=align, rank=len(shape)), f, inputs)
    rois, points = torch.tensor([[0, 1, 2, 11, 8.0], [1, 5, 3, 4, 30]]), rand(305, 2, 4, 2, low=0)
    c.add(dict(op="convert"), rois=rois, points=points, y=rel_roi_point_to_rel_img_point(rois, points, (20, 30), 0.25))


@op
def upfirdn2d(c):
    from mmcv.ops.fused_bias_leakyrelu import fused_bias_leakyrelu
    from mmcv.ops import upfirdn2d
    text = lambda v: ",".join(map(str, v))
    for i, (up, down, pad) in enumerate([((2, 2), (1, 1), (2, 1, 2, 1)), ((1, 1), (2, 2), (1, 1, 1, 1)),
                                         ((3, 2), (2, 1), (0, 3, 2, 0)), ((1, 1), (1, 1), (-1, 2, 1, -2))]):
        filter = rand(310 + i, 3, 4)
        p = dict(up=text(up), down=text(down), pad=text(pad))
        c.run(p, lambda x: upfirdn2d(x, filter, up, down, pad), dict(x=rand(320 + i, 2, 3, 6, 5)))
        c.add(p, filter=filter)
    for slope, scale, shape in [(0.2, 2**0.5, (2, 3, 2, 4)), (0.1, 1.0, (3, 4))]:
        f = lambda x, b: fused_bias_leakyrelu(x, b, slope, scale)
        c.run(dict(slope=slope, scale=scale), f, dict(x=rand(330, *shape), b=rand(331, shape[1])))


@op
def points_in_boxes(c):
    """`part` is written out by way of `points_in_boxes_cpu`, as are the polygons: mmcv has GPU kernels only."""
    from mmcv.ops import points_in_boxes_cpu
    p = rand(340, 2, 60, 3, low=-3, high=3)
    boxes = torch.cat([rand(341, 2, 6, 3, low=-2, high=2), rand(342, 2, 6, 3, low=1, high=4), rand(343, 2, 6, 1, low=-4, high=4)], 2)
    p[0, 0], p[0, 1] = boxes[0, 0, :3], boxes[0, 1, :3] + torch.tensor([0, 0, 0.5])
    y = points_in_boxes_cpu(p, boxes)
    c.add(dict(op="all"), points=p, boxes=boxes, y=y.long())
    first = torch.where(y.any(2), y.long().argmax(2), torch.tensor(-1))
    c.add(dict(op="part"), points=p, boxes=boxes, y=first)
    q = rand(344, 40, 2, low=0, high=6)
    polygons = torch.tensor([[0, 0, 4, 0, 4, 4, 0, 4.0], [1, 1, 5, 2, 4, 5, 2, 3.0], [3, 0, 6, 3, 3, 6, 0, 3.0]])
    y = np.zeros((40, 3), np.float32)
    for (i, j), _ in np.ndenumerate(y):
        (px, py), v = q[i].tolist(), polygons[j].reshape(4, 2).tolist()
        crossings = sum((a[1] > py) != (b[1] > py) and px < (b[0] - a[0]) * (py - a[1]) / (b[1] - a[1]) + a[0] for a, b in zip(v, v[1:] + v[:1]))
        y[i, j] = crossings % 2
    c.add(dict(op="polygons"), points=q, polygons=polygons, y=y)


@op
def dynamic_scatter(c):
    """Written out: mmcv has a GPU kernel only."""
    rng = np.random.RandomState(9)
    coords = torch.from_numpy(rng.randint(-1, 2, (20, 3)))
    voxels, member = torch.unique(coords[(coords >= 0).all(1)], dim=0, return_inverse=True)
    kept = (coords >= 0).all(1).nonzero()[:, 0]
    for how in ["max", "mean", "sum"]:
        def f(x):
            rows = [x[kept[member == m]] for m in range(len(voxels))]
            return torch.stack([r.max(0)[0] if how == "max" else getattr(r, how)(0) for r in rows])
        c.run(dict(how=how), f, dict(x=rand(350, 20, 5)))
        c.add(dict(how=how), coords=coords, voxels=voxels)


@op
def correlation(c):
    """Written out: mmcv has a GPU kernel only."""
    import torch.nn.functional as F
    for i, (k, m, s, p, d, dp) in enumerate([(1, 1, 1, 0, 1, 1), (3, 2, 2, 1, 1, 1), (3, 1, 1, 2, 2, 2), (2, 1, 2, 3, 1, 3)]):
        def f(a, b):
            far = dp * m
            b = F.pad(b, [far] * 4)
            rows = []
            for y in range(2 * m + 1):
                for x in range(2 * m + 1):
                    moved = b[..., y * dp:y * dp + a.shape[2], x * dp:x * dp + a.shape[3]]
                    product = F.pad((a * moved).sum(1, keepdim=True), [p] * 4)
                    rows.append(F.conv2d(product, torch.ones(1, 1, k, k), stride=s, dilation=d)[:, 0])
            y = torch.stack(rows, 1)
            return y.reshape(a.shape[0], 2 * m + 1, 2 * m + 1, *y.shape[2:])
        params = dict(kernel=k, displacement=m, stride=s, padding=p, dilation=d, patch=dp)
        c.run(params, f, dict(a=rand(360 + i, 2, 3, 6, 5), b=rand(370 + i, 2, 3, 6, 5)))


if __name__ == "__main__":
    import mmcv
    for name in sys.argv[2:] or OPS:
        cases = Cases()
        OPS[name](cases)
        meta = {"mmcv-full": mmcv.__version__, "torch": torch.__version__, "made by": "make.py"}
        save_file(cases.out, f"{sys.argv[1]}/{name}.safetensors", meta)
