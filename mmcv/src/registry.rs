//! Components by name: one linkme slice per kind, filled by [`register!`](crate::register), read by [`build`].
//!
//! ```
//! use mmcv::config::Node;
//! use mmcv::registry::{build, registry};
//!
//! pub trait Greeter { fn greet(&self) -> String; }
//! registry!(
//!     /// Things that greet.
//!     pub GREETERS: dyn Greeter, ()
//! );
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! pub struct HelloConfig { name: String }
//! pub struct Hello(String);
//! impl Hello {
//!     fn new(cfg: &HelloConfig) -> mmcv::Result<Self> { Ok(Self(cfg.name.clone())) }
//! }
//! impl Greeter for Hello { fn greet(&self) -> String { format!("hello {}", self.0) } }
//! mmcv::register!(GREETERS: dyn Greeter, "Hello" => Hello(HelloConfig));
//!
//! fn main() -> mmcv::Result<()> {
//!     let node = Node::from_json(r#"{"type": "Hello", "name": "you"}"#)?;
//!     assert_eq!(build(&GREETERS, &node, ())?.greet(), "hello you");
//!     Ok(())
//! }
//! ```

use schemars::Schema;

use crate::config::Node;
use crate::error::{Error, Result, did_you_mean};

/// A kind of component: its name for messages (`"NECKS"`) and the slice of its entries.
pub struct Registry<T: ?Sized + 'static, A: 'static> {
    /// The registry's name, as OpenMMLab spells it.
    pub name: &'static str,
    /// What has been linked in.
    pub entries: fn() -> &'static [Entry<T, A>],
}

/// One registered component.
pub struct Entry<T: ?Sized + 'static, A: 'static> {
    /// OpenMMLab's name, the config's `type`.
    pub name: &'static str,
    /// Reads the config (without `type`) and makes the component.
    pub build: fn(&Node, A) -> Result<Box<T>>,
    /// Fields, docs and defaults of the config struct.
    pub schema: fn() -> Schema,
    /// Where it was registered.
    pub place: (&'static str, u32),
}

/// Makes the component that `node`'s `type` names. An error names file, line, key and the nearest names.
pub fn build<T: ?Sized, A>(registry: &Registry<T, A>, node: &Node, args: A) -> Result<Box<T>> {
    let entry = find(registry, node)?;
    (entry.build)(&node.without("type"), args).map_err(|e| {
        match e {
            Error::Config { origin, path, message } if path.is_empty() && !message.starts_with(entry.name) => {
                Error::Config { origin, path, message: format!("{}: {message}", entry.name) }
            }
            e => e,
        }
        .at(&node.origin)
    })
}

/// [`build`] of the child `key` of a component's config: errors are under that key.
pub fn build_at<T: ?Sized, A>(registry: &Registry<T, A>, key: &str, node: &Node, args: A) -> Result<Box<T>> {
    build(registry, node, args).map_err(|e| e.under(key))
}

/// The entry that `node`'s `type` names.
pub fn find<'r, T: ?Sized, A>(registry: &'r Registry<T, A>, node: &Node) -> Result<&'r Entry<T, A>> {
    let Some(dict) = node.as_dict() else {
        return Err(node.error(format!("found {}, expected a dict with `type` ({})", node.kind(), registry.name)));
    };
    let Some(name) = dict.get("type") else {
        return Err(node.error(format!("missing required field 'type' ({})", registry.name)));
    };
    let Some(text) = name.as_str() else {
        return Err(name.error(format!("found {}, expected a name of {}", name.kind(), registry.name)).under("type"));
    };
    get(registry, text).ok_or_else(|| {
        let names = names(registry);
        let hint = did_you_mean(text, names.iter().copied());
        let known = if names.len() <= 12 { format!(" (known: {})", names.join(", ")) } else { String::new() };
        name.error(format!("'{text}' is not in the {} registry{hint}{known} (`modules` lists all)", registry.name))
            .under("type")
    })
}

/// The entry called `name`.
pub fn get<'r, T: ?Sized, A>(registry: &'r Registry<T, A>, name: &str) -> Option<&'r Entry<T, A>> {
    (registry.entries)().iter().find(|e| e.name == name)
}

/// The registered names, sorted.
pub fn names<T: ?Sized, A>(registry: &Registry<T, A>) -> Vec<&'static str> {
    let mut names: Vec<_> = (registry.entries)().iter().map(|e| e.name).collect();
    names.sort_unstable();
    names
}

