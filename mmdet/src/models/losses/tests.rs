//! Losses against mmdet, on these:
//!
//! ```python
//! g = lcg(90)  # of core/testing.rs
//! def t(shape, n=401, off=-200, by=50.):
//!     return torch.tensor([(next(g) % n + off) / by for _ in range(math.prod(shape))]).reshape(shape)
//! X = t((4, 3)); P = t((4, 3), 98, 1, 100.); T = t((4, 3), 98, 1, 100.); W = torch.tensor([1., .5, 2., 1.])
//! Q = torch.where(t((4, 3), 2, 0, 1.) > 0, T, torch.zeros(4, 3)); H = torch.where(t((4, 3), 3, 0, 1.) > 1, torch.ones(4, 3), T)
//! Y = torch.tensor([0, 3, 1, 2]); S = torch.tensor([.7, 0., .2, .95]); B = boxes(4, 91); C = boxes(4, 92)
//! D = t((4, 6)); L = torch.tensor([0., 1.25, 4.9, 3.]); V = torch.tensor([1., 1, 0, 1])
//! Z = t((5, 5)); Y5 = torch.tensor([0, 3, 1, 0, 2]); tl, br = t((2, 2, 3, 4), by=200.), t((2, 2, 3, 4), by=200.)
//! ```
//!
//! Each constant is the loss and the gradient of its sum.

use candle_core::{Device, Tensor, Var};
use mmcv::config::Node;
use mmcv::registry::build;

use super::utils::testing::{close, grad, tensor, var};
use super::*;
use crate::core::testing::{Lcg, boxes};
use crate::registry::LOSSES;

type Expected = (&'static [f32], &'static [f32]);

struct Scene {
    x: Vec<f32>,
    p: Vec<f32>,
    t: Vec<f32>,
    q: Vec<f32>,
    h: Vec<f32>,
    d: Vec<f32>,
    z: Vec<f32>,
    tl: Vec<f32>,
    br: Vec<f32>,
}

fn scene() -> Scene {
    let mut g = Lcg(90);
    let mut draw = |count: usize, n: u64, offset: f32, by: f32| {
        (0..count).map(|_| ((g.draw() % n) as f32 + offset) / by).collect::<Vec<f32>>()
    };
    let (x, p, t) = (draw(12, 401, -200.0, 50.0), draw(12, 98, 1.0, 100.0), draw(12, 98, 1.0, 100.0));
    let q = draw(12, 2, 0.0, 1.0).iter().zip(&t).map(|(on, t)| if *on > 0.0 { *t } else { 0.0 }).collect();
    let h = draw(12, 3, 0.0, 1.0).iter().zip(&t).map(|(on, t)| if *on > 1.0 { 1.0 } else { *t }).collect();
    let (d, z) = (draw(24, 401, -200.0, 50.0), draw(25, 401, -200.0, 50.0));
    let (tl, br) = (draw(48, 401, -200.0, 200.0), draw(48, 401, -200.0, 200.0));
    Scene { x, p, t, q, h, d, z, tl, br }
}

const W: [f32; 4] = [1.0, 0.5, 2.0, 1.0];

fn make(json: &str) -> Box<dyn Loss> {
    build(&LOSSES, &Node::from_json(json).unwrap(), ()).unwrap()
}

/// Loss and gradient by `x`, with weight and average factor.
#[track_caller]
fn check(loss: &dyn Loss, x: &Var, target: &Tensor, weight: Option<&Tensor>, factor: Option<f64>, expected: Expected) {
    let value = loss.forward(x, target, weight, factor, None).unwrap();
    close(&value, expected.0);
    close(&grad(&value, x), expected.1);
}

