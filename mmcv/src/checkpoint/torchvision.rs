//! torchvision's weights under the names of mmcls's classifiers (`torchvision_to_mmcls.py` and its like).

use std::collections::{BTreeSet, HashMap, HashSet};

use candle_core::Tensor;
use indexmap::IndexMap;

/// A family of torchvision's networks whose weights have a place in mmcls's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorchvisionNet {
    /// `alexnet`.
    AlexNet,
    /// `mobilenet_v2`.
    MobileNetV2,
    /// `mobilenet_v3_small` and `mobilenet_v3_large`.
    MobileNetV3,
    /// `regnet_x_*`; some of mmcls's are of other widths.
    RegNetX,
    /// `resnet*`, `resnext*` and `wide_resnet*`.
    ResNet,
    /// `shufflenet_v2_*`.
    ShuffleNetV2,
    /// `vgg*`, with and without batch norms.
    Vgg,
}

impl TorchvisionNet {
    /// The family that these names are of; `None` where they are of none.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let names: HashSet<&str> = names.into_iter().collect();
        let has = |wanted: &[&str]| wanted.iter().all(|name| names.contains(name));
        // In each of them what no other family has.
        let families: [(Self, &[&str]); 7] = [
            (Self::ResNet, &["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.weight"]),
            (Self::MobileNetV2, &["features.0.0.weight", "features.1.conv.0.0.weight"]),
            (Self::MobileNetV3, &["features.0.0.weight", "features.1.block.0.0.weight"]),
            (Self::RegNetX, &["stem.0.weight", "trunk_output.block1.block1-0.f.a.0.weight"]),
            (Self::ShuffleNetV2, &["conv1.0.weight", "stage2.0.branch1.0.weight"]),
            (Self::Vgg, &["features.0.weight", "classifier.0.weight", "classifier.3.weight", "classifier.6.weight"]),
            (Self::AlexNet, &["features.10.weight", "classifier.1.weight", "classifier.4.weight"]),
        ];
        families.into_iter().find(|(_, wanted)| has(wanted)).map(|(family, _)| family)
    }

    /// mmcls's name of each of `names`; `None` for one that mmcls's network has no place for.
    pub fn rename<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, Option<String>)> {
        let names: Vec<&str> = names.into_iter().collect();
        let modules: BTreeSet<&str> = names.iter().filter_map(|n| n.rsplit_once('.')).map(|(m, _)| m).collect();
        let renamed: HashMap<&str, String> = match self {
            Self::Vgg => vgg(&modules),
            _ => modules.iter().filter_map(|m| Some((*m, self.module(m, &modules)?))).collect(),
        };
        let one = |name: &'a str| {
            let (module, leaf) = name.rsplit_once('.')?;
            Some(format!("{}.{leaf}", renamed.get(module)?))
        };
        names.into_iter().map(|name| (name, one(name))).collect()
    }

    /// mmcls's name of one module.
    fn module(self, module: &str, all: &BTreeSet<&str>) -> Option<String> {
        let parts: Vec<&str> = module.split('.').collect();
        match self {
            Self::ResNet => resnet(module, parts[0]),
            Self::MobileNetV2 => mobilenet_v2(&parts),
            Self::MobileNetV3 => mobilenet_v3(&parts, all),
            Self::RegNetX => regnet(&parts),
            Self::ShuffleNetV2 => shufflenet_v2(&parts),
            Self::AlexNet | Self::Vgg => {
                matches!(parts[..], ["features" | "classifier", _]).then(|| format!("backbone.{module}"))
            }
        }
    }
}

/// What [`from_torchvision`] found.
pub struct Renamed {
    /// The weights under mmcls's names, in the order of the file.
    pub state_dict: IndexMap<String, Tensor>,
    /// The family.
    pub net: TorchvisionNet,
}

/// A state dict of torchvision's under mmcls's names. What is wrong with it is said where it is of no family known here, or
/// has a tensor that mmcls's network has no place for.
pub fn from_torchvision(state_dict: &IndexMap<String, Tensor>) -> Result<Renamed, String> {
    let names = || state_dict.keys().map(String::as_str);
    let Some(net) = TorchvisionNet::of(names()) else {
        return Err(
            "its names are of none of torchvision's AlexNet, MobileNetV2, MobileNetV3, RegNetX, ResNet, ShuffleNetV2 and VGG"
                .to_owned(),
        );
    };
    let mut renamed = IndexMap::with_capacity(state_dict.len());
    for ((name, new), tensor) in net.rename(names()).into_iter().zip(state_dict.values()) {
        let Some(new) = new else { return Err(format!("mmcls's {net:?} has no place for '{name}'")) };
        renamed.insert(new, tensor.clone());
    }
    Ok(Renamed { state_dict: renamed, net })
}

