"""The Python side of `cargo xtask bench ops`: mmcv's ops by mmcv-full (by mmdet where mmcv has no CPU op) or torchvision.

mmcv_ops.rs beside this file says what the sizes mean.
"""
import math
import torch
import torch.nn.functional as F
from timing import measured, tensor

def unit(*shape): return torch.rand(*shape)

def uniform(low, high, n): return torch.rand(n) * (high - low) + low

def corners(n, h=800, w=1216):
    x, y = uniform(0, w - 170, n), uniform(0, h - 170, n)
    return torch.stack([x, y, x + uniform(20, 170, n), y + uniform(20, 170, n)], 1)

def rotated(n, h=800, w=1216):
    x1, y1, x2, y2 = corners(n, h, w).unbind(1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, uniform(-math.pi / 2, math.pi / 2, n)], 1)

def rois(boxes, images): return torch.cat([(torch.arange(len(boxes)) % images)[:, None].float(), boxes], 1)

def cloud(n):
    r, a = 2 + 68 * torch.rand(n) ** 3, uniform(-math.pi / 4, math.pi / 4, n)
    return torch.stack([r * a.cos(), r * a.sin(), uniform(-3, 1, n), unit(n)], 1)

PILLARS = (0.16, 0.16, 4.0), (0.0, -39.68, -3.0, 69.12, 39.68, 1.0), 32, 16000
SECOND = (0.05, 0.05, 0.1), (0.0, -40.0, -3.0, 70.4, 40.0, 1.0), 5, 16000

def without_gradient(way, kind, s):
    if way == 'torchvision':
        from torchvision import ops
    else:
        import mmcv.ops as ops
        from mmcv.ops.voxelize import voxelization
    boxes, scores = corners(s[0]), unit(s[0])
    if kind == 'nms':
        if way == 'torchvision': return lambda: ops.nms(boxes, scores, 0.5)
        return lambda: ops.nms(boxes, scores, 0.5)
    if kind == 'batched_nms':
        ids = torch.randint(s[1], (s[0],))
        if way == 'torchvision': return lambda: ops.batched_nms(boxes, scores, ids, 0.5)
        return lambda: ops.batched_nms(boxes, scores, ids, dict(type='nms', iou_threshold=0.5))
    if kind in ('bbox_overlaps', 'bbox_overlaps_giou'):
        others, giou = corners(s[1]), kind.endswith('giou')
        if way == 'torchvision':
            overlaps = ops.generalized_box_iou if giou else ops.box_iou
            return lambda: overlaps(boxes, others)
        if giou:
            from mmdet.core import bbox_overlaps
            return lambda: bbox_overlaps(boxes, others, mode='giou')
        return lambda: ops.bbox_overlaps(boxes, others)
    if way == 'torchvision': return None
    if kind == 'nms_match':
        dets = torch.cat([boxes, scores[:, None]], 1)
        return lambda: ops.nms_match(dets, 0.5)
    if kind.startswith('soft_nms_'):
        method = kind[len('soft_nms_'):]
        return lambda: ops.soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method)
    if kind == 'nms_rotated':
        boxes = rotated(s[0])
        return lambda: ops.nms_rotated(boxes, scores, 0.5)
    if kind == 'box_iou_rotated':
        boxes, others = rotated(s[0]), rotated(s[1])
        return lambda: ops.box_iou_rotated(boxes, others)
    if kind in ('hard_voxelize_pillars', 'hard_voxelize_second'):
        points, grid = cloud(s[0]), PILLARS if kind.endswith('pillars') else SECOND
        return lambda: voxelization(points, *grid, True)
    if kind == 'dynamic_voxelize':
        points = cloud(s[0])
        return lambda: voxelization(points, *PILLARS[:2], -1, -1)
    if kind == 'points_in_boxes':
        b, n, m = s
        points = cloud(b * n)[:, :3].reshape(b, n, 3).contiguous()
        k = b * m
        at = cloud(k)[:, :3]
        cars = torch.stack([*at.unbind(1), uniform(3, 5, k), uniform(1.4, 2, k), uniform(1.4, 2, k), uniform(-3, 3, k)], 1)
        cars = cars.reshape(b, m, 7)
        return lambda: ops.points_in_boxes_cpu(points, cars)

