//! The coders against mmdet.
//!
//! ```python
//! p, g = boxes(4, 21), boxes(4, 22)
//! x = torch.tensor([[0.1,-0.2,0.3,-0.4],[1.5,2.5,-3,5],[-4,0.5,0.25,-6],[0,0,0,0]]).requires_grad_()
//! go = torch.tensor([[1.,2,-3,4],[0.5,-1,2,1],[3,1,1,-2],[1,1,2,2]])
//! coder.encode(p, g); o = coder.decode(p, x, ...); (o * go).sum().backward(); o, x.grad
//! ```

use candle_core::{DType, Device, Tensor, Var};
use mmcv::config::Node;
use mmcv::registry::build;
use proptest::prelude::*;

use super::*;
use crate::core::testing::{boxes, close};

const CODE: [[f32; 4]; 4] =
    [[0.1, -0.2, 0.3, -0.4], [1.5, 2.5, -3.0, 5.0], [-4.0, 0.5, 0.25, -6.0], [0.0, 0.0, 0.0, 0.0]];
const GRAD: [[f32; 4]; 4] = [[1.0, 2.0, -3.0, 4.0], [0.5, -1.0, 2.0, 1.0], [3.0, 1.0, 1.0, -2.0], [1.0, 1.0, 2.0, 2.0]];

fn make(json: &str) -> Box<dyn BBoxCoder> {
    build(&BBOX_CODERS, &Node::from_json(json).unwrap(), ()).unwrap()
}

/// Decodes slices and a tensor and takes the gradient.
#[track_caller]
fn decodes(coder: &dyn BBoxCoder, codes: &[[f32; 4]], args: &CoderArgs, expected: &[f32], gradient: &[f32]) {
    let priors = boxes(4, 21);
    close(coder.decode_with(&priors, codes.as_flattened(), args).unwrap().as_flattened(), expected);
    let x = Var::from_slice(codes.as_flattened(), (4, 4), &Device::Cpu).unwrap();
    let decoded = coder.decode_tensor_with(&priors, &x, args).unwrap();
    close(&decoded.flatten_all().unwrap().to_vec1().unwrap(), expected);
    let weight = Tensor::from_slice(GRAD.as_flattened(), (4, 4), &Device::Cpu).unwrap();
    let grads = (decoded * weight).unwrap().sum_all().unwrap().backward().unwrap();
    close(&grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap(), gradient);
}

fn encodes(coder: &dyn BBoxCoder, args: &CoderArgs, expected: &[f32]) {
    close(coder.encode_with(&boxes(4, 21), &boxes(4, 22), args).unwrap().as_flattened(), expected);
}

const WITHIN: CoderArgs =
    CoderArgs { max_shape: Some((64, 48)), wh_ratio_clip: 0.016, strides: &[], max_dis: None, eps: 0.1 };
const NARROW: CoderArgs = CoderArgs { max_shape: None, wh_ratio_clip: 0.5, strides: &[], max_dis: None, eps: 0.1 };

