//! The help of the commands that have no arguments of their own.

pub(super) const DEMO: &str = "\
Example:
  cma demo --platform galaxy-s2";

pub(super) const PLUGINS: &str = "\
Example:
  cma plugins --json";

pub(super) const REGIONS: &str = "\
Example:
  cma regions --platform aquila --banks '2G@0;2G@0x800000000' --json";

pub(super) const CHECK: &str = "\
Each allocator is tried on the address range that its region would get. A place is shown as \
name:line:column, where a long text has one rule or region a line, and columns count characters. \
With --json, start and end are byte offsets into the text; a clean configuration prints nothing.

Examples:
  cma check --cma 'fw=1M;rest=32M@0-1G' --map 'codec/fw=fw;*=rest' --memory fw=memfd
  cma check --platform board.toml";
