"""make.py FOLDER [big]: the goldens of mmcv/src/image, from cv2 4.8.1 and mmcv-full 1.7.2.

A key is the operation and its parameters; `in=` names the input, which is in the file too.
"""
import sys

import cv2
import mmcv
import numpy as np
from safetensors_np import save_file

cv2.setNumThreads(0)
folder, big = sys.argv[1], len(sys.argv) > 2
meta = {"cv2": cv2.__version__, "mmcv": mmcv.__version__, "made by": "make.py, seed 0"}


def picture(rng, h, w, c, kind):
    yy, xx = np.mgrid[:h, :w]
    planes = [xx * 255 // max(w - 1, 1), yy * 255 // max(h - 1, 1), (xx + yy) * 37 % 256, xx * yy % 256]
    noisy = np.stack(planes, -1)[..., :c] + rng.randint(-60, 60, (h, w, c))
    u8 = np.clip(noisy, 0, 255).astype(np.uint8)
    return u8 if kind == "u8" else u8.astype(np.float32) + rng.rand(h, w, c).astype(np.float32)


def resize():
    rng, out = np.random.RandomState(0), {}
    if big:
        cases = {
            "a": ((333, 501, 3), [(1333, 800), (200, 100), (250, 166), (37, 41)]),
            "b": ((640, 427, 1), [(213, 320), (1000, 999)]),
            "d": ((480, 640, 3), [(320, 240), (160, 120), (1067, 800), (512, 384)]),
            "e": ((50, 77, 4), [(100, 100), (25, 25), (7, 7)]),
        }
    else:
        cases = {
            "a": ((13, 17, 3), [(21, 9), (7, 5), (34, 26), (16, 13)]),
            "b": ((12, 18, 1), [(9, 6), (6, 4), (25, 12)]),
            "e": ((9, 16, 4), [(8, 9), (5, 5)]),
        }
    for name, ((h, w, c), sizes) in cases.items():
        for kind in ["u8", "f32"]:
            im = out[f"in={name}{kind}"] = picture(rng, h, w, c, kind)
            for size in sizes:
                for i in ["nearest", "bilinear", "bicubic", "area", "lanczos"]:
                    r = mmcv.imresize(im if c > 1 else im[..., 0], size, interpolation=i)
                    out[f"op=resize|in={name}{kind}|w={size[0]}|h={size[1]}|i={i}"] = r.reshape(size[1], size[0], c)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    for rgb in [0, 1]:
        for kind in ["u8", "f32"]:
            out[f"op=normalize|in=a{kind}|rgb={rgb}"] = mmcv.imnormalize(out[f"in=a{kind}"], mean, std, bool(rgb))
        out[f"op=denormalize|in=af32|rgb={rgb}"] = mmcv.imdenormalize(out["in=af32"], mean, std, bool(rgb))
    save_file(out, f"{folder}/resize.safetensors", meta)


resize()
