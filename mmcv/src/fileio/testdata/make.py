"""The pickles and numpy files of the tests: `python make.py` (Python 3.11, numpy 1.26.4)."""
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np

here = Path(__file__).parent
shared = [1, 2]
value = OrderedDict(
    none=None, yes=True, ints=[0, 255, -1, 70000, 2**40, -2**40, 2**63, 2**100, -2**100],
    floats=[1.5, -0.0, float('inf'), float('nan')], text=['a', 'é', 'Ω\n\\u', '𝄞'], raw=b'\x00\xffb', array=bytearray(b'xy'),
    pair=(1, (), ('a',)), same=[shared, shared], ids={3, }, frozen=frozenset([4]), keyed={1: 'a', (2, 'b'): 'c', None: 'd'},
    counts=defaultdict(list, a=[1]),
    ann=dict(bboxes=np.array([[1, 2, 3.5, 4], [5, 6, 7, 8]], np.float32), labels=np.array([1, 0]),
             empty=np.zeros((0, 4), np.float32), scalar=np.float32(0.25), big=np.arange(3, dtype='>i2'),
             fortran=np.asfortranarray(np.arange(6).reshape(2, 3)), half=np.array([0.5], np.float16), flag=np.bool_(True),
             names=np.array(['ab', 'c']), ragged=np.array([np.array([1]), [2, 3]], dtype=object), zero=np.array(7)))
for protocol in range(6):
    (here / f'protocol_{protocol}.pkl').write_bytes(pickle.dumps(value, protocol))
np.save(here / 'array.npy', np.asfortranarray(np.arange(6, dtype='>f8').reshape(2, 3)))
np.savez_compressed(here / 'arrays.npz', boxes=np.array([[1, 2, 3, 4]], np.float32), n=np.int64(3))
anns = [
    dict(filename='a.jpg', width=64, height=32,
         ann=dict(bboxes=np.array([[1, 2, 3.5, 4]], np.float32), labels=np.array([1]),
                  bboxes_ignore=np.array([[0, 0, 1, 1]], np.float32), labels_ignore=np.array([0]))),
    dict(filename='none.jpg', width=64, height=64,
         ann=dict(bboxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))),
]
tests = here.parents[2].parent / 'mmdet/src/datasets/testdata'
tests.mkdir(exist_ok=True)
(tests / 'custom.pkl').write_bytes(pickle.dumps(anns, 2))
(tests / 'proposals.pkl').write_bytes(pickle.dumps([np.array([[1, 2, 3, 4, 0.9]], np.float32), np.zeros((0, 5), np.float32)], 2))
