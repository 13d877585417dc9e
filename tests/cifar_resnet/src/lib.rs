//! A crate as someone else would write it: the ResNets that the original paper has for CIFAR, which mmcls lacks (its
//! `ResNet_CIFAR` is the wide one of four stages), and a command that gives weights published for them their names here.

pub mod import;
mod option_a_resnet;

pub use option_a_resnet::{OptionAResNet, OptionAResNetConfig};
