"""pycocotools on the data of coco_eval.rs: python coco_eval.py"""
import contextlib, copy, io, json, os, tempfile, time
from pycocotools import mask as M; from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval
import numpy as np
class Mix:
    def __init__(s, seed): s.s = seed
    def bits(s):
        s.s = (s.s + 0x9E3779B97F4A7C15) % 2**64; z = s.s
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31
    def unit(s): return (s.bits() >> 11) * 2.0**-53
    def below(s, n): return s.bits() % n

W, H = 640, 480
def cents(v): return float(np.floor(v * 100) / 100)
def a_box(m):
    w, h = 4 + cents(m.unit()**2 * 300), 4 + cents(m.unit()**2 * 200)
    return [cents(m.unit() * (W - w)), cents(m.unit() * (H - h)), w, h]
def diamond(b):
    x, y, w, h = b
    return [x, y + h / 4, x + w / 2, y, x + w, y + h / 2, x + w / 4, y + h]
def solid(b):   # run lengths of the box in whole pixels
    x, y, w, h = (int(v) for v in b)
    runs = [x * H + y, h]
    for _ in range(w - 1): runs += [H - h, h]
    return dict(size=[H, W], counts=runs + [H * W - (x + w - 1) * H - y - h])
def make(seed, images, cats, gts, noise):
    m = Mix(seed); gt = dict(images=[], annotations=[], categories=[dict(id=3 * c + 2, name=f"c{c}") for c in range(cats)]); dets = []
    for i in range(images):
        img = 10 + i * 7919 % 10007
        gt["images"].append(dict(id=img, file_name=f"{img}.jpg", width=W, height=H))
        def add(box, cat): dets.append(dict(image_id=img, category_id=3 * cat + 2, bbox=box, score=m.below(64) / 64))
        for _ in range(m.below(gts)):
            b, cat, crowd = a_box(m), m.below(cats), m.unit() < 0.1
            gt["annotations"].append(dict(id=len(gt["annotations"]) + 1, image_id=img, category_id=3 * cat + 2, bbox=b,
                area=b[2] * b[3] * 0.7, iscrowd=int(crowd), segmentation=solid(b) if crowd else [diamond(b)]))
            for _ in range(m.below(3)):
                j = [(m.unit() - 0.5) * 0.3 for _ in range(4)]
                add([b[0] + j[0] * b[2], b[1] + j[1] * b[3], b[2] + j[2] * b[2], b[3] + j[3] * b[3]], cat if m.unit() < 0.9 else m.below(cats))
        for _ in range(m.below(noise)): add(a_box(m), m.below(cats))
    return gt, dets
gt, dets = make(7, 500, 80, 16, 121)
print(len(gt["images"]), "images,", len(gt["annotations"]), "objects,", len(dets), "detections")
path = os.path.join(tempfile.mkdtemp(), "gt.json"); json.dump(gt, open(path, "w"))
masked = [dict({k: v for k, v in d.items() if k != "bbox"}, segmentation=M.frPyObjects([diamond(d["bbox"])], H, W)[0]) for d in dets]
with contextlib.redirect_stdout(io.StringIO()): 
    t = [time.time(), time.process_time()]; c = COCO(path); t += [time.time(), time.process_time()]
print(f"load {t[2] - t[0]:.3f} s, {t[3] - t[1]:.3f} s of CPU")
for iou, d in (("bbox", dets), ("segm", masked)):
    with contextlib.redirect_stdout(io.StringIO()):
        e = COCOeval(c, c.loadRes(copy.deepcopy(d)), iou)
        t = [time.time(), time.process_time()]; e.evaluate(); e.accumulate(); e.summarize(); t += [time.time(), time.process_time()]
    print(f"{iou} {t[2] - t[0]:.3f} s, {t[3] - t[1]:.3f} s of CPU; AP {e.stats[0]!r}")
