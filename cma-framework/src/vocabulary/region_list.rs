//! Lists of regions that a request names in place of a device (specification section 6). They are
//! written like the right side of a rule of the map:
//!
//! ```text
//! list  ::= group { ',' group }
//! group ::= region-name { '|' region-name }
//! ```

use super::errors::InvalidRequest;
use super::map::GroupSpec;

/// The groups of a list of regions, in the order in which they are tried. The list ends at a `;` or
/// at the end of the text. White space beside `,` and `|` and at both ends is ignored.
///
/// ```
/// use cma_framework::config::region_groups;
///
/// let groups: Vec<_> = region_groups("fw, b1|b2")?.map(|group| group.to_string()).collect();
/// assert_eq!(groups, ["fw", "b1|b2"]);
/// # Ok::<(), cma_framework::errors::InvalidRequest>(())
/// ```
///
/// # Errors
///
/// [`InvalidRequest::NoRegions`] when a name is missing.
pub fn region_groups(
    list: &str,
) -> Result<impl Iterator<Item = GroupSpec<'_>> + Clone, InvalidRequest> {
    let list = list.split(';').next().unwrap_or_default();
    let groups = list.split(',').map(GroupSpec::new);
    if groups.clone().any(|group| group.regions().any(str::is_empty)) {
        return Err(InvalidRequest::NoRegions);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_groups_up_to_a_semicolon_and_no_name_is_empty() {
        let names = |list| -> Result<Vec<Vec<_>>, _> {
            Ok(region_groups(list)?.map(|group| group.regions().collect()).collect())
        };
        assert_eq!(names("a").unwrap(), [["a"]]);
        assert_eq!(names(" a , b | c;d,,").unwrap(), [vec!["a"], vec!["b", "c"]]);
        for bad in ["", " ", ";a", "a,", ",a", "a||b", "|a", "a|", "a, |b"] {
            assert_eq!(names(bad), Err(InvalidRequest::NoRegions), "{bad}");
        }
    }
}
