//! Files of torch 1.13.1 (made by `testdata/make.py`), public weights, round trips, and files that are none.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use serde_json::json;

use super::*;
use crate::nn::{Init, VarBuilder};
use crate::optim::GroupState;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checkpoint/testdata").join(name)
}

/// The folder of public weights, or `None` (said aloud) where it is absent.
fn weights() -> Option<PathBuf> {
    let data = std::env::var_os("MMRS_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let folder = data.join("weights");
    if !folder.is_dir() {
        eprintln!("skipped: {} is absent", folder.display());
        return None;
    }
    Some(folder)
}

fn sum(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().sum(0).unwrap().to_scalar().unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn both_of_pytorchs_formats_read_alike() {
    for name in ["zip.pth", "legacy.pth"] {
        let c = load(fixture(name)).unwrap();
        let names: Vec<_> = c.state_dict.keys().map(String::as_str).collect();
        assert_eq!(names[..4], ["f32", "turned", "row", "f16"]);
        assert_eq!(c.state_dict.len(), 16, "{name}");
        let get = |n: &str| (c.state_dict[n].dtype(), c.state_dict[n].dims().to_vec(), flat(&c.state_dict[n]));
        assert_eq!(get("f32"), (DType::F32, vec![3, 4], (0..12).map(f64::from).collect()));
        let turned = [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.];
        assert_eq!(get("turned"), (DType::F32, vec![4, 3], turned.to_vec()));
        assert_eq!(get("row").2, [4., 5., 6., 7.]);
        assert_eq!(get("f16"), (DType::F16, vec![2], vec![1.5, -2.0]));
        assert_eq!(get("bf16"), (DType::BF16, vec![1], vec![3.0]));
        assert_eq!(get("f64"), (DType::F64, vec![1], vec![0.1]));
        assert_eq!(get("i64"), (DType::I64, vec![], vec![7.0]));
        assert_eq!(get("i32"), (DType::I32, vec![1], vec![-3.0]));
        assert_eq!(get("i16").2, [-4.0]);
        assert_eq!(get("i8").2, [-5.0]);
        assert_eq!(get("u8").2, [200.0]);
        assert_eq!(get("bool").2, [1.0, 0.0]);
        assert_eq!(get("expanded"), (DType::F32, vec![2, 3], vec![9.0; 6]));
        assert_eq!(get("empty").1, [0, 4]);
        assert_eq!(get("parameter").2, [1.0, 1.0]);
        assert_eq!(get("array"), (DType::F32, vec![2, 2], vec![1., 2., 3., 4.]));
        assert_eq!(c.meta["epoch"], 12);
        assert_eq!(c.meta["CLASSES"], json!(["cat", "dog"]));
        assert_eq!(c.meta["mAP"], 0.25);
        assert_eq!(c.meta["palette"], json!([1, 2]));
        assert_eq!(c.meta["nan"], "NaN");
        assert_eq!(c.meta["kind"], "<torch.nn.modules.activation.ReLU>");
        assert!(c.optimizer.is_none());
    }
}

#[test]
fn a_pickled_module_gives_its_weights() {
    let c = load(fixture("module.pth")).unwrap();
    let names: Vec<_> = c.state_dict.keys().map(String::as_str).collect();
    let own = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"];
    assert_eq!(names, own);
}

/// `torch.load(f)` gives these numbers of entries and, summed in float64, these values.
#[test]
fn public_weights_open() {
    let Some(folder) = weights() else { return };
    for (file, len, name, total) in [
        ("mobilenet_v2/mobilenet_v2-b0353104.pth", 314, "features.1.conv.0.0.weight", 1.99875668543973),
        ("resnet_cifar10/resnet20-12fca82f.th", 97, "module.conv1.weight", 1.3100982000032673),
        ("resnet_cifar10/resnet56-4bfd9763.th", 277, "module.conv1.weight", f64::NAN),
        ("yunet/yunet_n.pth", 208, "backbone.model0.conv1.weight", -1.0936843291274272),
        ("yunet/yunet_s.pth", 181, "backbone.model0.conv1.weight", f64::NAN),
        ("stgcn_hagrid/hagrid.pth", 418, "backbone.gcn.0.gcn.A", -6.171748694014241),
        ("srcnn/SRCNN-915.pt", 6, "recon.weight", 5.450270132577145),
        ("srcnn/SRCNN-935.pt", 6, "recon.weight", f64::NAN),
        ("srcnn/SRCNN-955.pt", 6, "recon.weight", f64::NAN),
    ] {
        let c = load(folder.join(file)).unwrap();
        assert_eq!(c.state_dict.len(), len, "{file}");
        let found = sum(&c.state_dict[name]);
        assert!(total.is_nan() || (found - total).abs() < 1e-9, "{file}: {found}");
    }
    assert_eq!(load(folder.join("yunet/yunet_n.pth")).unwrap().meta["CLASSES"], json!(["FG"]));
    for entry in walkdir::WalkDir::new(&folder).into_iter().filter_map(std::result::Result::ok) {
        match entry.path().extension().and_then(|e| e.to_str()) {
            Some("safetensors") => assert!(load(entry.path()).unwrap().state_dict.len() > 50),
            Some("onnx") => assert!(load(entry.path()).unwrap_err().to_string().contains("an ONNX model")),
            _ => {}
        }
    }
}

fn whole() -> Checkpoint {
    let cpu = &Device::Cpu;
    let t = |v: &[f32]| Tensor::new(v, cpu).unwrap();
    let meta = json!({"epoch": 3, "iter": 70000, "config": "model = dict()\n", "CLASSES": ["a", "\u{e4}"], "lr": 0.02,
        "none": null, "seed": -5, "huge": 1i64 << 40, "deep": {"x": [1.5, true]}});
    let mut c = Checkpoint { meta: meta.as_object().unwrap().clone(), ..Checkpoint::default() };
    c.state_dict.insert("conv.weight".into(), Tensor::arange(0f32, 24.0, cpu).unwrap().reshape((2, 3, 4)).unwrap());
    c.state_dict.insert("bn.num_batches_tracked".into(), Tensor::new(9i64, cpu).unwrap());
    c.state_dict.insert("half".into(), t(&[1.0, 2.0, 3.0]).to_dtype(DType::F16).unwrap());
    c.state_dict.insert("turned".into(), Tensor::new(&[[1f64, 2.0], [3.0, 4.0]], cpu).unwrap().t().unwrap());
    c.state_dict.insert("mask".into(), Tensor::new(&[1u8, 0], cpu).unwrap());
    let group =
        GroupState { lr: 0.1, initial_lr: 0.2, weight_decay: 1e-4, momentum: Some(0.9), betas: None, params: 1 };
    c.optimizer = Some(OptimState {
        groups: vec![group],
        steps: IndexMap::from([("conv.weight".to_owned(), 11)]),
        tensors: IndexMap::from([("momentum_buffer/conv.weight".to_owned(), t(&[0.5, -0.5]))]),
    });
    c.extra = json!({"rng": "3f", "sampler": {"at": 7}}).as_object().unwrap().clone();
    c.extra_tensors.insert("order".into(), Tensor::new(&[2i64, 0, 1], cpu).unwrap());
    c
}

#[test]
fn both_formats_keep_everything() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.safetensors", "a.pth"] {
        let path = dir.path().join(name);
        save(&path, &whole()).unwrap();
        let (got, want) = (load(&path).unwrap(), whole());
        assert_eq!(got.meta["deep"], want.meta["deep"]);
        assert!(want.meta.iter().all(|(k, v)| got.meta.get(k) == Some(v)), "{:?}", got.meta);
        assert_eq!(got.extra, want.extra);
        let same = |a: &IndexMap<String, Tensor>, b: &IndexMap<String, Tensor>| {
            assert_eq!(a.len(), b.len());
            for (name, t) in b {
                assert_eq!((a[name].dtype(), a[name].dims(), flat(&a[name])), (t.dtype(), t.dims(), flat(t)), "{name}");
            }
        };
        same(&got.state_dict, &want.state_dict);
        same(&got.extra_tensors, &want.extra_tensors);
        let (o, w) = (got.optimizer.unwrap(), want.optimizer.unwrap());
        assert_eq!((o.groups, o.steps), (w.groups, w.steps));
        same(&o.tensors, &w.tensors);
        // Equal checkpoints are equal files.
        let again = dir.path().join(format!("again-{name}"));
        save(&again, &whole()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(again).unwrap());
    }
    let e = save(dir.path().join("a.txt"), &whole()).unwrap_err();
    assert!(e.to_string().contains(".safetensors or .pth"), "{e}");
}

