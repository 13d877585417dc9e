"""mmdet's pipeline on the file that benches/pipeline.rs has made: `python pipeline.py FILE`. One thread."""
import sys
import time
import warnings

warnings.filterwarnings('ignore')
import cv2
import torch
from mmdet.datasets.pipelines import Compose

cv2.setNumThreads(1)
torch.set_num_threads(1)
STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', img_scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img']),
]
for name, steps in ('load', STEPS[:1]), ('load_resize', STEPS[:2]), ('whole', STEPS):
    pipeline = Compose(steps)
    times = []
    for _ in range(45):
        start = time.perf_counter()
        pipeline(dict(img_prefix=None, img_info=dict(filename=sys.argv[1])))
        times.append(time.perf_counter() - start)
    times = sorted(times[5:])
    print(f'{name}: median {times[20] * 1e3:.2f} ms, least {times[0] * 1e3:.2f} ms')
