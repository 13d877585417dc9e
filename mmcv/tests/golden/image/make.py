"""make.py FOLDER [big]: the goldens of mmcv/src/image, from cv2 4.8.1 and mmcv-full 1.7.2.

A key is the operation and its parameters; `in=` names the input, which is in the file too.
"""
import io
import sys

import cv2
import mmcv
import numpy as np
from PIL import Image
from safetensors_np import save_file

cv2.setNumThreads(0)
folder, big = sys.argv[1], len(sys.argv) > 2
meta = {"cv2": cv2.__version__, "mmcv": mmcv.__version__, "made by": "make.py, seed 0"}


def picture(rng, h, w, c, kind):
    yy, xx = np.mgrid[:h, :w]
    planes = [xx * 255 // max(w - 1, 1), yy * 255 // max(h - 1, 1), (xx + yy) * 37 % 256, xx * yy % 256]
    noisy = np.stack(planes, -1)[..., :c] + rng.randint(-60, 60, (h, w, c))
    u8 = np.clip(noisy, 0, 255).astype(np.uint8)
    return u8 if kind == "u8" else u8.astype(np.float32) * np.float32(0.99) + rng.rand(h, w, c).astype(np.float32)


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
    mixed = [(600, 100), (300, 500), (600, 332), (502, 20), (500, 334), (501, 40), (40, 333)] if big else [(12, 19)]
    for name, sizes in {"a": cases["a"][1][:2] + mixed, "b": cases["b"][1][1:]}.items():
        im = out[f"in={name}u8"]
        for size in sizes:
            for i in ["nearest", "bilinear", "bicubic", "box", "lanczos", "hamming"]:
                r = mmcv.imresize(im if name == "a" else im[..., 0], size, interpolation=i, backend="pillow")
                out[f"op=pillow|in={name}u8|w={size[0]}|h={size[1]}|i={i}"] = r.reshape(size[1], size[0], im.shape[2])
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    for rgb in [0, 1]:
        for kind in ["u8", "f32"]:
            out[f"op=normalize|in=a{kind}|rgb={rgb}"] = mmcv.imnormalize(out[f"in=a{kind}"], mean, std, bool(rgb))
        out[f"op=denormalize|in=af32|rgb={rgb}"] = mmcv.imdenormalize(out["in=af32"], mean, std, bool(rgb))
    save_file(out, f"{folder}/resize.safetensors", meta)


def decode():
    rng, files, out = np.random.RandomState(1), {}, {}
    rgba = picture(rng, 9, 12, 4, "u8")
    rgb, gray = rgba[..., :3].copy(), rgba[..., 0].copy()
    wide = lambda im: cv2.cvtColor(im, cv2.COLOR_RGB2BGR).astype(np.uint16) * 251 + im

    def add(name, im, mode=None, orientation=None, **options):
        im = im if isinstance(im, Image.Image) else Image.fromarray(im, mode)
        if orientation:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = orientation
        buffer = io.BytesIO()
        im.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(name[-3:], name.split(".")[1]), **options)
        files[name] = buffer.getvalue()

    add("color.jpg", rgb, quality=90)
    add("full.jpg", rgb, quality=95, subsampling=0)
    add("progressive.jpg", rgb, quality=90, progressive=True)
    add("gray.jpg", gray)
    add("cmyk.jpg", rgba, "CMYK")
    for o in range(1, 9):
        add(f"exif{o}.jpg", rgb, orientation=o)
    add("exif6.png", rgb, orientation=6)
    add("exif6.tif", rgb, orientation=6)
    add("palette.png", Image.fromarray(rgb).quantize(17))
    add("palette_alpha.png", Image.fromarray(rgb).quantize(17), transparency=bytes(range(0, 170, 10)))
    add("la.png", rgba[..., 2:].copy(), "LA")
    add("bit.png", Image.fromarray(gray).convert("1"))
    add("palette.bmp", Image.fromarray(rgb).quantize(17))
    for kind in ["png", "bmp", "tif", "webp"]:
        exact = {"lossless": True, "exact": True} if kind == "webp" else {}
        add(f"rgb.{kind}", rgb, **exact)
        add(f"rgba.{kind}", rgba, **exact)
        if kind != "webp":
            add(f"gray.{kind}", gray)
    for kind in ["png", "tif"]:
        files[f"rgb16.{kind}"] = cv2.imencode(f".{kind}", wide(rgb))[1].tobytes()
        files[f"gray16.{kind}"] = cv2.imencode(f".{kind}", wide(rgb)[..., 0].copy())[1].tobytes()
    files["rgba16.png"] = cv2.imencode(".png", rgba.astype(np.uint16) * 251 + rgba[..., ::-1])[1].tobytes()
    for name, content in files.items():
        out[f"in={name}"] = np.frombuffer(content, np.uint8)
        flags = ["color", "grayscale", "unchanged", "color_ignore_orientation", "grayscale_ignore_orientation"]
        cases = [(flag, "bgr", "cv2") for flag in flags] + [("color", "rgb", "cv2"), ("color_ignore_orientation", "rgb", "cv2")]
        if "16" not in name and name not in ["bit.png", "palette_alpha.png"]:
            cases += [(flag, "rgb", "pillow") for flag in flags[:3]]
        for flag, order, backend in cases:
            if "ignore" in flag and "exif6" not in name:
                continue
            im = mmcv.imfrombytes(content, flag, order, backend)
            im = im if im.dtype == np.uint8 else im.astype(np.float32)
            out[f"op=decode|in={name}|flag={flag}|order={order}|backend={backend}"] = im.reshape(*im.shape[:2], -1)
    save_file(out, f"{folder}/decode.safetensors", meta)


