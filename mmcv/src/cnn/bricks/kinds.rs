//! The kinds of layers that a whole network is made of.

use super::conv::ConvSpec;
use super::conv_module::{ConvModule, ConvModuleConfig};
use crate::config::Node;
use crate::nn::VarBuilder;

/// `conv_cfg`, `norm_cfg` and `act_cfg` of a network's config.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    /// Kind of convolution; none: `Conv2d`.
    pub conv: Option<Node>,
    /// Kind of norm; none: no norm.
    pub norm: Option<Node>,
    /// Kind of activation; none: no activation.
    pub act: Option<Node>,
}

impl Kinds {
    /// From a config's fields, in which null is none.
    pub fn new(conv: Option<&Node>, norm: Option<&Node>, act: Option<&Node>) -> Self {
        let given = |node: Option<&Node>| node.filter(|n| !n.is_null()).cloned();
        Self { conv: given(conv), norm: given(norm), act: given(act) }
    }

    /// A convolution with the norm and the activation.
    pub fn unit(&self, spec: ConvSpec, vb: VarBuilder) -> crate::Result<ConvModule> {
        self.with_act(spec, self.act.as_ref(), vb)
    }

    /// A convolution with the norm alone.
    pub fn linear(&self, spec: ConvSpec, vb: VarBuilder) -> crate::Result<ConvModule> {
        self.with_act(spec, None, vb)
    }

    /// A convolution with the norm and this activation.
    pub fn with_act(&self, spec: ConvSpec, act: Option<&Node>, vb: VarBuilder) -> crate::Result<ConvModule> {
        let cfg = ConvModuleConfig::new(spec).conv(self.conv.as_ref()).norm(self.norm.as_ref()).act(act);
        ConvModule::new(cfg, vb)
    }
}