/// The convolution and the norm that torchvision numbers 0 and 1.
fn conv_bn(part: &str) -> Option<&'static str> {
    match part {
        "0" => Some("conv"),
        "1" => Some("bn"),
        _ => None,
    }
}

fn resnet(module: &str, first: &str) -> Option<String> {
    match first {
        "fc" => Some("head.fc".into()),
        "conv1" | "bn1" | "layer1" | "layer2" | "layer3" | "layer4" => Some(format!("backbone.{module}")),
        _ => None,
    }
}

/// Blocks of each of MobileNetV2's stages.
const MOBILENET_V2: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];

fn mobilenet_v2(parts: &[&str]) -> Option<String> {
    let (index, rest) = match parts {
        ["classifier", "1"] => return Some("head.fc".into()),
        ["features", index, rest @ ..] => (index.parse::<usize>().ok()?, rest),
        _ => return None,
    };
    let blocks: usize = MOBILENET_V2.iter().sum();
    if let [part] = rest {
        let unit = match index {
            0 => "conv1",
            i if i == blocks + 1 => "conv2",
            _ => return None,
        };
        return Some(format!("backbone.{unit}.{}", conv_bn(part)?));
    }
    let (mut stage, mut block) = (0, index.checked_sub(1)?);
    while block >= *MOBILENET_V2.get(stage)? {
        block -= MOBILENET_V2[stage];
        stage += 1;
    }
    // The first block has no convolution that widens.
    let last = if index == 1 { 1 } else { 2 };
    let (unit, layer) = match rest {
        ["conv", unit, part] => (unit.parse().ok()?, conv_bn(part)?),
        ["conv", part] => (last, if part.parse::<usize>().ok()?.checked_sub(last)? == 0 { "conv" } else { "bn" }),
        _ => return None,
    };
    Some(format!("backbone.layer{}.{block}.conv.{unit}.{layer}", stage + 1))
}

fn mobilenet_v3(parts: &[&str], all: &BTreeSet<&str>) -> Option<String> {
    match parts {
        ["classifier", "0"] => Some("head.layers.0.fc".into()),
        ["classifier", "3"] => Some("head.layers.1.fc".into()),
        ["features", layer, part] => Some(format!("backbone.layer{layer}.{}", conv_bn(part)?)),
        ["features", layer, "block", _, "fc1"] => Some(format!("backbone.layer{layer}.se.conv1.conv")),
        ["features", layer, "block", _, "fc2"] => Some(format!("backbone.layer{layer}.se.conv2.conv")),
        ["features", layer, "block", unit, part] => {
            let prefix = format!("features.{layer}.block.");
            let units: BTreeSet<usize> =
                all.iter().filter_map(|m| m.strip_prefix(&prefix)?.strip_suffix(".0")?.parse().ok()).collect();
            let at = units.iter().position(|u| u.to_string() == **unit)?;
            let kinds = ["expand_conv", "depthwise_conv", "linear_conv"];
            let kind = kinds.get((at + 3).checked_sub(units.len())?)?;
            Some(format!("backbone.layer{layer}.{kind}.{}", conv_bn(part)?))
        }
        _ => None,
    }
}

fn regnet(parts: &[&str]) -> Option<String> {
    match parts {
        ["fc"] => Some("head.fc".into()),
        ["stem", part] => Some(format!("backbone.{}1", conv_bn(part)?)),
        ["trunk_output", _, block, rest @ ..] => {
            let (stage, index) = block.strip_prefix("block")?.split_once('-')?;
            let layer = match rest {
                ["proj", part @ ("0" | "1")] => format!("downsample.{part}"),
                ["f", unit, part] => {
                    let number = ["a", "b", "c"].iter().position(|u| u == unit)? + 1;
                    format!("{}{number}", conv_bn(part)?)
                }
                _ => return None,
            };
            Some(format!("backbone.layer{stage}.{index}.{layer}"))
        }
        _ => None,
    }
}

fn shufflenet_v2(parts: &[&str]) -> Option<String> {
    match parts {
        ["fc"] => Some("head.fc".into()),
        ["conv1", part] => Some(format!("backbone.conv1.{}", conv_bn(part)?)),
        ["conv5", part] => Some(format!("backbone.layers.3.{}", conv_bn(part)?)),
        [stage, block, branch, part] => {
            let stage = stage.strip_prefix("stage")?.parse::<usize>().ok()?.checked_sub(2)?;
            // The third module of the second branch is an activation.
            let unit = match (*branch, *part) {
                ("branch1" | "branch2", "0") => "0.conv",
                ("branch1" | "branch2", "1") => "0.bn",
                ("branch1", "2") | ("branch2", "3") => "1.conv",
                ("branch1", "3") | ("branch2", "4") => "1.bn",
                ("branch2", "5") => "2.conv",
                ("branch2", "6") => "2.bn",
                _ => return None,
            };
            Some(format!("backbone.layers.{stage}.{block}.{branch}.{unit}"))
        }
        _ => None,
    }
}

