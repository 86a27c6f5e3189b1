//! The arguments and the help of `cma shell`.

use clap::Args;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Commands, one a line:
  l, list                               the live chunks, their requesters and regions
  a, alloc <device>[/<type>] <request>  a chunk for a device, by the map
  A, afrom <regions> <request>          a chunk from the first of these regions that has room, as in
                                        b1,b2; of b1|b2 from the one that fits best
  f, free [<num>]                       free a chunk, the newest without a number
  w, why                                what is in the way of the last refused request, by the
                                        chunks that are live now
  h, help, ?                            this list
  q, quit, exit                         free all chunks and end, as the end of input does
  # ...                                 a comment
  an empty line                         the last command again

A request is <size>[/<align>] and any of these limits:
  above=<address>  at this address or higher
  below=<address>  with all bytes below this address
  boundary=<size>  crossing no multiple of this power of two
  at=<address>     starting here
  wait=<time>      waiting up to so long for room, as in 500ms, 2s or 1m

A chunk is printed as \"number: size@start\". Each new chunk gets the next number, from 1; numbers \
are not reused. Sizes and addresses are decimal, 0x hex or 0 octal and take K, M, G, T, P, E. An \
alignment of 0 means none.

Example:
  echo 'a camera/frame 3M/64K below=4G boundary=4M' | cma shell";

#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    /// Request from the server that listens on this socket (`cma serve --socket`), in place of a
    /// system in this process
    #[arg(long, value_name = "PATH")]
    pub(crate) connect: Option<PathBuf>,
}
