//! The hooks that a config names.

use indexmap::IndexMap;

use super::hooks::{EvalHook, EvalResults};
use super::{HOOKS, Hook, Priority, RunLength, RunState, Runner};
use crate::Result;
use crate::config::{Node, Value};
use crate::error::did_you_mean;
use crate::registry::{build, listings};

impl Runner {
    /// Registers the hooks of a config: `lr_config`, `momentum_config`, `optimizer_config`, `checkpoint_config`, a
    /// timer, `log_config`, `profiler_config` and `custom_hooks`, with mmcv's priorities.
    pub fn register_hooks_from_config(&mut self, cfg: &Node) -> Result<&mut Self> {
        let by_iter = matches!(self.options.length, RunLength::Iters(_));
        let section = |key: &str| cfg.get(key).filter(|n| !n.is_null()).cloned();
        // An IterBasedRunner's schedules, checkpoints and logs count iterations unless they say otherwise.
        let counting = |mut node: Node| {
            if by_iter && node.get("by_epoch").is_none() {
                node.set("by_epoch", false);
            }
            node
        };
        if let Some(node) = section("lr_config") {
            let node = policy(counting(node), "LrUpdaterHook").map_err(|e| e.under("lr_config"))?;
            self.register_built("lr_config", &node, Priority::VERY_HIGH)?;
        }
        if let Some(node) = section("momentum_config") {
            let node = policy(node, "MomentumUpdaterHook").map_err(|e| e.under("momentum_config"))?;
            self.register_built("momentum_config", &node, Priority::HIGH)?;
        }
        let mut node = section("optimizer_config").unwrap_or_else(empty);
        let fp16 = section("fp16");
        if let Some(options) = fp16.as_ref().and_then(Node::as_dict) {
            if let Some(kind) = node.type_name().filter(|kind| *kind != "OptimizerHook") {
                let message = format!("optimizer_config is a {kind}, which fp16 can't be joined with");
                return Err(crate::Error::config(message).under("fp16"));
            }
            node.set("type", "Fp16OptimizerHook");
            for (key, value) in options {
                node.set(key, value.clone());
            }
        }
        let node = typed(node, "OptimizerHook");
        self.register_built("optimizer_config", &node, Priority::ABOVE_NORMAL)?;
        if let Some(node) = section("checkpoint_config") {
            let node = typed(counting(node), "CheckpointHook");
            self.register_built("checkpoint_config", &node, Priority::NORMAL)?;
        }
        let timer = typed(empty(), "IterTimerHook");
        self.register_built("timer_config", &section("timer_config").unwrap_or(timer), Priority::LOW)?;
        if let Some(node) = section("log_config") {
            self.register_loggers(&node, &counting).map_err(|e| e.under("log_config"))?;
        }
        if let Some(node) = section("custom_hooks") {
            let items = match node.as_list() {
                Some(list) => list.to_vec(),
                None => vec![node],
            };
            for (i, item) in items.iter().enumerate() {
                let at = |e: crate::Error| e.under(&i.to_string()).under("custom_hooks");
                let priority = item.get("priority").map(Priority::from_node).transpose().map_err(at)?;
                let hook = build(&HOOKS, &item.without("priority"), ()).map_err(at)?;
                self.register_hook(item.type_name().unwrap_or_default(), hook, priority.unwrap_or(Priority::NORMAL));
            }
        }
        if let Some(node) = section("profiler_config") {
            self.register_built("profiler_config", &typed(node, "ProfilerHook"), Priority::NORMAL)?;
        }
        Ok(self)
    }

    fn register_built(&mut self, key: &str, node: &Node, priority: Priority) -> Result<()> {
        let hook = build(&HOOKS, node, ()).map_err(|e| e.under(key))?;
        self.register_hook(node.type_name().unwrap_or_default(), hook, priority);
        Ok(())
    }

