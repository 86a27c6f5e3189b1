//! The arguments and the help of `cma exec`.

use super::values;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const HELP: &str = "\
A chunk is <name>=<device>[/<type>]/<size>[/<align>], or <name>=@<regions>/<size>[/<align>], with \
the limits of cma shell behind it, as in 'ram=vm/64M/2M below=4G wait=2s'. What starts with a digit \
is the size, not a type. Its memory is one file that the program inherits as a descriptor.

In the program's arguments these are replaced, and the environment has them, too:
  {ram.fd}     CMA_RAM_FD     the number of the descriptor
  {ram.path}   CMA_RAM_PATH   /proc/self/fd/<fd>, which opens the same memory
  {ram.start}  CMA_RAM_START  the address as a device sees it, 0x hex
  {ram.size}   CMA_RAM_SIZE   the size in bytes, decimal
{{ stands for {, and other braces for themselves. The memory can't be truncated: a shell writes to \
it with 1<>{ram.path}, and dd with conv=notrunc.

With --socket the chunks are those of a server, which lists them under the program's name, cma exec \
becomes the program, and the server frees a chunk when no process has its descriptor or its memory any more. Without it cma exec hosts the \
system of its options, with memory of memfd, passes signals on to the program, and ends when the \
program has ended and no process holds a chunk any more. QEMU takes a chunk as its memory with \
-object memory-backend-file,id=ram,size={ram.size},share=on,mem-path={ram.path}.

Exit status: that of the program, or 128 and the number of the signal that ended it; 125 if a chunk \
was refused, or cma exec failed in another way; 126 if the program can't be executed, and 127 if it \
was not found.

Examples:
  cma exec --cma 'b1=64M' --map '*=b1' --chunk ram=vm/32M/2M -- od -N 16 {ram.path}
  cma exec --cma 'f=8M' --chunk 'c=@f/1M below=4G' -- sh -c 'echo hi 1<>$CMA_C_PATH'";

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// Allocate the chunks from the server that listens on this socket (`cma serve --socket`)
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// A chunk for the program; may be repeated
    #[arg(long = "chunk", value_name = "CHUNK", required = true)]
    pub(crate) chunks: Vec<String>,

    /// Wait for room, for each chunk up to this time, such as 500ms, 2s or 1m. A chunk with wait=
    /// has its own
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) wait: Option<Duration>,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}