/// torchvision counts convolutions, norms, activations and pools; mmcls counts a convolution with what follows it as one.
fn vgg<'a>(modules: &BTreeSet<&'a str>) -> HashMap<&'a str, String> {
    let index = |m: &str| m.strip_prefix("features.")?.parse::<usize>().ok();
    let mut features: Vec<(usize, &str)> = modules.iter().filter_map(|m| Some((index(m)?, *m))).collect();
    features.sort_unstable();
    let bn = features.get(1).is_some_and(|(i, _)| *i == 1);
    let per = if bn { 2 } else { 1 };
    let mut renamed = HashMap::new();
    let (mut at, mut before) = (0, 0);
    for unit in features.chunks(per) {
        let here = unit[0].0;
        if here > 0 {
            // One more than convolution, norm and activation: a pool is between them.
            at += 1 + usize::from(here - before > per + 1);
        }
        before = here;
        for ((_, module), layer) in unit.iter().zip(["conv", "bn"]) {
            renamed.insert(*module, format!("backbone.features.{at}.{layer}"));
        }
    }
    let classifier = modules.iter().filter(|m| m.starts_with("classifier."));
    renamed.extend(classifier.map(|m| (*m, format!("backbone.{m}"))));
    renamed
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Lines `network module module`, torchvision's and mmcls's, of weights of equal shapes: for each network
    /// `[n.rsplit('.', 1)[0] for n in torchvision.models.NETWORK().state_dict()]`, and the names of
    /// `build_classifier(Config.fromfile(CONFIG).model).state_dict()`, put side by side in their order.
    const NAMES: &str = include_str!("testdata/torchvision_names.txt");

    fn of(network: &str) -> Vec<(String, String)> {
        let lines = NAMES.lines().map(|l| l.split(' ').collect::<Vec<_>>());
        let own = lines.filter(|l| l[0] == network);
        own.map(|l| (format!("{}.weight", l[1]), format!("{}.weight", l[2]))).collect()
    }

    #[test]
    fn names_become_those_of_mmcls() {
        let networks = [
            ("vgg11", TorchvisionNet::Vgg, 11),
            ("vgg16_bn", TorchvisionNet::Vgg, 29),
            ("mobilenet_v2", TorchvisionNet::MobileNetV2, 105),
            ("shufflenet_v2_x1_0", TorchvisionNet::ShuffleNetV2, 113),
            ("mobilenet_v3_small", TorchvisionNet::MobileNetV3, 88),
            ("regnet_x_400mf", TorchvisionNet::RegNetX, 143),
        ];
        for (network, net, count) in networks {
            let names = of(network);
            assert_eq!(names.len(), count, "{network}");
            let theirs = || names.iter().map(|(name, _)| name.as_str());
            assert_eq!(TorchvisionNet::of(theirs()), Some(net), "{network}");
            for ((name, new), (_, wanted)) in net.rename(theirs()).into_iter().zip(&names) {
                assert_eq!(new.as_deref(), Some(wanted.as_str()), "{network}: {name}");
            }
        }
    }

    #[test]
    fn residual_networks_and_alexnet_keep_their_names() {
        let names = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.weight", "fc.bias"];
        let net = TorchvisionNet::of(names).unwrap();
        assert_eq!(net, TorchvisionNet::ResNet);
        let new: Vec<_> = net.rename(names).into_iter().map(|(_, new)| new.unwrap()).collect();
        assert_eq!(new[3..], ["backbone.layer4.0.bn1.weight", "head.fc.bias"]);
        let names = ["features.0.weight", "features.10.weight", "classifier.1.weight", "classifier.4.weight"];
        let net = TorchvisionNet::of(names).unwrap();
        assert_eq!(net, TorchvisionNet::AlexNet);
        assert_eq!(net.rename(names)[2].1.as_deref(), Some("backbone.classifier.1.weight"));
    }

    #[test]
    fn what_has_no_place_is_named() {
        let dict = |names: &[&str]| -> IndexMap<String, Tensor> {
            let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            names.iter().map(|n| ((*n).to_owned(), zero.clone())).collect()
        };
        let e = from_torchvision(&dict(&["conv1.weight", "linear.weight"])).err().unwrap();
        assert!(e.contains("of none of torchvision's"), "{e}");
        // regnet_y_400mf has squeeze and excitation.
        let y = [
            "stem.0.weight",
            "trunk_output.block1.block1-0.f.a.0.weight",
            "trunk_output.block1.block1-0.f.se.fc1.weight",
        ];
        let e = from_torchvision(&dict(&y)).err().unwrap();
        assert!(e.contains("no place for 'trunk_output.block1.block1-0.f.se.fc1.weight'"), "{e}");
        let found = from_torchvision(&dict(&y[..2])).unwrap();
        assert_eq!(
            found.state_dict.keys().collect::<Vec<_>>(),
            ["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"]
        );
    }
}