#[test]
fn a_folder_that_cant_be_written_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    for name in ["a.pth", "a.safetensors"] {
        let e = save(dir.path().join("file").join(name), &whole()).unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
        let mut bad = whole();
        bad.state_dict
            .insert("f8".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap().to_dtype(DType::F8E4M3).unwrap());
        assert!(save(dir.path().join(name), &bad).unwrap_err().to_string().contains("f8: "));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn files_that_are_none_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |name: &str, bytes: &[u8], part: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let e = load(&path).unwrap_err().to_string();
        assert!(e.contains(name) && e.contains(part), "{e}");
    };
    fails("empty.pth", b"", "the file is empty");
    fails("text.pth", b"hello there, no weights", "none of the known formats");
    fails("page.pth", b"<html>404</html>", "a web page");
    fails("p.pkl", b"\x80\x04\x95\x03\0\0\0\0\0\0\0]\x94.", "none that PyTorch wrote");
    fails("h.safetensors", b"\xff\xff\xff\xff\xff\0\0\0{", "a header of 1099511627775 bytes");
    fails("j.safetensors", b"\x09\0\0\0\0\0\0\0{not json", "its header is none of safetensors");
    let huge = br#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    fails("s.safetensors", &[&(huge.len() as u64).to_le_bytes()[..], huge].concat(), "truncated?");
    for file in ["zip.pth", "legacy.pth", "module.pth"] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        for cut in (30..bytes.len() - 1).step_by(97) {
            fails("cut.pth", &bytes[..cut], "");
        }
    }
    assert!(load(dir.path().join("absent.pth")).unwrap_err().to_string().contains("absent.pth"));
}

