//! Which modules of a network get an adapter.

use crate::params::Layout;
use crate::weights::ModelError;

/// The ends of module names that the reference's scripts adapt: all linear maps and convolutions of the
/// blocks. conv_in, conv_out and the time and add embeddings get an adapter only when they are named.
pub const DEFAULT_TARGETS: &[&str] = &[
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
];

/// Names of modules or ends of such names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets(Vec<String>);

impl Default for Targets {
    fn default() -> Self {
        Targets(DEFAULT_TARGETS.iter().map(|&name| name.to_owned()).collect())
    }
}

impl Targets {
    /// The names in a list separated by commas.
    pub fn parse(list: &str) -> Self {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Targets(names.map(str::to_owned).collect())
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether the module of this name gets an adapter: its name is one of the targets, or ends with a dot
    /// and one of them.
    pub fn hold(&self, module: &str) -> bool {
        self.0.iter().any(|target| is_named(module, target))
    }

    /// Whether every name means at least one module of the network that can have an adapter. Of the default
    /// names only one must: not every network has downsamplers or shortcuts.
    ///
    /// # Errors
    /// A name that means none.
    pub fn check(&self, network: &Layout) -> Result<(), ModelError> {
        let means_one = |target: &String| modules(network).any(|module| is_named(module, target));
        let unknown = match *self == Targets::default() {
            true => !self.0.iter().any(means_one),
            false => self.0.is_empty() || !self.0.iter().all(means_one),
        };
        if !unknown {
            return Ok(());
        }
        let wrong = self.0.iter().find(|target| !means_one(target));
        Err(ModelError::input(
            format!("the adapters' target {:?}", wrong.map_or("", |name| name)),
            "is no linear map or convolution of this network, nor the end of one's name (such as to_q, \
             ff.net.2, conv_in or mid_block.resnets.0.conv1)",
        ))
    }
}

/// The names of the modules that can have an adapter.
pub(super) fn modules(network: &Layout) -> impl Iterator<Item = &str> {
    network.maps().map(|(_, spec)| module_name(&spec.name))
}

/// The module that a weight belongs to.
pub(super) fn module_name(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

fn is_named(module: &str, target: &str) -> bool {
    module
        .strip_suffix(target)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_or_after_a_dot() {
        let targets = Targets::parse("to_q, conv_in,mid_block.resnets.0.conv1");
        assert!(targets.hold("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"));
        assert!(targets.hold("conv_in"));
        assert!(targets.hold("mid_block.resnets.0.conv1"));
        assert!(!targets.hold("mid_block.resnets.1.conv1"));
        assert!(!targets.hold("x.into_q"));
        assert!(!targets.hold("to_q.lora"));
    }
}