/// A registry's content without its types, for `modules` and the checks at start.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The registry.
    pub registry: &'static str,
    /// The component.
    pub name: &'static str,
    /// Its fields.
    pub schema: fn() -> Schema,
    /// Where it was registered.
    pub place: (&'static str, u32),
}

/// Every registry that is linked in, by a function that lists it.
#[linkme::distributed_slice]
pub static REGISTRIES: [fn() -> Vec<Listing>];

/// Everything that is registered, sorted by registry and name.
pub fn listings() -> Vec<Listing> {
    let mut all: Vec<Listing> = REGISTRIES.iter().flat_map(|list| list()).collect();
    all.sort_by_key(|l| (l.registry, l.name));
    all
}

/// Fails when two components of one registry share a name, with both places.
pub fn check_unique() -> Result<()> {
    for pair in listings().windows(2) {
        let [a, b] = pair else { continue };
        if (a.registry, a.name) == (b.registry, b.name) {
            return Err(Error::config(format!(
                "'{}' is registered twice in {}: {}:{} and {}:{}",
                a.name, a.registry, a.place.0, a.place.1, b.place.0, b.place.1
            )));
        }
    }
    Ok(())
}

#[doc(hidden)]
pub fn list<T: ?Sized, A>(registry: &Registry<T, A>) -> Vec<Listing> {
    (registry.entries)()
        .iter()
        .map(|e| Listing { registry: registry.name, name: e.name, schema: e.schema, place: e.place })
        .collect()
}

/// Declares a registry: `registry!(pub NECKS: dyn Neck, VarBuilder);`. The second type is what a
/// component's `new` takes beside its config (`()` for nothing).
#[macro_export]
macro_rules! registry {
    ($(#[$doc:meta])* $vis:vis $name:ident: $t:ty, $args:ty) => {
        // linkme places statics in a link section, which the lint counts as unsafe.
        #[allow(non_snake_case, unsafe_code)]
        #[doc(hidden)]
        $vis mod $name {
            #[allow(unused_imports)]
            use super::*;
            #[$crate::linkme::distributed_slice]
            #[linkme(crate = $crate::linkme)]
            // Under the registry's own name: linkme makes a macro of the name, one to a crate.
            pub static $name: [Item];
            /// One entry of the registry.
            pub type Item = $crate::registry::Entry<$t, $args>;
            #[$crate::linkme::distributed_slice($crate::registry::REGISTRIES)]
            #[linkme(crate = $crate::linkme)]
            static LIST: fn() -> Vec<$crate::registry::Listing> = || $crate::registry::list(&super::$name);
        }
        $(#[$doc])*
        $vis static $name: $crate::registry::Registry<$t, $args> =
            $crate::registry::Registry { name: stringify!($name), entries: || &$name::$name };
    };
}
pub use registry;

/// Registers a component.
///
/// - `register!(NECKS: dyn Neck, "FPN" => Fpn, FpnConfig);` calls `Fpn::new(&FpnConfig, args)`
/// - `register!(LOSSES: dyn Loss, "FocalLoss" => FocalLoss(FocalLossConfig));` calls `FocalLoss::new(&FocalLossConfig)`
///
/// The registry must be in scope under its own name (a path is fine: `mmdet::NECKS`).
#[macro_export]
macro_rules! register {
    ($registry:ident: $t:ty, $name:literal => $component:ty, $config:ty) => {
        $crate::register!(@entry $registry, $t, $name, $config, |cfg, args| <$component>::new(&cfg, args));
    };
    ($registry:ident: $t:ty, $name:literal => $component:ident($config:ty)) => {
        $crate::register!(@entry $registry, $t, $name, $config, |cfg, _args| <$component>::new(&cfg));
    };
    (@entry $registry:ident, $t:ty, $name:literal, $config:ty, |$cfg:ident, $args:ident| $new:expr) => {
        #[allow(unsafe_code)] // linkme's link section
        const _: () = {
            #[$crate::linkme::distributed_slice($registry::$registry)]
            #[linkme(crate = $crate::linkme)]
            static ENTRY: $registry::Item = $crate::registry::Entry {
                name: $name,
                build: |node, $args| {
                    let $cfg: $config = node.parse()?;
                    let made = $new.map_err($crate::Error::from)?;
                    Ok(Box::new(made) as Box<$t>)
                },
                schema: || $crate::schemars::schema_for!($config),
                place: (file!(), line!()),
            };
        };
    };
}
pub use register;
