//! Version 1 is frozen: a text of its layout, which is kept beside this file, must stay as it is.

use super::*;
use abi_stable::type_layout::{TLData, TLField, TypeLayout};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

const FROZEN: &str = include_str!("layout.txt");

#[test]
#[cfg(target_pointer_width = "64")]
fn the_layout_of_version_1_is_the_frozen_one() {
    let layout = describe(<AllocatorModuleRef as StableAbi>::LAYOUT).unwrap();
    let missing = |from: &str, of: &str| -> Vec<String> {
        let known: Vec<&str> = from.lines().collect();
        of.lines().filter(|line| !known.contains(line)).map(str::to_string).collect()
    };
    assert!(
        layout == FROZEN,
        "version 1 of the interface is frozen; a change goes into a module `v2` (ABI.md). \
         Frozen: {:#?}, now: {:#?}. All of it now:\n{layout}",
        missing(&layout, FROZEN),
        missing(FROZEN, &layout)
    );
}

/// The types of this crate that `root` reaches, by name: size, alignment and representation, and
/// their fields in order with offset and type. A function is a field with its parameters and its
/// result.
fn describe(root: &'static TypeLayout) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let module = <AllocatorModuleRef as RootModule>::NAME;
    let version = <AllocatorModuleRef as RootModule>::VERSION_STRINGS.version;
    writeln!(text, "root module {module} {version} of abi_stable {}", root.package_version())?;
    for layout in reached(root) {
        let (size, align, repr) = (layout.size(), layout.alignment(), layout.repr_attr());
        writeln!(text, "{} size {size} align {align} {repr:?}", layout.full_type())?;
        let fields = match layout.data() {
            TLData::Struct { fields } => fields,
            TLData::PrefixType(prefix) => {
                writeln!(text, "  prefix of {}", prefix.first_suffix_field)?;
                prefix.fields
            }
            TLData::Enum(variants) => {
                let (names, values) = (variants.variant_names, variants.discriminants);
                writeln!(text, "  variants {names} {values:?}")?;
                variants.fields
            }
            other => {
                writeln!(text, "  {other:?}")?;
                continue;
            }
        };
        // All types here are laid out by the rule of C.
        let mut offset = 0_usize;
        for field in fields {
            let of = field.layout();
            offset = offset.next_multiple_of(of.alignment());
            writeln!(text, "  {offset} {}: {}", field.name(), type_of(&field)?)?;
            offset += of.size();
        }
    }
    Ok(text)
}

/// The types of this crate among those of which `root` consists, by name.
fn reached(root: &'static TypeLayout) -> impl Iterator<Item = &'static TypeLayout> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(layout) = found.get(next).copied() {
        next += 1;
        for nested in layout.shared_vars().type_layouts() {
            let nested = nested();
            if found.iter().all(|known| known.get_utypeid() != nested.get_utypeid()) {
                found.push(nested);
            }
        }
    }
    let own = found.into_iter().filter(|layout| layout.package() == env!("CARGO_PKG_NAME"));
    own.map(|layout| (layout.full_type().to_string(), layout))
        .collect::<BTreeMap<_, _>>()
        .into_values()
}

fn type_of(field: &TLField) -> Result<String, fmt::Error> {
    if !field.is_function() {
        return Ok(name_of(field.layout()));
    }
    let mut text = String::new();
    for function in field.function_range().iter() {
        let parameters: Vec<String> =
            function.param_type_layouts.iter().map(|layout| name_of(layout())).collect();
        write!(text, "fn({})", parameters.join(", "))?;
        if let Some(result) = function.return_type_layout() {
            write!(text, " -> {}", name_of(result()))?;
        }
    }
    Ok(text)
}

/// The type's name. abi_stable's containers don't name what they contain, so the types of their
/// fields follow.
fn name_of(layout: &'static TypeLayout) -> String {
    let name = layout.full_type().to_string();
    let fields = match layout.data() {
        TLData::Enum(variants) if layout.package() == "abi_stable" => variants.fields,
        TLData::Struct { fields } if name == "RVec" || name.starts_with("RSlice") => fields,
        _ => return name,
    };
    let fields: Vec<String> = fields.iter().map(|field| name_of(field.layout())).collect();
    format!("{name}({})", fields.join(", "))
}