def warp():
    rng, out = np.random.RandomState(2), {}
    shapes = {"a": (97, 131, 3), "b": (64, 80, 1)} if big else {"a": (11, 13, 3), "b": (9, 12, 1)}
    text = lambda values: ",".join(repr(float(v)) for v in np.ravel(values))
    names = ["nearest", "bilinear", "bicubic", "lanczos"]
    for name, (h, w, c) in shapes.items():
        for kind in ["u8", "f32"]:
            im = out[f"in={name}{kind}"] = picture(rng, h, w, c, kind)
            im = im if c > 1 else im[..., 0]
            put = lambda key, r: out.__setitem__(key, r.reshape(*r.shape[:2], c))
            affine = np.array([[0.8, 0.3, -1.25], [-0.2, 1.1, 2.6]])
            perspective = np.array([[1.05, 0.1, -0.7], [0.07, 0.9, 0.4], [0.8 / w / 8, -0.5 / h / 8, 1.0]])
            borders = ["constant", "replicate", "reflect", "wrap", "reflect_101"]
            for i in names:
                flags = mmcv.image.geometric.cv2_interp_codes[i]
                for border in borders if i in ["nearest", "bilinear"] or big else borders[:2]:
                    mode = mmcv.image.geometric.cv2_border_modes[border]
                    value = (7, 99, 200)[:c]
                    tail = f"i={i}|border={border}|value={text(value)}"
                    r = cv2.warpAffine(im, affine, (w + 2, h - 1), flags=flags, borderMode=mode, borderValue=value)
                    put(f"op=affine|in={name}{kind}|m={text(affine)}|w={w + 2}|h={h - 1}|{tail}", r)
                    if kind == "u8" and border == "constant":
                        r = cv2.warpPerspective(im, perspective, (w, h), flags=flags, borderMode=mode, borderValue=value)
                        put(f"op=perspective|in={name}{kind}|m={text(perspective)}|w={w}|h={h}|{tail}", r)
            if kind == "f32":
                continue
            for angle, scale, auto in [(30, 1, 0), (-77.5, 1.2, 0), (45, 1, 1), (90, 0.7, 1)]:
                r = mmcv.imrotate(im, angle, scale=scale, border_value=55, auto_bound=bool(auto))
                put(f"op=rotate|in={name}{kind}|angle={angle}|scale={scale}|auto={auto}|i=bilinear|border=constant|value=55", r)
            for direction in ["horizontal", "vertical"]:
                tail = f"direction={direction}|i=bilinear|border=constant|value=55"
                put(f"op=translate|in={name}{kind}|offset=2.3|{tail}", mmcv.imtranslate(im, 2.3, direction, 55))
                put(f"op=shear|in={name}{kind}|magnitude=0.35|{tail}", mmcv.imshear(im, 0.35, direction, 55))
    save_file(out, f"{folder}/warp.safetensors", meta)