    fn register_loggers(&mut self, node: &Node, counting: &dyn Fn(Node) -> Node) -> Result<()> {
        let Some(hooks) = node.get("hooks").and_then(Node::as_list) else {
            return Err(node.error("missing required list 'hooks'"));
        };
        for (i, info) in hooks.iter().enumerate() {
            let mut info = counting(info.clone());
            if let (None, Some(interval)) = (info.get("interval"), node.get("interval")) {
                info.set("interval", interval.clone());
            }
            let hook = build(&HOOKS, &info, ()).map_err(|e| e.under(&i.to_string()).under("hooks"))?;
            self.register_hook(info.type_name().unwrap_or_default(), hook, Priority::VERY_LOW);
        }
        Ok(())
    }

    /// Registers the evaluation that a config's `evaluation` describes; it counts in epochs or iterations as the run
    /// does. `evaluate` tests the model on `num_batches` batches and gives its metrics in order.
    /// Keys that are not [`EvalConfig`](super::hooks::EvalConfig)'s are the task's (`metric`), and left to it.
    pub fn register_evaluation(
        &mut self,
        node: &Node,
        num_batches: usize,
        evaluate: impl FnMut(&mut RunState) -> Result<EvalResults> + Send + 'static,
    ) -> Result<&mut Self> {
        let by_epoch = matches!(self.options.length, RunLength::Epochs(_));
        let hook =
            EvalHook::from_node(node, by_epoch, num_batches, Box::new(evaluate)).map_err(|e| e.under("evaluation"))?;
        Ok(self.register_hook("EvalHook", Box::new(hook) as Box<dyn Hook>, Priority::LOW))
    }
}

fn empty() -> Node {
    Value::Dict(IndexMap::new()).into()
}

/// `node` with `type`, if it has none.
fn typed(mut node: Node, kind: &str) -> Node {
    if node.get("type").is_none() {
        node.set("type", kind);
    }
    node
}

/// `policy='step'` as `type='StepLrUpdaterHook'`: a name in lower case gets capitals, others stay.
fn policy(node: Node, suffix: &str) -> Result<Node> {
    if node.get("type").is_some() {
        return Ok(node);
    }
    let Some(policy) = node.get("policy") else { return Err(node.error("missing required field 'policy'")) };
    let Some(name) = policy.as_str() else {
        return Err(policy.error(format!("found {}, expected a name", policy.kind())).under("policy"));
    };
    let name = if name == name.to_lowercase() { title(name) } else { name.to_owned() };
    let known: Vec<String> = schedules(suffix).collect();
    if !known.contains(&name) {
        let hint = did_you_mean(&name, known.iter().map(String::as_str));
        let given = policy.as_str().unwrap_or_default();
        let message = format!("'{given}' is not a schedule{hint} (known: {})", known.join(", "));
        return Err(policy.error(message).under("policy"));
    }
    let mut kind = Node::from(format!("{name}{suffix}"));
    kind.origin = policy.origin.clone();
    let mut node = node.without("policy");
    node.set("type", kind);
    Ok(node)
}

/// The policies of the hooks whose names end in `suffix`.
fn schedules(suffix: &str) -> impl Iterator<Item = String> + use<'_> {
    let hooks = listings().into_iter().filter(|l| l.registry == "HOOKS");
    hooks.filter_map(move |l| l.name.strip_suffix(suffix).map(str::to_owned))
}

/// Python's `str.title`: a capital at the start and behind everything that is no letter.
fn title(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let c = if start { c.to_ascii_uppercase() } else { c };
            start = !c.is_alphabetic();
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_become_types() {
        let of = |p: &str| {
            let node = Node::from_json(&format!(r#"{{"policy": "{p}", "step": 1}}"#)).unwrap();
            policy(node, "LrUpdaterHook").map(|n| n.type_name().unwrap_or_default().to_owned())
        };
        assert_eq!(of("step").unwrap(), "StepLrUpdaterHook");
        assert_eq!(of("CosineAnnealing").unwrap(), "CosineAnnealingLrUpdaterHook");
        // mmcv makes `Cosine_AnnealingLrUpdaterHook` of it, and finds none.
        let e = of("cosine_annealing").unwrap_err().under("lr_config");
        assert!(e.is_usage());
        let e = e.to_string();
        assert!(
            e.contains("lr_config.policy: 'cosine_annealing' is not a schedule; did you mean 'CosineAnnealing'?"),
            "{e}"
        );
    }
}
