//! Registered allocators: adding one, and replacing one by a newer build.

use super::{Cma, Framework};
use crate::host::loader::Plugin;
use crate::host::region::{ChangeError, Region, Registered};
use crate::vocabulary::allocator_name_fault;
use crate::vocabulary::errors::{Reason, RegisterAllocatorError};
use std::sync::Arc;

/// The outcome for the regions that waited for an allocator when it was registered.
#[derive(Clone, Debug, Default)]
pub struct Attachments {
    /// The regions that the allocator serves now.
    pub attached: Vec<Region>,
    /// The regions that it refused to serve, with the reason.
    pub failed: Vec<(Region, Reason)>,
}

/// The outcome for the regions when an allocator was replaced by another build of it.
#[derive(Clone, Debug, Default)]
pub struct Replacement {
    /// The build that was registered before; `None` when there was none, or the same one.
    pub replaced: Option<Plugin>,
    /// The regions that the new build took over from the old one, with every chunk where it was.
    pub taken_over: Vec<Region>,
    /// The regions that keep the old build, with the reason.
    pub kept: Vec<(Region, ChangeError)>,
    /// The outcome for the regions that waited for an allocator of this name.
    pub attachments: Attachments,
}

impl Cma {
    /// Registers an allocator under the name of its plug-in, and attaches it to the regions that
    /// wait for it. The first allocator registered is the default.
    ///
    /// # Errors
    ///
    /// [`RegisterAllocatorError::NameTaken`] when there is one of that name.
    pub fn allocator_register(
        &self,
        plugin: Plugin,
    ) -> Result<Attachments, RegisterAllocatorError> {
        let name = plugin.name().to_string();
        self.allocator_register_as(Some(&name), plugin)
    }

    /// Registers an allocator under another name, or without one: then it is only available as the
    /// default.
    ///
    /// # Errors
    ///
    /// The same, and [`RegisterAllocatorError::BadName`].
    pub fn allocator_register_as(
        &self,
        name: Option<&str>,
        plugin: Plugin,
    ) -> Result<Attachments, RegisterAllocatorError> {
        if let Some((name, fault)) =
            name.and_then(|name| allocator_name_fault(name).map(|fault| (name, fault)))
        {
            return Err(RegisterAllocatorError::BadName { name: name.to_string(), fault });
        }
        let registered = Registered { name: name.map(Arc::from), plugin };
        let (regions, first) = {
            let mut setup = self.setup();
            let snapshot = self.0.snapshot.load_full();
            let same = |r: &&Registered| name.is_some() && r.name.as_deref() == name;
            if let Some(other) = snapshot.allocators.iter().find(same) {
                let (name, version) =
                    (name.unwrap_or_default().to_string(), other.plugin.version().to_string());
                return Err(RegisterAllocatorError::NameTaken { name, version });
            }
            setup.change(|snapshot| snapshot.with_allocator(registered.clone()));
            (snapshot.regions.clone(), snapshot.allocators.is_empty())
        };
        Ok(offer(&regions, &registered, first, &self.0))
    }

    /// The allocators in the order of their registration; the first is the default.
    pub fn allocators(&self) -> Vec<Registered> {
        self.0.snapshot.load().allocators.clone()
    }

    /// Registers `plugin` under its own name, and replaces the allocator of that name, if there is
    /// one: the name means the new build from now on. The new build adopts the chunks of the
    /// regions that the old one serves. A region whose chunks it can't adopt keeps the old build;
    /// both builds stay loaded as long as regions use them.
    ///
    /// When the same build is registered already, it is offered again to the regions that kept
    /// another one.
    ///
    /// # Errors
    ///
    /// [`RegisterAllocatorError`].
    pub fn allocator_replace(&self, plugin: Plugin) -> Result<Replacement, RegisterAllocatorError> {
        let new = Registered { name: Some(Arc::from(plugin.name())), plugin };
        let (old, regions) = {
            let mut setup = self.setup();
            let snapshot = self.0.snapshot.load_full();
            let old =
                snapshot.allocators.iter().find(|registered| registered.name == new.name).cloned();
            match &old {
                Some(old) if old.plugin == new.plugin => {}
                Some(_) => setup.change(|snapshot| snapshot.with_allocator_replaced(&new)),
                None => {}
            }
            (old, snapshot.regions.clone())
        };
        let Some(old) = old else {
            return match self.allocator_register(new.plugin.clone()) {
                Ok(attachments) => Ok(Replacement { attachments, ..Replacement::default() }),
                // Another thread registered one meanwhile.
                Err(RegisterAllocatorError::NameTaken { .. }) => self.allocator_replace(new.plugin),
                Err(error) => Err(error),
            };
        };
        let mut replacement = Replacement::default();
        for region in &regions {
            match region.take_over(&new.name, &*self.0) {
                None => {}
                Some(Ok(_)) => replacement.taken_over.push(region.clone()),
                Some(Err(error)) => replacement.kept.push((region.clone(), error)),
            }
        }
        replacement.attachments = offer(&regions, &new, false, &self.0);
        replacement.replaced = Some(old.plugin).filter(|old| *old != new.plugin);
        Ok(replacement)
    }
}

/// Attaches a newly registered allocator to those of `regions` that wait for it. No request waits
/// for this: a request to a region that comes first attaches the allocator itself.
fn offer(regions: &[Region], registered: &Registered, first: bool, all: &Framework) -> Attachments {
    let mut attachments = Attachments::default();
    for region in regions {
        match region.offer(registered, first, all) {
            None => {}
            Some(Ok(())) => attachments.attached.push(region.clone()),
            Some(Err(reason)) => attachments.failed.push((region.clone(), reason)),
        }
    }
    attachments
}