#[test]
#[rustfmt::skip]
fn delta_xywh_is_mmdets() {
    let plain = [0.70610684, -1.3292683, 0.19997647, 1.1990829, 0.99019605, 0.444, -2.1400661, -0.7339692, 1.2755102, 0.25490198, 1.077993, -1.3168658, 1.1556604, -2.516854, 0.13235143, -1.1927996];
    let c = make(r#"{"type": "DeltaXYWHBBoxCoder"}"#);
    encodes(&*c, &WITHIN, &plain);
    decodes(&*c, &CODE, &WITHIN,
        &[37.296062, 47.88961, 48.0, 54.76039, 48.0, 0.0, 48.0, 64.0, 7.510344, 51.944, 23.239656, 52.556, 6.75, 50.5, 33.25, 64.0],
        &[32.75, 61.5, -22.10394, 6.8707805, 0.0, 0.0, 0.0, 0.0, 49.0, -38.25, -15.729312, 0.0, 79.5, 22.25, 13.25, -11.125]);
    decodes(&*c, &CODE, &NARROW,
        &[37.296062, 47.88961, 81.50394, 54.76039, 55.0625, 83.25, 61.4375, 145.75, 7.510344, 42.6875, 23.239656, 61.8125, 6.75, 50.5, 33.25, 72.75],
        &[-65.5, 61.5, -88.41576, 6.8707805, 31.875, 0.0, 0.0, 0.0, 49.0, -38.25, -15.729312, 0.0, 79.5, 66.75, 13.25, 11.125]);
    let c = make(r#"{"type": "DeltaXYWHBBoxCoder", "target_means": [0.1, 0.0, -0.1, 0.2], "target_stds": [0.1, 0.1, 0.2, 0.2]}"#);
    encodes(&*c, &WITHIN, &[6.061068, -13.292684, 1.4998823, 4.9954143, 8.90196, 4.44, -10.200331, -4.669846, 11.755101, 2.5490198, 5.889965, -7.584329, 10.556603, -25.168541, 1.1617571, -6.963998]);
    decodes(&*c, &CODE, &WITHIN,
        &[43.994576, 47.39158, 48.0, 58.948418, 39.14677, 0.0, 45.47823, 64.0, 48.0, 28.001804, 48.0, 42.073193, 10.660904, 48.036896, 34.639095, 64.0],
        &[3.275, 6.15, -3.1465855, 2.3113687, 3.1875, 0.0, 0.94971937, 0.0, 0.0, -3.825, 0.0, -4.221417, 7.9500003, 2.2250001, 2.3978193, -2.7176213]);
    decodes(&*c, &CODE, &NARROW,
        &[43.994576, 47.39158, 75.46043, 58.948418, 39.125, 12.9375, 45.5, 75.4375, 54.87372, 25.474998, 66.52628, 44.6, 10.660904, 48.036896, 34.639095, 75.213104],
        &[-6.55, 6.15, -12.586342, 2.3113687, 3.1875, 0.0, 0.0, 0.0, 4.9, -3.825, -2.3305123, 0.0, 7.9500003, 6.675, 2.3978193, 2.7176213]);
    let c = make(r#"{"type": "DeltaXYWHBBoxCoder", "add_ctr_clamp": true, "ctr_clamp": 8}"#);
    encodes(&*c, &WITHIN, &plain);
    decodes(&*c, &CODE, &WITHIN,
        &[37.296062, 47.88961, 48.0, 54.76039, 46.807606, 0.0, 47.442394, 64.0, 48.0, 41.077595, 48.0, 41.172405, 6.75, 50.5, 33.25, 64.0],
        &[32.75, 61.5, -22.10394, 6.8707805, 0.0, 0.0, 0.47608882, 0.0, 0.0, 0.0, 0.0, -0.14221841, 79.5, 22.25, 13.25, -11.125]);
    decodes(&*c, &CODE, &NARROW,
        &[37.296062, 47.88961, 81.50394, 54.76039, 46.807606, 13.125, 47.442394, 75.625, 48.510345, 41.077595, 64.239655, 41.172405, 6.75, 50.5, 33.25, 72.75],
        &[-65.5, 61.5, -88.41576, 6.8707805, 0.0, 0.0, 0.47608882, 0.0, 0.0, 0.0, -15.729312, -0.14221841, 79.5, 66.75, 13.25, 11.125]);
    let c = make(r#"{"type": "DeltaXYWHBBoxCoder", "clip_border": false}"#);
    assert_eq!(c.decode(&boxes(1, 21), &[0.0; 4], Some((8, 8))).unwrap(), boxes(1, 21));
}

#[test]
#[rustfmt::skip]
fn legacy_delta_xywh_is_mmdets() {
    let c = make(r#"{"type": "LegacyDeltaXYWHBBoxCoder", "target_means": [0.1, 0.0, -0.1, 0.2], "target_stds": [0.1, 0.1, 0.2, 0.2]}"#);
    encodes(&*c, &WITHIN, &[5.8518515, -12.111111, 1.4729582, 4.6748996, 8.181818, 4.3023252, -8.02374, -4.504647, 10.792452, 2.4840765, 5.6346016, -7.247917, 10.136363, -24.086021, 1.1391668, -6.4930615]);
    decodes(&*c, &CODE, &WITHIN,
        &[43.62418, 46.80783, 47.0, 59.492172, 39.148476, 0.0, 45.976524, 63.0, 47.0, 27.867867, 47.0, 42.307137, 10.308485, 47.426193, 35.191513, 63.0],
        &[3.375, 6.75, -3.2426643, 2.5368679, 3.4375, 0.0, 1.0242071, 0.0, 0.0, -3.925, 0.0, -4.331781, 8.25, 2.325, 2.488303, -2.8397615]);
}

#[test]
#[rustfmt::skip]
fn tblr_is_mmdets() {
    let c = make(r#"{"type": "TBLRBBoxCoder"}"#);
    encodes(&*c, &WITHIN, &[0.7469512, 0.08231708, -0.023854962, 0.32919848, -0.051, 0.171, -0.23284313, 0.2622549, -0.030228758, 0.097222224, 0.048469387, 0.68622446, 0.6671348, -0.59129214, -0.14622642, 0.43160376]);
    decodes(&*c, &CODE, &WITHIN,
        &[16.824997, 49.275, 3.7249985, 45.175, 48.0, 0.0, 48.0, 64.0, 48.0, 64.0, 0.0, 64.0, 20.0, 61.625, 20.0, 61.625],
        &[-82.0, 164.0, -131.0, -393.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -89.0, 178.0, -106.0, 212.0]);
    let c = make(r#"{"type": "TBLRBBoxCoder", "normalizer": [0.1, 0.2, 0.3, 0.4]}"#);
    encodes(&*c, &WITHIN, &[29.878048, 1.6463416, -0.31806615, 3.2919848, -2.04, 3.42, -3.104575, 2.6225488, -1.2091503, 1.9444444, 0.6462585, 6.8622446, 26.685392, -11.825843, -1.9496856, 4.3160377]);
    decodes(&*c, &CODE, &WITHIN,
        &[48.0, 53.2725, 48.0, 52.965, 48.0, 31.6875, 48.0, 52.0, 48.0, 48.425, 34.975, 36.95, 20.0, 61.625, 20.0, 61.625],
        &[-2.05, 8.2, 0.0, 0.0, 3.125, 6.25, 0.0, 0.0, -3.825, -15.3, 0.0, 4.9, -2.2250001, 8.900001, -7.9500003, 21.2]);
}

// strides torch.tensor([8., 16, 8, 32])
#[test]
#[rustfmt::skip]
fn yolo_is_mmdets() {
    let (c, args) = (make(r#"{"type": "YOLOBBoxCoder"}"#), CoderArgs { strides: &[8.0, 16.0, 8.0, 32.0], ..CoderArgs::default() });
    encodes(&*c, &args, &[0.999999, 1e-06, 0.19997647, 1.1990829, 0.999999, 0.999999, -2.1400661, -0.7339692, 0.999999, 0.999999, 1.077993, -1.3168658, 0.999999, 1e-06, 0.13235143, -1.1927996]);
    decodes(&*c, &CODE, &args,
        &[30.82106, 44.33961, 75.02894, 51.210392, 54.807606, -2250.5806, 55.442394, 2387.3306, 20.510344, 33.077595, 36.239655, 33.172405, -9.25, 34.5, 17.25, 56.75],
        &[-16.0, 48.0, -88.41576, 6.8707805, 40.0, 0.0, 0.47608882, 4637.911, 32.0, -8.0, -15.729312, -0.14221841, 96.0, 96.0, 13.25, 11.125]);
    assert!(c.decode(&boxes(4, 21), &[0.0; 16], None).is_err(), "no strides");
}

// coder.encode(p[:, :2], g, 30.), coder.decode(p[:, :2], y, (64, 48)) with y = 10 * x; the gradient is by y
#[test]
#[rustfmt::skip]
fn distance_point_is_mmdets() {
    let c = make(r#"{"type": "DistancePointBBoxCoder"}"#);
    encodes(&*c, &CoderArgs { max_dis: Some(30.0), ..CoderArgs::default() }, &[0.0, 25.5, 29.9, 8.5, 0.0, 0.0, 19.75, 29.9, 0.0, 0.0, 29.9, 29.9, 0.0, 29.9, 29.9, 0.0]);
    decodes(&*c, &CODE.map(|row| row.map(|v| v * 10.0)), &WITHIN,
        &[38.75, 50.25, 42.75, 44.25, 17.75, 0.0, 2.75, 64.0, 48.0, 9.0, 48.0, 0.0, 6.75, 50.5, 6.75, 50.5],
        &[-1.0, -2.0, -3.0, 4.0, -0.5, 0.0, 2.0, 0.0, 0.0, -1.0, 0.0, 0.0, -1.0, -1.0, 2.0, 2.0]);
}

#[test]
fn a_prior_may_have_a_code_for_each_class_or_there_may_be_no_priors() {
    let c = make(r#"{"type": "DeltaXYWHBBoxCoder"}"#);
    let priors = boxes(2, 21);
    let decoded = c.decode(&priors, CODE.as_flattened(), None).unwrap();
    let each = |i: usize| c.decode(&priors[i / 2..=i / 2], &CODE[i], None).unwrap()[0];
    assert_eq!(decoded, (0..4).map(each).collect::<Vec<_>>());
    let x = Tensor::from_slice(CODE.as_flattened(), (2, 8), &Device::Cpu).unwrap();
    let t = c.decode_tensor(&priors, &x, None).unwrap();
    assert_eq!(t.dims(), [2, 8]);
    assert_eq!(t.flatten_all().unwrap().to_vec1::<f32>().unwrap(), decoded.as_flattened());
    assert!(c.decode(&[], &[], None).unwrap().is_empty());
    assert_eq!(
        c.decode_tensor(&[], &Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap(), None).unwrap().dims(),
        [0, 4]
    );
    assert!(c.decode(&priors, &[0.0; 12], None).is_err());
    assert!(c.decode_tensor(&priors, &Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap(), None).is_err());
    let pseudo = make(r#"{"type": "PseudoBBoxCoder"}"#);
    assert_eq!(pseudo.decode(&priors, CODE.as_flattened(), None).unwrap(), CODE);
    assert_eq!(pseudo.encode(&priors, &CODE[..2]).unwrap(), CODE[..2]);
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(seed in 0u64..10_000) {
        let (priors, gts) = (boxes(5, seed), boxes(5, seed + 1));
        for (cfg, tolerance) in [
            (r#"{"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]}"#, 2e-3),
            (r#"{"type": "TBLRBBoxCoder"}"#, 1e-3),
            (r#"{"type": "DistancePointBBoxCoder"}"#, 1e-4),
        ] {
            let c = make(cfg);
            let args = CoderArgs { wh_ratio_clip: 1e-9, ..CoderArgs::default() };
            let codes = c.encode_with(&priors, &gts, &args).unwrap();
            let back = c.decode_with(&priors, codes.as_flattened(), &args).unwrap();
            for (a, b) in back.as_flattened().iter().zip(gts.as_flattened()) {
                prop_assert!((a - b).abs() < tolerance, "{} {} {}", cfg, a, b);
            }
        }
    }
}
