//! `cifar-resnet import`: published weights under the names of this crate's classifier.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::{Checkpoint, load, save};
use mmcv::cli::TaskCommand;
use mmcv::{Error, Result, say};

/// Arguments of `cifar-resnet import`.
#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// A checkpoint of akamaster's `pytorch_resnet_cifar10`.
    input: PathBuf,
    /// The new file: .safetensors or .pth.
    output: PathBuf,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        ImportArgs::augment_args(Command::new("import"))
            .about("Give the weights of pytorch_resnet_cifar10 the names of mmcls")
    },
    run,
};

/// `module.layer1.0.conv1.weight` is `backbone.layer1.0.conv1.weight`, `module.linear.bias` is `head.fc.bias`.
pub fn rename(name: &str) -> Option<String> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    match name.split_once('.')? {
        ("linear", leaf) => Some(format!("head.fc.{leaf}")),
        ("conv1" | "bn1" | "layer1" | "layer2" | "layer3", _) => Some(format!("backbone.{name}")),
        _ => None,
    }
}

fn run(matches: &ArgMatches) -> Result<()> {
    let args = ImportArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let mut renamed = Checkpoint::default();
    for (name, tensor) in load(&args.input)?.state_dict {
        let Some(new) = rename(&name) else {
            return Err(Error::checkpoint(&args.input, format!("'{name}' is no weight of a CIFAR ResNet")));
        };
        renamed.state_dict.insert(new, tensor);
    }
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    renamed.meta.insert("CLASSES".into(), classes.as_slice().into());
    save(&args.output, &renamed)?;
    say!("{}: {} tensors", args.output.display(), renamed.state_dict.len())
}

#[cfg(test)]
mod tests {
    use super::rename;

    // list(torch.load('resnet20-12fca82f.th')['state_dict'])[1], [-2]
    #[test]
    fn names_are_those_of_mmcls() {
        assert_eq!(rename("module.bn1.weight").as_deref(), Some("backbone.bn1.weight"));
        assert_eq!(rename("module.linear.weight").as_deref(), Some("head.fc.weight"));
        assert_eq!(rename("module.fc.weight"), None);
    }
}
