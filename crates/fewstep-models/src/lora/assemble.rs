//! From the names of a file to its modules: which tensors belong together, and which belong nowhere.
//!
//! It knows names. The tensors themselves are read afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::form::{LoraForm, Reason, Unloadable};
use super::key::{self, Naming, Role};
use super::module::Part;

/// The names of one module's tensors.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) a: Option<String>,
    pub(super) b: Option<String>,
    pub(super) alpha: Option<String>,
    naming: Option<Naming>,
}

/// All names of a file, sorted out.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// By network and path.
    pub(super) modules: BTreeMap<(Part, String), Names>,
    pub(super) unloadable: Vec<Unloadable>,
    /// How many names had an adapter's name inside, and which adapters these are.
    with_adapter: usize,
    adapters: BTreeSet<String>,
}

impl Assembly {
    /// Sorts the names out. `layers_per_block` is the UNet's, and matters to SGM's block names only.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>, layers_per_block: usize) -> Self {
        let mut all = Assembly::default();
        for name in names {
            if let Err(reason) = all.add(name, layers_per_block) {
                all.refuse(name, reason);
            }
        }
        all
    }

    pub(super) fn refuse(&mut self, key: &str, reason: Reason) {
        self.unloadable.push(Unloadable {
            key: key.to_owned(),
            reason,
        });
    }

    fn add(&mut self, name: &str, layers_per_block: usize) -> Result<(), Reason> {
        let key = key::parse(name, layers_per_block)?;
        let names = self.modules.entry((key.part, key.path)).or_default();
        let place = match key.role {
            Role::A => &mut names.a,
            Role::B => &mut names.b,
            Role::Alpha => &mut names.alpha,
        };
        if let Some(earlier) = place {
            return Err(Reason::Other(format!("is for the same module as {earlier}")));
        }
        *place = Some(name.to_owned());
        if key.role == Role::A {
            names.naming = Some(key.naming);
        }
        if let Some(adapter) = key.adapter {
            self.with_adapter += 1;
            self.adapters.insert(adapter);
        }
        Ok(())
    }

    /// The number of modules in each family of names.
    fn namings(&self) -> BTreeMap<Naming, usize> {
        let mut counts = BTreeMap::new();
        for naming in self.modules.values().filter_map(|names| names.naming) {
            *counts.entry(naming).or_insert(0) += 1;
        }
        counts
    }

    /// Whether some names are PEFT's, whose alphas lie in a file of their own.
    pub(super) fn wants_adapter_config(&self) -> bool {
        let namings = self.namings();
        namings.contains_key(&Naming::Peft) || namings.contains_key(&Naming::WrappedDiffusers)
    }

    /// The file's form.
    pub(super) fn form(&self) -> LoraForm {
        let namings: Vec<Naming> = self.namings().into_keys().collect();
        match *namings {
            [] => LoraForm::Unknown,
            [Naming::Diffusers] => LoraForm::Diffusers,
            [Naming::OldDiffusers] => LoraForm::OldDiffusers,
            [Naming::Diffusers, Naming::OldDiffusers] => LoraForm::MixedDiffusers,
            [Naming::WrappedDiffusers] => LoraForm::WrappedDiffusers,
            [Naming::Peft] => LoraForm::Peft,
            [Naming::Kohya] => LoraForm::Kohya,
            // Text encoders have one kind of name in both.
            [Naming::KohyaSgm] | [Naming::Kohya, Naming::KohyaSgm] => LoraForm::KohyaSgm,
            _ => LoraForm::Mixed,
        }
    }

    /// What had to be put right in the names.
    pub(super) fn repairs(&self) -> Vec<String> {
        let namings = self.namings();
        let count = |naming| namings.get(&naming).copied().unwrap_or(0);
        let mut repairs = Vec::new();
        let old = count(Naming::OldDiffusers);
        if old > 0 && count(Naming::Diffusers) > 0 {
            repairs.push(format!(
                "{old} modules have old names among new ones, as the reference's SDXL script writes them; diffusers \
                 drops them, here they were read"
            ));
        }
        let wrapped = count(Naming::WrappedDiffusers);
        if wrapped > 0 {
            repairs.push(format!(
                "`base_model.model.` was taken out of the names of {wrapped} modules, where the reference's \
                 WebDataset scripts leave it; diffusers refuses such a file"
            ));
        }
        if self.unet_has(Naming::Kohya) && self.unet_has(Naming::KohyaSgm) {
            repairs.push(format!(
                "{} modules have SGM's block names among diffusers' ones; diffusers drops them, here they were read",
                count(Naming::KohyaSgm)
            ));
        }
        if self.with_adapter > 0 {
            let adapters = self.adapters.iter().map(String::as_str).collect::<Vec<_>>();
            repairs.push(format!(
                "the adapter's name `{}` was taken out of {} names",
                adapters.join("`, `"),
                self.with_adapter
            ));
        }
        repairs
    }

    fn unet_has(&self, naming: Naming) -> bool {
        let mut unet = self.modules.iter().filter(|((part, _), _)| *part == Part::UNet);
        unet.any(|(_, names)| names.naming == Some(naming))
    }
}