/// A legacy file whose main pickle is `body`.
fn legacy(body: &[u8], rest: &[u8]) -> Vec<u8> {
    [torch_file::LEGACY_MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", body, rest].concat()
}

/// `{'w': tensor}` with the storage, offset, size and stride given as pickle opcodes.
fn one_tensor(numel: &[u8], offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    let head = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpu";
    [head, numel, b"NtQ", offset, size, stride, b"\x89}tRs."].concat()
}

#[test]
fn claims_beyond_the_file_allocate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let fails = |bytes: &[u8], part: &str| {
        std::fs::write(&path, bytes).unwrap();
        let e = load(&path).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    };
    let keys = b"\x80\x02]X\x01\0\0\0ka.";
    let storage = |count: u64, data: &[u8]| [&keys[..], &count.to_le_bytes(), data].concat();
    let four = one_tensor(b"K\x04", b"K\0", b"K\x04\x85", b"K\x01\x85");
    std::fs::write(&path, legacy(&four, &storage(4, &[0; 16]))).unwrap();
    assert_eq!(load(&path).unwrap().state_dict["w"].dims(), [4]);
    fails(&legacy(&four, &storage(4, &[0; 12])), "it ends within storage k");
    fails(&legacy(&four, &storage(u64::MAX / 2, &[0; 16])), "it ends within storage k");
    fails(&legacy(&four, b"\x80\x02]."), "storage k is missing");
    // 2^40 elements by size, by stride, by offset, and expanded from one.
    let big = b"\x8a\x06\0\0\0\0\0\x01";
    let [sized, strided] = [big, big].map(|b| [&b[..], b"\x85"].concat());
    let one = b"K\x01\x85";
    let beyond = "beyond its storage";
    fails(&legacy(&one_tensor(b"K\x04", b"K\0", &sized, one), &storage(4, &[0; 16])), beyond);
    fails(&legacy(&one_tensor(b"K\x04", b"K\0", b"K\x02\x85", &strided), &storage(4, &[0; 16])), beyond);
    fails(&legacy(&one_tensor(b"K\x04", big, one, one), &storage(4, &[0; 16])), beyond);
    fails(&legacy(&one_tensor(b"K\x04", b"K\0", &sized, b"K\0\x85"), &storage(4, &[0; 16])), beyond);
    fails(&legacy(&one_tensor(big, b"K\0", one, one), &storage(4, &[0; 16])), "16 bytes, 4398046511104 expected");
    let most = [&b"\x8a\x08"[..], &i64::MAX.to_le_bytes()].concat();
    fails(&legacy(&one_tensor(&most, b"K\0", one, one), &storage(4, &[0; 16])), "");
}