#[test]
fn element_wise_losses_are_mmdets() {
    let s = scene();
    let (x, p) = (var(&s.x, &[4, 3]), var(&s.p, &[4, 3]));
    let (t, q, h, w) = (tensor(&s.t, &[4, 3]), tensor(&s.q, &[4, 3]), tensor(&s.h, &[4, 3]), tensor(&W, &[4, 1]));
    let run = |json, x: &Var, target: &Tensor, weighted: bool, expected| {
        check(&*make(json), x, target, weighted.then_some(&w), weighted.then_some(3.0), expected);
    };
    run(r#"{"type": "BalancedL1Loss"}"#, &x, &t, true, BALANCED);
    let cfg = r#"{"type": "BalancedL1Loss", "alpha": 0.3, "gamma": 1.2, "beta": 0.5, "reduction": "none", "loss_weight": 2.0}"#;
    run(cfg, &x, &t, false, BALANCED_NONE);
    run(r#"{"type": "VarifocalLoss"}"#, &x, &q, true, VARIFOCAL);
    let cfg = r#"{"type": "VarifocalLoss", "alpha": 0.5, "gamma": 1.5, "iou_weighted": false, "reduction": "none"}"#;
    run(cfg, &x, &q, false, VARIFOCAL_NONE);
    check(&*make(r#"{"type": "GaussianFocalLoss", "loss_weight": 2.0}"#), &p, &h, None, Some(3.0), GAUSSIAN);
    let cfg = r#"{"type": "GaussianFocalLoss", "alpha": 1.5, "gamma": 2.0, "reduction": "none"}"#;
    run(cfg, &p, &h, false, GAUSSIAN_NONE);
    let (b, c) = (var(boxes(4, 91).as_flattened(), &[4, 4]), tensor(boxes(4, 92).as_flattened(), &[4, 4]));
    run(r#"{"type": "BoundedIoULoss"}"#, &b, &c, true, BOUNDED);
    let cfg = r#"{"type": "BoundedIoULoss", "beta": 0.6, "eps": 0.01, "reduction": "none"}"#;
    run(cfg, &b, &c, false, BOUNDED_NONE);
}

// QualityFocalLoss()(X, (Y, S), W, avg_factor=3.), QualityFocalLoss(beta=1.5, reduction='none', activated=True)(P, (Y, S))
// DistributionFocalLoss(loss_weight=0.25)(D, L, W, avg_factor=4.), DistributionFocalLoss(reduction='none')(D, L)
#[test]
fn generalized_focal_losses_are_mmdets() {
    let (s, w) = (scene(), tensor(&W, &[4]));
    let (x, p, d) = (var(&s.x, &[4, 3]), var(&s.p, &[4, 3]), var(&s.d, &[4, 6]));
    let target = tensor(&[0.0, 0.7, 3.0, 0.0, 1.0, 0.2, 2.0, 0.95], &[4, 2]);
    check(&*make(r#"{"type": "QualityFocalLoss"}"#), &x, &target, Some(&w), Some(3.0), QUALITY);
    let cfg = r#"{"type": "QualityFocalLoss", "beta": 1.5, "reduction": "none", "activated": true}"#;
    check(&*make(cfg), &p, &target, None, None, QUALITY_NONE);
    let l = tensor(&[0.0, 1.25, 4.9, 3.0], &[4]);
    let cfg = r#"{"type": "DistributionFocalLoss", "loss_weight": 0.25}"#;
    check(&*make(cfg), &d, &l, Some(&w), Some(4.0), DISTRIBUTION);
    let cfg = r#"{"type": "DistributionFocalLoss", "reduction": "none"}"#;
    check(&*make(cfg), &d, &l, None, None, DISTRIBUTION_NONE);
    for outside in [5.0, -1.0, f32::NAN] {
        let l = tensor(&[0.0, outside, 1.0, 1.0], &[4]);
        assert!(make(cfg).forward(&d, &l, None, None, None).is_err(), "{outside}");
    }
}

// GHMC(bins=5)(X, Y, V); m = GHMC(bins=4, momentum=0.75, loss_weight=2.); twice m(X, (H > 0.5).float(), torch.ones(4, 3))
// GHMR()(X, T, V[:, None].expand(4, 3)); m = GHMR(mu=0.5, bins=4, momentum=0.5, reduction='none'); twice m(X, T, torch.ones(4, 3))
#[test]
fn gradient_harmonized_losses_are_mmdets() {
    let s = scene();
    let (x, t, ones) = (var(&s.x, &[4, 3]), tensor(&s.t, &[4, 3]), tensor(&[1.0; 12], &[4, 3]));
    let (y, v) = (Tensor::new(&[0u32, 3, 1, 2], &Device::Cpu).unwrap(), tensor(&[1.0, 1.0, 0.0, 1.0], &[4]));
    check(&*make(r#"{"type": "GHMC", "bins": 5}"#), &x, &y, Some(&v), None, GHMC_LABELS);
    let on: Vec<f32> = s.h.iter().map(|h| if *h > 0.5 { 1.0 } else { 0.0 }).collect();
    let m = make(r#"{"type": "GHMC", "bins": 4, "momentum": 0.75, "loss_weight": 2.0}"#);
    for expected in [GHMC_FIRST, GHMC_SECOND] {
        check(&*m, &x, &tensor(&on, &[4, 3]), Some(&ones), None, expected);
    }
    let wide = v.reshape((4, 1)).unwrap().broadcast_as((4, 3)).unwrap().contiguous().unwrap();
    check(&*make(r#"{"type": "GHMR"}"#), &x, &t, Some(&wide), None, GHMR_PLAIN);
    let m = make(r#"{"type": "GHMR", "mu": 0.5, "bins": 4, "momentum": 0.5, "reduction": "none"}"#);
    for expected in [GHMR_FIRST, GHMR_SECOND] {
        check(&*m, &x, &t, Some(&ones), None, expected);
    }
}

// m = SeesawLoss(num_classes=3); m.cum_samples[:3] = torch.tensor([100., 3., 20.])
// m(Z, Y5, torch.tensor([1., 1., .5, 2., 1.]), avg_factor=3.), also with p=0., q=1., loss_weight=2.; m.get_activation(Z)
#[test]
fn seesaw_is_mmdets() {
    let s = scene();
    let (z, w) = (var(&s.z, &[5, 5]), tensor(&[1.0, 1.0, 0.5, 2.0, 1.0], &[5]));
    let y = Tensor::new(&[0u32, 3, 1, 0, 2], &Device::Cpu).unwrap();
    for (json, classes, objectness) in [
        (r#"{"num_classes": 3}"#, SEESAW_CLASSES, SEESAW_OBJECTNESS),
        (r#"{"num_classes": 3, "p": 0.0, "q": 1.0, "loss_weight": 2.0}"#, SEESAW_PQ_CLASSES, SEESAW_PQ_OBJECTNESS),
    ] {
        let m = SeesawLoss::new(&serde_json::from_str(json).unwrap()).unwrap();
        m.set_cum_samples(&[100.0, 3.0, 20.0, 0.0]).unwrap();
        let (o, c) = m.losses(&z, &y, Some(&w), Some(3.0), None).unwrap();
        assert_eq!(m.cum_samples(), [102.0, 4.0, 21.0, 1.0]);
        for (loss, expected) in [(c, classes), (o, objectness)] {
            close(&loss, expected.0);
            close(&grad(&loss, &z), expected.1);
        }
        close(&m.activation(&z).unwrap(), SEESAW_ACTIVATION);
        let background = Tensor::new(&[3u32; 5], &Device::Cpu).unwrap();
        let (_, c) = m.losses(&z, &background, None, None, None).unwrap();
        close(&c, &[0.0]);
        assert!(m.set_cum_samples(&[1.0]).is_err());
        assert!(m.losses(&z, &Tensor::new(&[4u32; 5], &Device::Cpu).unwrap(), None, None, None).is_err());
    }
}

// match = [[[[0,1],[2,3]], [[1,1],[2,2]], [[0,1],[1,3]]], [[[2,0],[2,1]]]]
// pull, push = AssociativeEmbeddingLoss(0.5, 0.3)(tl, br, match); (pull * 2 + push).backward(); pull, push, tl.grad, br.grad
#[test]
fn associative_embedding_is_mmdets() {
    let s = scene();
    let (tl, br) = (var(&s.tl, &[2, 2, 3, 4]), var(&s.br, &[2, 2, 3, 4]));
    let loss = make(r#"{"type": "AssociativeEmbeddingLoss", "pull_weight": 0.5, "push_weight": 0.3}"#);
    #[rustfmt::skip]
    let rows = tensor(&[0., 0., 1., 2., 3., 0., 1., 1., 2., 2., 0., 0., 1., 1., 3., 1., 2., 0., 2., 1.], &[4, 5]);
    let both = loss.forward(&tl, &br, Some(&rows), None, None).unwrap();
    close(&both, &EMBEDDING.0);
    let total = (&both * tensor(&[2.0, 1.0], &[2])).unwrap();
    let grads = total.sum_all().unwrap().backward().unwrap();
    close(grads.get(&tl).unwrap(), EMBEDDING.1);
    close(grads.get(&br).unwrap(), EMBEDDING.2);
    let none = tensor(&[], &[0, 5]);
    close(&loss.forward(&tl, &br, Some(&none), None, None).unwrap(), &[0.0, 0.0]);
    let outside = tensor(&[0.0, 3.0, 0.0, 0.0, 0.0], &[1, 5]);
    assert!(loss.forward(&tl, &br, Some(&outside), None, None).is_err());
}

#[test]
fn nothing_gives_zero_and_wrong_shapes_or_options_an_error() {
    for name in ["BalancedL1Loss", "VarifocalLoss", "GaussianFocalLoss", "BoundedIoULoss"] {
        let loss = make(&format!(r#"{{"type": "{name}"}}"#));
        let none = tensor(&[], &[0, 4]);
        close(&loss.forward(&none, &none, None, Some(1.0), None).unwrap(), &[0.0]);
        let (a, b) = (tensor(&[1.0; 8], &[2, 4]), tensor(&[1.0; 4], &[1, 4]));
        assert!(loss.forward(&a, &b, None, None, None).is_err(), "{name}");
    }
    for json in [
        r#"{"type": "BalancedL1Loss", "beta": 0}"#,
        r#"{"type": "VarifocalLoss", "use_sigmoid": false}"#,
        r#"{"type": "QualityFocalLoss", "use_sigmoid": false}"#,
        r#"{"type": "GHMC", "use_sigmoid": false}"#,
        r#"{"type": "GHMR", "bins": 0}"#,
        r#"{"type": "SeesawLoss", "use_sigmoid": true}"#,
    ] {
        assert!(build(&LOSSES, &Node::from_json(json).unwrap(), ()).is_err(), "{json}");
    }
}

#[rustfmt::skip]
const BALANCED: Expected = (&[14.182742], &[0.5, -0.5, 0.5, 0.23901252, -0.25, -0.25, -1.0, -1.0, -0.15090309, 0.5, -0.5, 0.5]);
#[rustfmt::skip]
const BALANCED_NONE: Expected = (&[2.8167777, 9.320778, 5.840778, 1.8327777, 8.408778, 8.048779, 2.7927778, 7.7607784, 0.024006722, 6.1767783, 9.608778, 8.864778], &[2.4, -2.4, 2.4, 2.4, -2.4, -2.4, -2.4, -2.4, -1.0056354, 2.4, -2.4, 2.4]);
#[rustfmt::skip]
const VARIFOCAL: Expected = (&[3.659151], &[0.24035618, 5.591292e-05, 0.075755134, 0.11434725, -0.086979166, -0.011203485, 0.036498908, -0.23072125, -0.13581133, 0.28213686, -0.3002192, 0.0063902847]);
#[rustfmt::skip]
const VARIFOCAL_NONE: Expected = (&[0.6288844, 0.00018789161, 1.6180477, 0.5637917, 2.2006888, 0.9311442, 0.029710721, 1.750196, 0.4041539, 1.351893, 3.0881724, 3.7652907], &[0.47428256, 0.0004538087, 0.4734696, 0.45516258, -0.6958333, -0.24007466, 0.056091823, -0.55819654, -0.21905053, 0.54396784, -0.92851293, 0.9585427]);
#[rustfmt::skip]
const GAUSSIAN: Expected = (&[2.9121192], &[13.741867, 0.0009763086, 0.13872138, -2.5902205, 0.035373896, 0.033848364, 0.2218195, -1.0337205, -2.4563327, 0.010713212, -0.0739697, 4.944983]);
#[rustfmt::skip]
const GAUSSIAN_NONE: Expected = (&[2.309031, 0.017627513, 0.16440624, 0.8166473, 0.13064381, 0.014945272, 0.21809621, 0.32570404, 0.777706, 0.0027209527, 0.01515521, 1.4278263], &[33.046238, 0.086817354, 0.81744456, -3.988088, 0.8181837, 0.17173107, 1.0748278, -1.794708, -3.8021502, 0.06333879, -0.21942456, 7.537216]);
#[rustfmt::skip]
const QUALITY: Expected = (&[2.4250975], &[0.00815715, 7.455056e-05, 0.37544414, 0.152463, 7.800202e-05, 3.1391908e-05, 0.04866521, -0.008253365, 0.48134327, 0.3761825, 7.0405345e-05, 9.272937e-05]);
#[rustfmt::skip]
const QUALITY_NONE: Expected = (&[1.8270388, 2.1632833, 0.79969, 1.2854425], &[3.0593505, 5.1371217, 3.0230942, 0.43747917, 13.0909395, 0.33127135, 3.3081803, 0.604741, 0.46652263, 0.09896684, 6.4544544, -0.14303131]);
#[rustfmt::skip]
const DISTRIBUTION: Expected = (&[1.2049687], &[-0.047203302, 0.0025796068, 0.021065503, 0.022819992, 0.00059907825, 0.00013912763, 0.008440327, -0.023407511, -0.007725945, 7.0864975e-05, 0.02204357, 0.0005786954, 0.00023438863, 0.026290962, 0.0032194979, 0.09268673, -0.01208965, -0.11034192, 0.000101812075, 0.0002880483, 4.3953336e-05, -0.06235696, 0.058872435, 0.003050706]);
#[rustfmt::skip]
const DISTRIBUTION_NONE: Expected = (&[1.4075297, 6.6839986, 4.2250886, 6.0797935], &[-0.75525284, 0.04127371, 0.33704805, 0.36511987, 0.009585252, 0.002226042, 0.27009046, -0.74904037, -0.24723025, 0.0022676792, 0.70539427, 0.018518252, 0.001875109, 0.2103277, 0.025755983, 0.7414938, -0.0967172, -0.8827354, 0.0016289932, 0.0046087727, 0.0007032534, -0.99771136, 0.94195896, 0.048811294]);
#[rustfmt::skip]
const BOUNDED: Expected = (&[3.3872364], &[0.014980601, -0.005117923, -0.014980601, 0.005117923, -0.0036521552, 0.005249179, 0.0036521552, -0.005249179, 0.13046926, 0.11592187, 0.16916347, -0.11592187, -0.005336005, -0.0052041747, 0.005336005, 0.0052041747]);
#[rustfmt::skip]
const BOUNDED_NONE: Expected = (&[0.7, 0.7, 0.0826427, 0.19047873, 0.7, 0.7, 0.16235833, 0.44811082, 0.055909738, 0.7, 0.25916052, 0.39618057, 0.7, 0.7, 0.01382889, 0.14059775], &[0.023578513, -0.012227785, -0.023578513, 0.012227785, -0.016109075, 0.031486146, 0.016109075, -0.031486146, 0.06991212, 0.1736111, 0.12379472, -0.1736111, -0.005342551, -0.010683034, 0.005342551, 0.010683034]);
#[rustfmt::skip]
const GHMC_LABELS: Expected = (&[1.55237], &[-0.010134754, 0.0023494319, 0.1589116, 0.26525325, 0.0030092613, 0.0022180742, 0.0, -0.0, 0.0, 0.15780815, 0.00230484, -0.001192073]);
#[rustfmt::skip]
const GHMC_FIRST: Expected = (&[9.15578], &[0.27252483, -0.31923676, 0.3178232, -0.27232036, -0.31527779, 0.05323378, 0.4020464, -0.3127322, -0.3854007, 0.3156163, -0.31950432, 0.3261809]);
#[rustfmt::skip]
const GHMC_SECOND: Expected = (&[5.231875], &[0.15572847, -0.18242101, 0.18161327, -0.15561165, -0.18015875, 0.030419305, 0.22974083, -0.17870411, -0.22022898, 0.1803522, -0.1825739, 0.1863891]);
#[rustfmt::skip]
const GHMR_PLAIN: Expected = (&[2.906756], &[0.111097544, -0.11110971, 0.11110767, 0.11108176, -0.11110941, -0.11110926, -0.0, -0.0, -0.0, 0.11110802, -0.11110979, 0.11110958]);
#[rustfmt::skip]
const GHMR_FIRST: Expected = (&[0.9536626, 3.8413157, 2.2786307, 0.54921174, 3.4303217, 3.268299, 0.9435065, 3.1387835, 0.010790348, 2.4286284, 3.9712389, 3.6357312], &[1.0161353, -1.0824432, 1.0703678, 0.94583344, -1.0805936, -1.0796938, -1.0150737, -1.078887, -0.7187082, 1.0724051, -1.0829251, 1.0815865]);
#[rustfmt::skip]
const GHMR_SECOND: Expected = (&[0.6357751, 2.560877, 1.5190872, 0.36614117, 2.286881, 2.178866, 0.6290043, 2.0925221, 0.0071935654, 1.6190857, 2.6474926, 2.4238207], &[0.67742354, -0.72162884, 0.7135785, 0.6305556, -0.72039574, -0.7197959, -0.67671573, -0.719258, -0.47913882, 0.7149367, -0.72195, 0.7210577]);
#[rustfmt::skip]
const SEESAW_CLASSES: Expected = (&[4.1332593], &[-0.32940763, 0.3291793, 0.00022836414, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.3700798e-05, -0.16666664, 0.16661295, 0.0, 0.0, -0.0020674071, 0.00055335293, 0.0015141042, 0.0, 0.0, 0.014806452, 0.0027414323, -0.017547905, 0.0, 0.0]);
#[rustfmt::skip]
const SEESAW_OBJECTNESS: Expected = (&[0.7526784], &[0.0, 0.0, 0.0, -0.06488719, 0.0648872, 0.0, 0.0, 0.0, 0.00052078365, -0.0005207658, 0.0, 0.0, 0.0, -0.0024142861, 0.0024142878, 0.0, 0.0, 0.0, -0.16900405, 0.16900402, 0.0, 0.0, 0.0, -0.25498262, 0.2549826]);
#[rustfmt::skip]
const SEESAW_PQ_CLASSES: Expected = (&[6.9579473], &[-0.6605491, 0.65928906, 0.001260064, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.001559617, -0.33332905, 0.33176947, 0.0, 0.0, -0.025086641, 0.0145333065, 0.010553345, 0.0, 0.0, 0.028953742, 0.020200338, -0.049154043, 0.0, 0.0]);
#[rustfmt::skip]
const SEESAW_PQ_OBJECTNESS: Expected = (&[1.5053568], &[0.0, 0.0, 0.0, -0.12977438, 0.1297744, 0.0, 0.0, 0.0, 0.0010415673, -0.0010415316, 0.0, 0.0, 0.0, -0.0048285723, 0.0048285755, 0.0, 0.0, 0.0, -0.3380081, 0.33800805, 0.0, 0.0, 0.0, -0.50996524, 0.5099652]);
#[rustfmt::skip]
const SEESAW_ACTIVATION: &[f32] = &[0.06950236, 0.72152036, 0.014315756, 0.1946616, 0.00023222431, 0.00028936932, 0.0010407573, 0.9984377, 0.063163094, 0.0011115106, 0.9212396, 0.014485727, 0.7324487, 0.00813677, 0.0059085065, 0.25350603, 0.010208461, 0.007122201, 0.21772152, 0.7649478];
#[rustfmt::skip]
const EMBEDDING: ([f32; 2], &[f32], &[f32]) = ([0.118897915, 0.33015], &[0.0, 0.027499996, 0.0, 0.0, 0.0, 0.016666671, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.10416667, 0.0, 0.0, 0.0, -0.11750001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.365, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.13250001, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.021666668, 0.0, 0.0, 0.06333333, -0.0058333343, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.15750001, -0.23416668, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.06499998, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1675, 0.0, 0.0]);
