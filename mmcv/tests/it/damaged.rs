//! Files cut short and with bytes changed are refused or read, never a panic, and a cut one is never taken for whole.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmcv::Rng;
use mmcv::checkpoint::{self, Checkpoint};
use mmcv::config::Config;
use mmcv::image::{ChannelOrder, ColorFlag, Image, ImageBackend, Pixels, imencode, imfrombytes};

/// `bytes` cut after each `step`th byte.
fn cuts(bytes: &[u8], step: usize) -> impl Iterator<Item = &[u8]> {
    (0..bytes.len()).step_by(step).map(|n| &bytes[..n])
}

/// `n` versions of `bytes`, each with one to four bytes changed, drawn from `seed`.
fn flips(bytes: &[u8], n: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..n as u64).map(move |i| {
        let mut rng = Rng::keyed(seed, &[i]);
        let mut broken = bytes.to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.below(broken.len());
            // Bits, numbers and punctuation that mean something to most formats.
            broken[at] = match rng.below(4) {
                0 => broken[at] ^ (1 << rng.below(8)),
                1 => [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
                2 => b"[]{}()\"'=:,.#\n -"[rng.below(16)],
                _ => rng.below(256) as u8,
            };
        }
        broken
    })
}

const PY: &str = r#"_base_ = ['base.py']
norm_cfg = dict(type='BN', requires_grad=True)
img_scale = (1333, 800)
model = dict(
    type='RetinaNet', backbone=dict(_delete_=True, type='ResNet', depth=50, norm_cfg=norm_cfg),
    strides=[2**i for i in range(3, 8)], lr=0.01 / 16 * -1.5e-3, on=not False,
    name=f'r{img_scale[0]}_{"x" * 2}')
data = dict(train=[dict(type='A', scale=s) for s in (1, 2)], test={{_base_.data.test}})
model['backbone'].update(depth=101)
model.neck = None
"#;

const BASE: &str = "data = dict(test=dict(type='T', n=3))\nmodel = dict(neck=dict(type='FPN'))\n";

const TOML: &str = r#"_base_ = ["base.py"]
a = { type = "X", list = [1, 2.5, "three", [true]] }
date = 1979-05-27T07:32:00Z
"quoted key" = '''several
lines'''
[model.backbone]
_delete_ = true
depth = 0x1f
[[hooks]]
type = "H"
[[hooks]]
lr = -1e-4
"#;

const YAML: &str = r#"_base_: [base.py]
anchor: &a {type: X, list: [1, 2.5, "three", ~]}
again: *a
text: |
  several
  lines
model:
  backbone:
    _delete_: true
    depth: 18
hooks:
  - type: H
  - {lr: -1.0e-4, on: yes}
"#;

const JSON: &str = r#"{"_base_": ["base.py"], "a": {"type": "X", "list": [1, 2.5e3, "th\u0072ee\n", null, [true]]},
 "model": {"backbone": {"_delete_": true, "depth": 18}}, "hooks": [{"type": "H"}, {"lr": -1e-4}]}
"#;

#[test]
fn damaged_configs_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.py"), BASE).unwrap();
    for (name, text) in [("a.py", PY), ("a.toml", TOML), ("a.yaml", YAML), ("a.json", JSON)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Config::from_file(&path).unwrap_or_else(|e| panic!("{name} as it is: {e}"));
        let versions = cuts(text.as_bytes(), 3).map(<[u8]>::to_vec).chain(flips(text.as_bytes(), 300, 1));
        let mut refused = 0;
        for bytes in versions {
            std::fs::write(&path, &bytes).unwrap();
            if let Err(e) = Config::from_file(&path) {
                refused += 1;
                // Configs are the user's to mend: exit code 2, and which file.
                assert!(e.to_string().contains(dir.path().to_str().unwrap()), "{e}");
                assert!(e.is_usage(), "{e}: {}", String::from_utf8_lossy(&bytes));
            }
        }
        assert!(refused > 100, "{name}: {refused} refused");
    }
}

/// Reads each version of a checkpoint; how many were refused.
fn read_all<'a>(path: &Path, versions: impl Iterator<Item = std::borrow::Cow<'a, [u8]>>) -> usize {
    versions
        .filter(|bytes| {
            std::fs::write(path, bytes).unwrap();
            match checkpoint::load(path) {
                Ok(_) => false,
                Err(e) => {
                    assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
                    assert!(!e.is_usage(), "{e}");
                    true
                }
            }
        })
        .count()
}

#[test]
fn damaged_checkpoints_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checkpoint/testdata");
    let mut saved = Checkpoint::default();
    saved.meta.insert("CLASSES".into(), serde_json::json!(["a", "b"]));
    saved.state_dict.insert("w".into(), Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap());
    saved.state_dict.insert("n".into(), Tensor::new(7i64, &Device::Cpu).unwrap());
    for name in ["own.pth", "own.safetensors"] {
        checkpoint::save(dir.path().join(name), &saved).unwrap();
    }
    for name in ["legacy.pth", "module.pth", "zip.pth"] {
        std::fs::copy(testdata.join(name), dir.path().join(name)).unwrap();
    }
    for name in ["legacy.pth", "module.pth", "zip.pth", "own.pth", "own.safetensors"] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        checkpoint::load(&path).unwrap_or_else(|e| panic!("{name} as it is: {e}"));
        let step = if name == "own.safetensors" { 1 } else { 7 };
        let all = whole.len().div_ceil(step);
        let refused = read_all(&path, cuts(&whole, step).map(Into::into));
        assert_eq!(refused, all, "{name}: a file cut short was taken for whole");
        read_all(&path, flips(&whole, 400, 2).map(Into::into));
        // The first bytes decide what it is and where its parts are.
        let head = &whole[..whole.len().min(64)];
        let tail = &whole[head.len()..];
        read_all(&path, flips(head, 300, 3).map(|h| [&h, tail].concat().into()));
    }
}

fn picture() -> Image {
    let values = (0..13 * 17 * 3).map(|i| (i * 37 % 251) as u8).collect();
    Image::new(13, 17, 3, Pixels::U8(values)).unwrap()
}

#[test]
fn damaged_images_never_panic() {
    for extension in ["jpg", "png", "bmp", "tiff", "webp"] {
        let whole = imencode(&picture(), extension).unwrap();
        let read = |bytes: &[u8], backend| {
            let color = imfrombytes(bytes, ColorFlag::Color, ChannelOrder::Bgr, backend);
            let _ = imfrombytes(bytes, ColorFlag::Grayscale, ChannelOrder::Rgb, backend);
            let _ = imfrombytes(bytes, ColorFlag::Unchanged, ChannelOrder::Bgr, backend);
            color.is_ok()
        };
        for backend in [None, Some(ImageBackend::Pillow)] {
            assert!(read(&whole, backend), "{extension}");
            let taken = cuts(&whole, 3).filter(|bytes| read(bytes, backend)).count();
            // A JPEG that lacks its end marker alone, a PNG that lacks the chunk behind its pixels.
            assert!(taken <= 5, "{extension}: {taken} files that were cut short were taken for whole");
            for bytes in flips(&whole, 200, 4) {
                read(&bytes, backend);
            }
        }
    }
}