#[test]
fn recursive_and_growing_pickles_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let run = |body: &[u8]| {
        std::fs::write(&path, legacy(body, b"\x80\x02].")).unwrap();
        load(&path)
    };
    // {'state_dict': {}, 'meta': {'a': <itself>}}
    let c = run(b"\x80\x02}(X\x0a\0\0\0state_dict}X\x04\0\0\0meta}q\0X\x01\0\0\0ah\0su.").unwrap();
    assert!(serde_json::to_string(&c.meta).unwrap().contains("too deep"));
    // 40 lists, each with the one before twice.
    let mut body = b"\x80\x02}(X\x0a\0\0\0state_dict}X\x04\0\0\0meta]q\0".to_vec();
    for i in 0..40u8 {
        body.extend_from_slice(&[b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
        // The list before stays below on the stack: take it off.
        body.extend_from_slice(&[b'0', b'0', b'h', i + 1]);
    }
    body.extend_from_slice(b"u.");
    assert!(serde_json::to_string(&run(&body).unwrap().meta).unwrap().len() < 20_000_000);
    // {'model': <a module whose module is itself>}
    let module = b"\x80\x02ctorch.nn\nM\n)\x81q\0}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}X\x01\0\0\0mh\0sub.";
    assert!(run(module).unwrap_err().to_string().contains("without end"));
    // [[]] and {'epoch': 1}
    assert!(run(b"\x80\x02]]a.").unwrap_err().to_string().contains("no weights in it"));
    let e = run(b"\x80\x02}X\x05\0\0\0epochK\x01s.").unwrap_err().to_string();
    assert!(e.contains("its keys: epoch"), "{e}");
}

fn model() -> crate::nn::ParamStore {
    let vb = VarBuilder::scratch();
    for (name, n) in [("backbone.conv1.weight", 3), ("backbone.bn1.weight", 2), ("head.fc.weight", 4)] {
        vb.param(name, n, Init::Const(0.0)).unwrap();
    }
    vb.buffer("backbone.bn1.num_batches_tracked", (), Init::Const(5.0)).unwrap();
    vb.store().clone()
}

fn weights_of(entries: &[(&str, usize)]) -> IndexMap<String, Tensor> {
    entries.iter().map(|(n, len)| ((*n).to_owned(), Tensor::ones(*len, DType::F16, &Device::Cpu).unwrap())).collect()
}

#[test]
fn the_report_says_what_fits() {
    let store = model();
    let from = weights_of(&[
        ("module.backbone.conv1.weight", 3),
        ("module.backbone.bn1.weigth", 2),
        ("module.head.fc.weight", 5),
        ("module.head.fc.bias", 5),
    ]);
    let r = load_state_dict(&store, &from, &LoadRules::default()).unwrap();
    assert_eq!(r.loaded, ["backbone.conv1.weight"]);
    assert_eq!(r.missing, ["backbone.bn1.weight"]);
    assert_eq!(r.unexpected, ["backbone.bn1.weigth", "head.fc.bias"]);
    assert_eq!(store.get("backbone.conv1.weight").unwrap().value().to_vec1::<f32>().unwrap(), [1.0; 3]);
    let text = r.to_string();
    for part in [
        "1 of the model's 3 tensors loaded",
        "head.fc.weight: [5] in the checkpoint, [4] in the model",
        "backbone.bn1: weight (nearest: backbone.bn1.weigth)",
        "not in the model (2):",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!r.is_complete());
    assert!(r.require_filled("x.pth").unwrap_err().to_string().contains("x.pth: it doesn't fit the model"));
    assert_eq!(state_dict(&store).unwrap()["backbone.bn1.num_batches_tracked"].dtype(), DType::I64);
}

#[test]
fn names_are_rewritten_and_prefixes_chosen() {
    let from = weights_of(&[("net.backbone.conv1.weight", 3), ("net.backbone.norm1.weight", 2), ("ema.x", 1)]);
    let rules = LoadRules {
        revise_keys: vec![(r"\.norm(".replace('(', ""), ".bn".into())],
        from: "net.backbone".into(),
        into: "backbone".into(),
    };
    assert!(load_state_dict(&model(), &from, &rules).unwrap().is_complete());
    let none = LoadRules { from: "nte".into(), ..LoadRules::default() };
    assert!(
        load_state_dict(&model(), &from, &none).unwrap_err().to_string().contains("'nte.' is not in the checkpoint")
    );
    let bad = LoadRules { revise_keys: vec![("^(a|b)".into(), String::new())], ..LoadRules::default() };
    assert!(
        load_state_dict(&model(), &from, &bad).unwrap_err().to_string().contains("'(' in '^(a|b)' is not supported")
    );
    // Weights of a backbone alone, into the whole.
    let r = load_state_dict(&model(), &weights_of(&[("conv1.weight", 3), ("bn1.weight", 2)]), &LoadRules::default());
    assert!(r.unwrap().to_string().contains("2 names fit with 'backbone.' in front"));
    let r = load_state_dict(&model(), &weights_of(&[("net.head.fc.weight", 4)]), &LoadRules::default());
    assert!(r.unwrap().to_string().contains("1 names fit without their 'net.'"));
}

#[test]
fn publishing_keeps_weights_and_meta_and_names_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let whole_path = dir.path().join("epoch_3.pth");
    save(&whole_path, &whole()).unwrap();
    for extension in ["pth", "safetensors"] {
        let path = publish(&whole_path, dir.path().join("out").join(format!("net.{extension}"))).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, format!("net-{}.{extension}", &sha256_of(&path).unwrap()[..8]));
        let c = load(&path).unwrap();
        assert!(c.optimizer.is_none() && c.extra.is_empty() && c.extra_tensors.is_empty());
        assert_eq!(c.state_dict.len(), 5);
        assert_eq!(c.meta["epoch"], 3);
    }
    assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 2);
}

