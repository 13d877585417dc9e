//! `modules`: what is registered.

use serde_json::Value;

use crate::error::{Error, Result, did_you_mean};
use crate::registry::{Listing, listings};

/// Arguments of `modules`.
#[derive(clap::Args)]
pub struct Args {
    /// A registry (NECKS) or a component (FPN): shows its fields. Without it, the names of all.
    name: Option<String>,
}

/// Prints the registered names, or one component's fields.
pub fn run(args: &Args) -> Result<()> {
    let all = listings();
    let mut text = String::new();
    match &args.name {
        None => {
            let mut last = "";
            for l in &all {
                if l.registry != last {
                    text += &format!("{}\n", l.registry);
                    last = l.registry;
                }
                text += &format!("  {}\n", l.name);
            }
        }
        Some(name) => {
            let found: Vec<_> = all.iter().filter(|l| l.name == name || l.registry == name).collect();
            if found.is_empty() {
                let known = all.iter().flat_map(|l| [l.name, l.registry]);
                return Err(Error::Usage(format!("nothing is registered as '{name}'{}", did_you_mean(name, known))));
            }
            for l in found {
                text += &describe(l);
            }
        }
    }
    crate::say!("{}", text.trim_end())
}

/// One component: registry, place, then a line for each field with its default and doc.
fn describe(listing: &Listing) -> String {
    let schema = (listing.schema)();
    let mut text = format!("{} {} ({}:{})\n", listing.registry, listing.name, listing.place.0, listing.place.1);
    if let Some(doc) = schema.get("description").and_then(Value::as_str) {
        text += &format!("  {}\n", doc.replace('\n', " "));
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (field, about) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let default = match about.get("default") {
            Some(d) => format!(" = {d}"),
            None if required.contains(&field.as_str()) => " (required)".to_owned(),
            None => String::new(),
        };
        let doc = about.get("description").and_then(Value::as_str).unwrap_or("").replace('\n', " ");
        text += &format!("  {field}{default}\n      {doc}\n");
    }
    text
}
