#!/bin/sh
# Builds libcma and installs it: cargo xtask install-c [--prefix P] [--destdir D] [--libdir L]
#
# A script instead of cargo-c: cargo has what it takes to build the library, and what is left is to
# copy six files and to write one.
set -eu
cd "$(dirname "$0")/../.."

prefix=/usr/local destdir='' libdir=''
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --destdir | --libdir)
            [ $# -ge 2 ] || { echo "$1 needs a folder" >&2; exit 2; }
            case $1 in
                --prefix) prefix=$2 ;;
                --destdir) destdir=$2 ;;
                --libdir) libdir=$2 ;;
            esac
            shift 2
            ;;
        *)
            echo "usage: cargo xtask install-c [--prefix P] [--destdir D] [--libdir L]" >&2
            exit 2
            ;;
    esac
done
case $prefix in
    /*) ;;
    *) echo "the prefix must be an absolute path, as /usr/local: $prefix" >&2; exit 2 ;;
esac
libdir=${libdir:-$prefix/lib}

# Programs in C are examined with valgrind, which needs the system calls of the C library. A test
# names the folder of a library that is built already.
if [ -z "${CMA_BUILT:-}" ]; then
    cargo build --release --locked --package cma-c --features valgrind
    CMA_BUILT=${CARGO_TARGET_DIR:-target}/release
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

to_lib=$destdir$libdir to_include=$destdir$prefix/include to_man=$destdir$prefix/share/man
mkdir -p "$to_lib/pkgconfig" "$to_include" "$to_man/man3"
install -m 755 "$CMA_BUILT/libcma.so" "$to_lib/libcma.so.$version"
ln -sf "libcma.so.$version" "$to_lib/libcma.so.1"
ln -sf libcma.so.1 "$to_lib/libcma.so"
[ ! -e "$CMA_BUILT/libcma.a" ] || install -m 644 "$CMA_BUILT/libcma.a" "$to_lib/libcma.a"
install -m 644 interfaces/c/include/cma.h "$to_include/cma.h"
install -m 644 cma-api/include/cma_allocator.h "$to_include/cma_allocator.h"
install -m 644 interfaces/c/man/libcma.3 "$to_man/man3/libcma.3"
echo '.so man3/libcma.3' > "$to_man/man3/cma.3"
cat > "$to_lib/pkgconfig/cma.pc" << END
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: libcma
Description: Physically contiguous memory from a server or a framework in the process
Version: $version
Libs: -L\${libdir} -lcma
Libs.private: -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
Cflags: -I\${includedir}
END

# A new library is in the cache of the dynamic linker after ldconfig.
if [ -z "$destdir" ] && ! ldconfig -p 2> /dev/null | grep -qF "=> $libdir/libcma.so.1"; then
    echo "libcma is in $libdir. Before a program finds it: ldconfig (as root), or set LD_LIBRARY_PATH"
fi
