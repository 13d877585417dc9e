//! The blood cells' config as mmdet has it, from file to batch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmcv::Rng;
use mmcv::config::Config;
use mmcv::data::Dataset;
use mmdet::datasets::{DatasetDefaults, DetDataset, build_dataset, collate, replace_data_root};

/// A folder of the shared files, if it is there.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

#[test]
fn the_blood_cells_config_gives_batches() {
    let config = shared("golden/train/bccd/retinanet_r18_fpn_bccd.py");
    let (Some(config), Some(data)) = (config, shared("data/bccd")) else { return };
    let mut cfg = Config::from_file(config).unwrap().root;
    replace_data_root(&mut cfg, &format!("{}/", data.display())).unwrap();
    let built = |key: &str, test_mode| -> Arc<dyn DetDataset> {
        build_dataset(cfg.at(key).unwrap(), DatasetDefaults { test_mode }).unwrap().into()
    };
    let (train, val, test) = (built("data.train", false), built("data.val", true), built("data.test", true));
    assert_eq!((Dataset::len(&train), Dataset::len(&val), Dataset::len(&test)), (615, 87, 72));
    assert_eq!(train.classes(), ["WBC", "RBC", "Platelets"]);

    let mut rng = Rng::new(0);
    let samples: Vec<_> = (0..3).map(|i| Dataset::get(&train, i, &mut rng).unwrap()).collect();
    let batch = collate(samples).unwrap();
    assert_eq!(batch.img.dims(), [3, 3, 256, 320]);
    assert!(batch.gt_bboxes.iter().zip(&batch.gt_labels).all(|(b, l)| !b.is_empty() && b.len() == l.len()));

    // build_dataset(cfg.data.test, dict(test_mode=True))[0]: shape, sum and two values of the image, its meta
    let samples = test.test_samples(0).unwrap();
    let [sample] = &samples[..] else { panic!("one version") };
    let v = sample.img.to_vec3::<f32>().unwrap();
    assert_eq!(sample.img.dims(), [3, 256, 320]);
    let sum: f64 = v.iter().flatten().flatten().map(|v| f64::from(*v)).sum();
    assert!((sum / 273_531.563_465_588_7 - 1.0).abs() < 1e-6, "{sum}");
    assert_eq!((v[0][100][100], v[2][239][319]), (1.238_547_8, 1.036_514_2));
    let meta = &sample.meta;
    assert_eq!(meta.ori_filename, "JPEGImages/BloodImage_00007.jpg");
    assert_eq!((meta.ori_shape, meta.img_shape, meta.pad_shape), ([480, 640, 3], [240, 320, 3], [256, 320, 3]));
    assert_eq!((meta.scale_factor, meta.flip, meta.flip_direction), ([0.5; 4], false, None));
}
