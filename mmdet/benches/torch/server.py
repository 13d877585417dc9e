"""The Python side of `cargo xtask bench`; the protocol and the cases' names are in main.rs beside this file.

A case takes one more word in front, the way it is run: eager, channels_last, jit (frozen and optimised), compile, mmdet, and for
mmcv's ops mmcv or torchvision.
"""
import importlib.metadata, os, resource, statistics, sys, time, warnings
warnings.filterwarnings('ignore')
import torch
import torch.nn.functional as F
torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '2')))
torch.manual_seed(0)
import mmcv_ops
from timing import measured, tensor, timed

def op(kind, s, mode):
    grad = mode != 'forward'
    leaf = lambda *shape: tensor(*shape).requires_grad_(grad)
    if kind == 'conv2d':
        n, c, h, w, o, k, stride, padding, groups = s
        x, weight = leaf(n, c, h, w), leaf(o, c // groups, k, k)
        f = lambda: F.conv2d(x, weight, None, stride, padding, 1, groups)
    elif kind == 'batch_norm':
        x, weight, bias = leaf(*s), leaf(s[1]), leaf(s[1])
        mean, var = torch.zeros(s[1]), torch.ones(s[1])
        f = lambda: F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)
    elif kind == 'relu':
        x = leaf(*s); f = lambda: F.relu(x)
    elif kind == 'max_pool2d':
        x = leaf(*s[:4]); f = lambda: F.max_pool2d(x, s[4], s[5], s[6])
    elif kind == 'nearest_x2':
        x = leaf(*s); f = lambda: F.interpolate(x, scale_factor=2, mode='nearest')
    elif kind == 'bilinear_x2':
        x = leaf(*s); f = lambda: F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    elif kind == 'softmax':
        x = leaf(*s); f = lambda: F.softmax(x, 1)
    elif kind == 'sigmoid_focal_loss':   # what mmdet computes on a CPU (py_sigmoid_focal_loss)
        x = leaf(*s); n, classes = s
        labels = torch.where(torch.rand(n) < 0.01, torch.randint(classes, (n,)), torch.full((n,), classes))
        def f():
            target = F.one_hot(labels, classes + 1)[:, :classes].type_as(x)
            p = x.sigmoid()
            pt = (1 - p) * target + p * (1 - target)
            focal = (0.25 * target + 0.75 * (1 - target)) * pt.pow(2.0)
            return F.binary_cross_entropy_with_logits(x, target, reduction='none') * focal
    else:
        raise ValueError('unknown case ' + kind)
    return measured(f, mode)

def network(kind, s, mode, way):
    import torchvision
    model = dict(resnet50=torchvision.models.resnet50, mobilenet_v2=torchvision.models.mobilenet_v2)[kind]()
    x = tensor(s[0], 3, s[1], s[2])
    if mode == 'step':
        optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4)
        target = torch.arange(s[0])
        def step():
            optimizer.zero_grad(); F.cross_entropy(model(x), target).backward(); optimizer.step()
        return timed(step)
    model.eval()
    for p in model.parameters(): p.requires_grad_(False)
    if way == 'channels_last':
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    elif way == 'jit':
        model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
    elif way == 'compile':
        model = torch.compile(model)
    def forward():
        with torch.no_grad(): model(x)
    for _ in range(2): forward()
    return timed(forward)

def detector(kind, s, mode, folder):
    import cv2; cv2.setNumThreads(0)
    from mmcv import Config
    from mmcv.runner import build_optimizer
    from mmdet.apis import inference_detector
    from mmdet.models import build_detector
    cfg = Config.fromfile(f'{folder}/{kind}.json')
    model = build_detector(cfg.model, cfg.get('train_cfg'), cfg.get('test_cfg')); model.init_weights()
    if mode == 'infer':
        for step in cfg.data.test.pipeline:
            if 'img_scale' in step: step['img_scale'] = tuple(step['img_scale'])  # JSON has no tuples
        model.cfg = cfg; model.eval()
        return timed(lambda: inference_detector(model, f'{folder}/picture.jpg'))
    n, h, w = s
    optimizer = build_optimizer(model, cfg.optimizer)
    classes = cfg.model.bbox_head.num_classes
    corner = torch.tensor([[i % 5 * 60 + 10, i // 5 * 70 + 10] for i in range(15)]).float()
    meta = dict(ori_shape=(h, w, 3), img_shape=(h, w, 3), pad_shape=(h, w, 3), scale_factor=1.0, flip=False, filename='')
    data = dict(img=tensor(n, 3, h, w), img_metas=[meta] * n, gt_bboxes=[torch.cat([corner, corner + 40], 1)] * n,
                gt_labels=[torch.arange(15) % classes] * n)
    model.train()
    def step():
        out = model.train_step(data, optimizer); optimizer.zero_grad(); out['loss'].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10); optimizer.step()
    return timed(step)

def make(name, folder):
    way, kind, *sizes, mode = name.split(' ')
    sizes = [int(v) for v in sizes]
    if way in ('mmcv', 'torchvision'): return mmcv_ops.make(way, kind, sizes, mode)
    if kind.startswith('retinanet'): return detector(kind, sizes, mode, folder)
    if kind in ('resnet50', 'mobilenet_v2'): return network(kind, sizes, mode, way)
    return op(kind, sizes, mode)

def main():
    cases, folder = {}, '.'
    for line in sys.stdin:
        command, _, rest = line.rstrip('\n').partition(' ')
        try:
            answer = ''
            if command == 'prepare':
                folder = rest
            elif command == 'run':
                seconds, _, name = rest.partition(' ')
                if name not in cases:
                    cases.clear(); run = make(name, folder); run(); cases[name] = run
                times, start = [], time.perf_counter()
                while len(times) < 3 or time.perf_counter() - start < float(seconds): times.append(cases[name]())
                answer = statistics.median(times)
            elif command == 'peak':
                answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            elif command == 'version':
                answer = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in rest.split())
            print('ok', answer, flush=True)
        except Exception as e:
            print('error', str(e).replace('\n', ' ')[:300], flush=True)

main()