def with_gradient(way, kind, s, grad):
    leaf = lambda *shape: tensor(*shape).requires_grad_(grad)
    if way == 'torchvision':
        from torchvision import ops
    else:
        from mmcv import ops
    if kind == 'sigmoid_focal_loss':
        x = leaf(*s); n, classes = s
        labels = torch.where(torch.rand(n) < 0.01, torch.randint(classes, (n,)), torch.full((n,), classes))
        target = lambda: F.one_hot(labels, classes + 1)[:, :classes]
        if way == 'torchvision': return lambda: ops.sigmoid_focal_loss(x, target().type_as(x), 0.25, 2.0)
        from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
        return lambda: py_sigmoid_focal_loss(x, target(), gamma=2.0, alpha=0.25, reduction='none')
    if kind in ('roi_align', 'roi_align_max'):
        n, c, h, w, k, bins, sampling = s
        x, r = leaf(n, c, h, w), rois(corners(k, 4 * h, 4 * w), n)
        if way == 'torchvision': return lambda: ops.roi_align(x, r, bins, 0.25, sampling or -1, True)
        mode = 'max' if kind.endswith('max') else 'avg'
        return lambda: ops.roi_align(x, r, bins, 0.25, sampling, mode, True)
    if kind == 'deform_conv' or kind == 'modulated_deform_conv':
        n, c, h, w, o, k, groups, deform = s
        x, offset, weight = leaf(n, c, h, w), leaf(n, 2 * deform * k * k, h, w), leaf(o, c // groups, k, k)
        if kind == 'deform_conv':
            if way == 'torchvision': return lambda: ops.deform_conv2d(x, offset, weight, None, 1, k // 2)
            return lambda: ops.deform_conv2d(x, offset, weight, 1, k // 2, 1, groups, deform)
        mask = leaf(n, deform * k * k, h, w)
        if way == 'torchvision': return lambda: ops.deform_conv2d(x, offset, weight, None, 1, k // 2, 1, mask)
        return lambda: ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, k // 2, 1, groups, deform)
    if way == 'torchvision':
        if kind == 'roi_pool':
            n, c, h, w, k, bins = s
            x, r = leaf(n, c, h, w), rois(corners(k, 4 * h, 4 * w), n)
            return lambda: ops.roi_pool(x, r, bins, 0.25)
        return None
    if kind == 'roi_align_rotated':
        n, c, h, w, k, bins, sampling = s
        x, r = leaf(n, c, h, w), rois(rotated(k, 4 * h, 4 * w), n)
        return lambda: ops.roi_align_rotated(x, r, bins, 0.25, sampling, True, False)
    if kind == 'ms_deform_attn':
        from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
        b, heads, d, levels, h, w, points, queries = s
        shapes = torch.tensor([[-(-h // 2 ** i), -(-w // 2 ** i)] for i in range(levels)])
        value = leaf(b, int(shapes.prod(1).sum()), heads, d)
        locations = unit(b, queries, heads, levels, points, 2).requires_grad_(grad)
        weights = (unit(b, queries, heads, levels, points) / (levels * points)).requires_grad_(grad)
        return lambda: multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    if kind in ('psa_mask_collect', 'psa_mask_distribute'):
        n, mh, mw, h, w = s
        x, mask = leaf(n, mh * mw, h, w), ops.PSAMask(kind[len('psa_mask_'):], (mh, mw))
        return lambda: mask(x)
    if kind.startswith('corner_pool_'):
        x, pool = leaf(*s), ops.CornerPool(kind[len('corner_pool_'):])
        return lambda: pool(x)
    if kind == 'point_sample':
        n, c, h, w, p = s
        x, points = leaf(n, c, h, w), unit(n, p, 2)
        return lambda: ops.point_sample(x, points)
    if kind == 'upfirdn2d':
        n, c, h, w, k, up, down, before, after = s
        x, kernel = leaf(n, c, h, w), tensor(k, k)
        return lambda: ops.upfirdn2d(x, kernel, up, down, (before, after))
    if kind == 'fused_bias_leakyrelu':
        x, bias = leaf(*s), leaf(s[1])
        return lambda: ops.fused_bias_leakyrelu(x, bias, 0.2, 2 ** 0.5)

def make(way, kind, s, mode):
    f = without_gradient(way, kind, s) or with_gradient(way, kind, s, mode != 'forward')
    if f is None: raise ValueError(f'{way} has no {kind}')
    return measured(f, mode)
