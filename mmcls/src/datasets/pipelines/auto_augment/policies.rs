//! One of several lists of steps for each image; mmcls's `AutoAugment`.

use mmcv::config::Node;
use mmcv::registry::find;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::datasets::pipelines::{PIPELINES, Pipeline, Results, Transform};

/// `type = "AutoAugment"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoAugmentConfig {
    /// Lists of steps, of which each image goes through one.
    pub policies: Vec<Vec<Node>>,
    /// Values of fields that steps have and don't set; default `pad_val` 128.
    #[serde(default = "hparams")]
    pub hparams: Node,
}

pub(super) fn hparams() -> Node {
    Node::from_json(r#"{"pad_val": 128}"#).unwrap_or_default()
}

/// `policy` with those of `hparams` that its step knows and that it doesn't set.
pub(super) fn merged(policy: &Node, hparams: &Node) -> Result<Node> {
    let Some(values) = hparams.as_dict() else {
        return Err(hparams.error(format!("found {}, expected a dict", hparams.kind())).under("hparams"));
    };
    let schema = (find(&PIPELINES, policy)?.schema)();
    let fields = schema.get("properties").and_then(Value::as_object);
    let mut policy = policy.clone();
    for (key, value) in values {
        let unset = policy.get(key).is_none_or(Node::is_null);
        if unset && fields.is_some_and(|f| f.contains_key(key)) {
            policy.set(key, value.clone());
        }
    }
    Ok(policy)
}

/// Sends each image through one of the policies, drawn evenly.
pub struct AutoAugment(Vec<Pipeline>);

impl AutoAugment {
    /// An error without policies, or for one that is empty.
    pub fn new(cfg: &AutoAugmentConfig) -> Result<Self> {
        if cfg.policies.is_empty() {
            return Err(Error::config("is empty, expected lists of steps").under("policies"));
        }
        let one = |steps: &Vec<Node>| -> Result<Pipeline> {
            if steps.is_empty() {
                return Err(Error::config("is empty, expected steps"));
            }
            let steps: Vec<Node> = steps
                .iter()
                .enumerate()
                .map(|(i, step)| merged(step, &cfg.hparams).map_err(|e| e.under(&i.to_string())))
                .collect::<Result<_>>()?;
            Pipeline::new(&steps)
        };
        let numbered = |(i, steps): (usize, &Vec<Node>)| one(steps).map_err(|e| e.under(&i.to_string()));
        let policies = cfg.policies.iter().enumerate().map(numbered).collect::<Result<Vec<_>>>();
        policies.map(Self).map_err(|e| e.under("policies"))
    }
}

impl Transform for AutoAugment {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        self.0[rng.below(self.0.len())].apply(results, rng)
    }
}

register!(PIPELINES: dyn Transform, "AutoAugment" => AutoAugment(AutoAugmentConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::applied;
    use super::*;

    fn policy(json: &str) -> Node {
        Node::from_json(json).unwrap()
    }

    // policy = merge_hparams(policy, hparams)
    #[test]
    fn hparams_reach_the_steps_that_have_them() {
        let hparams = policy(r#"{"pad_val": [1, 2, 3], "interpolation": "nearest", "unknown": 3}"#);
        let shear = merged(&policy(r#"{"type": "Shear", "magnitude": 0.1, "pad_val": null}"#), &hparams).unwrap();
        assert_eq!(shear.at("pad_val.1").and_then(Node::as_i64), Some(2));
        assert_eq!(shear.get("interpolation").and_then(Node::as_str), Some("nearest"));
        assert!(shear.get("unknown").is_none());
        let own = merged(&policy(r#"{"type": "Shear", "magnitude": 0.1, "pad_val": 9}"#), &hparams).unwrap();
        assert_eq!(own.get("pad_val").and_then(Node::as_i64), Some(9));
        let invert = merged(&policy(r#"{"type": "Invert"}"#), &hparams).unwrap();
        assert!(invert.get("pad_val").is_none());
    }

    #[test]
    fn a_policy_is_applied_whole() {
        let moved = r#"{"type": "Translate", "magnitude": 1.0, "prob": 1.0, "random_negative_prob": 0}"#;
        let json = |more: &str| format!(r#"{{"type": "AutoAugment", "policies": [[{moved}, {moved}]]{more}}}"#);
        assert_eq!(applied(&json("")).unwrap(), [128; 60]);
        assert_eq!(applied(&json(r#", "hparams": {"pad_val": 5}"#)).unwrap(), [5; 60]);
        for (wrong, words) in [
            ("[]", "policies: "),
            ("[[]]", "policies.0: "),
            (r#"[[{"type": "Invert"}, {"type": "Shaer", "magnitude": 1}]]"#, "did you mean 'Shear'"),
            (r#"[[{"type": "Invert"}, {"type": "Shear"}]]"#, "policies.0.1"),
        ] {
            let e = applied(&format!(r#"{{"type": "AutoAugment", "policies": {wrong}}}"#)).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
