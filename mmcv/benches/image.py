"""image.py FILE.jpg: mmcv's times on one thread, for benches/image.rs. Medians of the thread's CPU time."""
import sys
import time

import cv2
import mmcv
import numpy as np

cv2.setNumThreads(0)
content = open(sys.argv[1], "rb").read()
mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])


def bench(name, run, n=30):
    run()
    times = []
    for _ in range(n):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    print(f"{name:24} {np.median(times) * 1e3:8.3f} ms")


image = mmcv.imfrombytes(content)
small = mmcv.imrescale(image, (1333, 800))
normalized = mmcv.imnormalize(small, mean, std)
bench("decode", lambda: mmcv.imfrombytes(content))
bench("resize", lambda: mmcv.imrescale(image, (1333, 800)))
bench("flip", lambda: np.ascontiguousarray(mmcv.imflip(small)))
bench("normalize", lambda: mmcv.imnormalize(small, mean, std))
bench("pad", lambda: mmcv.impad_to_multiple(normalized, 32))


def pipeline():
    im = mmcv.imflip(mmcv.imrescale(mmcv.imfrombytes(content), (1333, 800)))
    return np.ascontiguousarray(mmcv.impad_to_multiple(mmcv.imnormalize(im, mean, std), 32).transpose(2, 0, 1))


bench("pipeline", pipeline)
for i in ["nearest", "area", "bicubic", "lanczos"]:
    bench(f"resize {i}", lambda: mmcv.imresize(image, (1333, 750), interpolation=i))
bench("rotate", lambda: mmcv.imrotate(small, 10.0))
floats = small.astype(np.float32)
bench("hsv there and back", lambda: mmcv.hsv2bgr(mmcv.bgr2hsv(floats)))
