//! Configs: a tree of [`Node`]s in which every value knows the file and line that set it.

mod de;
mod lined;
mod loader;
mod merge;
mod node;
mod one_or_many;
mod options;
mod provider;
mod python;

pub use de::from_node;
pub use loader::Config;
pub use merge::{DELETE, merge};
pub use node::{Node, Origin, Value};
pub use one_or_many::OneOrMany;
pub(crate) use python::evaluate as python_values;