#[test]
fn pretrained_entries_of_init_cfg_load() {
    let dir = tempfile::tempdir().unwrap();
    let c = Checkpoint {
        state_dict: weights_of(&[("conv1.weight", 3), ("bn1.weight", 2), ("fc.weight", 9)]),
        ..Checkpoint::default()
    };
    save(dir.path().join("resnet50.pth"), &c).unwrap();
    let sources = Sources { folders: vec![dir.path().to_owned()], cache: dir.path().join("cache"), download: false };
    let cfg = crate::config::Node::from_json(
        r#"[{"type": "Constant", "val": 1}, {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}]"#,
    );
    let reports = load_pretrained(&model(), "backbone", &cfg.unwrap(), &sources).unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].loaded.len(), 2);
    assert_eq!(reports[0].unexpected, ["backbone.fc.weight"]);
    let cfg = crate::config::Node::from_json(r#"{"type": "Pretrained", "checkpont": "x"}"#).unwrap();
    let e = load_pretrained(&model(), "", &cfg, &sources).unwrap_err().to_string();
    assert!(e.contains("did you mean 'checkpoint'"), "{e}");
}

#[test]
fn shared_parameters_stand_under_each_of_their_names() {
    let vb = VarBuilder::scratch();
    let first = vb.param("convs.0.weight", 2, Init::Const(0.0)).unwrap();
    vb.alias("convs.1.weight", &first);
    let own = state_dict(vb.store()).unwrap();
    assert_eq!(own.keys().collect::<Vec<_>>(), ["convs.0.weight", "convs.1.weight"]);
    let from = weights_of(&[("convs.0.weight", 2), ("convs.1.weight", 2)]);
    assert!(load_state_dict(vb.store(), &from, &LoadRules::default()).unwrap().is_complete());
}

#[test]
fn a_model_starts_from_its_init_cfgs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.pth");
    let c = Checkpoint { state_dict: weights_of(&[("conv1.weight", 3)]), ..Checkpoint::default() };
    save(&path, &c).unwrap();
    let vb = VarBuilder::scratch();
    let cfg = json!([{"type": "Constant", "val": 4, "layer": "Conv2d"}, {"type": "Pretrained", "checkpoint": path}]);
    vb.pp("backbone").init_cfg(&crate::config::Node::from(cfg));
    for name in ["conv1.weight", "conv2.weight"] {
        vb.pp("backbone").layer("Conv2d").param(name, 3, Init::Const(0.0)).unwrap();
    }
    let reports = init_model(vb.store(), &Sources::default()).unwrap();
    assert_eq!(reports[0].0, "backbone");
    assert_eq!(reports[0].1.missing, ["backbone.conv2.weight"]);
    let value = |n: &str| flat(vb.store().get(n).unwrap().value());
    assert_eq!((value("backbone.conv1.weight"), value("backbone.conv2.weight")), (vec![1.0; 3], vec![4.0; 3]));
}
