//! A newer build of an allocator that is registered already.

use super::{Attachments, Cma, offer};
use crate::host::loader::Plugin;
use crate::host::region::{ChangeError, Region, Registered};
use crate::vocabulary::errors::RegisterAllocatorError;
use std::sync::Arc;

/// What became of the regions when an allocator was replaced by another build of it.
#[derive(Clone, Debug, Default)]
pub struct Replacement {
    /// The build that was registered before; `None` when there was none, or this very one.
    pub replaced: Option<Plugin>,
    /// The regions that had the old build and have the new one now, with every chunk where it was.
    pub taken_over: Vec<Region>,
    /// Those that keep the old build, with the reason.
    pub kept: Vec<(Region, ChangeError)>,
    /// What became of the regions that waited for an allocator of this name.
    pub attachments: Attachments,
}

impl Cma {
    /// Registers `plugin` under the name it gives itself, in the place of the allocator that has
    /// the name, if there is one: from now on whoever asks for the name gets the new build. Regions
    /// that the old one serves are taken over chunk by chunk where they are; one whose chunks the
    /// new build can't adopt goes on with the old. Two builds live side by side as long as it
    /// takes.
    ///
    /// When this very build is registered already, regions that kept another one when it came are
    /// tried again.
    ///
    /// # Errors
    ///
    /// [`RegisterAllocatorError`].
    pub fn allocator_replace(&self, plugin: Plugin) -> Result<Replacement, RegisterAllocatorError> {
        let new = Registered { name: Some(Arc::from(plugin.name())), plugin };
        let (old, regions) = {
            let _turn = self.setup();
            let world = self.0.world.load_full();
            let old =
                world.allocators.iter().find(|registered| registered.name == new.name).cloned();
            match &old {
                Some(old) if old.plugin == new.plugin => {}
                Some(_) => self.change(|world| world.with_allocator_replaced(&new)),
                None => {}
            }
            (old, world.regions.clone())
        };
        let Some(old) = old else {
            return match self.allocator_register(new.plugin.clone()) {
                Ok(attachments) => Ok(Replacement { attachments, ..Replacement::default() }),
                // Somebody else was first.
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