def values():
    rng, out = np.random.RandomState(3), {}
    h, w = (120, 160) if big else (14, 17)
    if big:
        cube = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), -1).reshape(86, -1, 3).astype(np.uint8)
    for name, im in {
        "u8": cube if big else picture(rng, h, w, 3, "u8"),
        "f32": picture(rng, h, w, 3, "f32"),
        "unit": picture(rng, h, w, 3, "f32") / np.float32(256),
        "hsv": (rng.rand(h, w, 3) * [360, 1, 255]).astype(np.float32),
        "low": (picture(rng, h, w, 3, "u8") // 3 + 40).astype(np.uint8),
    }.items():
        out[f"in={name}"] = im
        for op in ["bgr2hsv", "hsv2bgr", "bgr2hls", "hls2bgr"]:
            if (op == "hsv2bgr") == (name == "hsv") or name == "u8":
                if "hls" in op and name == "f32":
                    continue
                out[f"op={op}|in={name}"] = getattr(mmcv, op)(im)
        if name in ["u8", "unit"]:
            for op in ["rgb2ycbcr", "bgr2ycbcr", "ycbcr2rgb", "ycbcr2bgr"]:
                out[f"op={op}|in={name}"] = getattr(mmcv, op)(im.copy())
            out[f"op=bgr2y|in={name}"] = mmcv.bgr2ycbcr(im.copy(), True)[..., None]
        if name in ["u8", "f32", "low"]:
            out[f"op=bgr2gray|in={name}"] = mmcv.bgr2gray(im, keepdim=True)
            out[f"op=iminvert|in={name}"] = mmcv.iminvert(im)
            out[f"op=solarize|in={name}|p=100"] = mmcv.solarize(im, 100)
            for f in [0.0, 0.6, 1.7]:
                out[f"op=adjust_color|in={name}|p={f},{3 * f}"] = mmcv.adjust_color(im, f, gamma=3 * f)
                for op in ["adjust_brightness", "adjust_contrast", "adjust_sharpness"]:
                    out[f"op={op}|in={name}|p={f}"] = getattr(mmcv, op)(im, f)
            for f in [-0.5, -0.13, 0.2]:
                out[f"op=adjust_hue|in={name}|p={f}"] = mmcv.adjust_hue(im, f)
            out[f"op=lut|in={name}"] = mmcv.lut_transform(im, (np.arange(256) * 7 % 256).astype(np.uint8))
        if im.dtype == np.uint8:
            for bits in [1, 4, 8]:
                out[f"op=posterize|in={name}|p={bits}"] = mmcv.posterize(im, bits)
            out[f"op=imequalize|in={name}"] = mmcv.imequalize(im)
            for low, high in [(0, 0), (3, 3), (1.5, 12.25)]:
                out[f"op=auto_contrast|in={name}|p={low},{high}"] = mmcv.auto_contrast(im, (low, high))
            gray = out[f"in={name}gray"] = mmcv.bgr2gray(im, keepdim=True)
            for limit, grid in [(40.0, (8, 8)), (2.0, (3, 2)), (0.0, (2, 2))]:
                out[f"op=clahe|in={name}gray|p={limit},{grid[0]},{grid[1]}"] = mmcv.clahe(gray[..., 0], limit, grid)[..., None]
    for seed, shape in [(0, (4, 6)), (1, (9, 3)), (2, (40, 2))]:
        np.random.seed(seed)
        y, x = np.random.uniform(h), np.random.uniform(w)
        np.random.seed(seed)
        out[f"op=cutout|in=f32|p={shape[0]},{shape[1]},{y},{x},5,6,7"] = mmcv.cutout(out["in=f32"], shape, (5, 6, 7))
    save_file(out, f"{folder}/values.safetensors", meta)


resize()
warp()
values()
if not big:
    decode()
