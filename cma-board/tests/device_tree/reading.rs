//! Boards read from device-tree blobs.

use crate::trees::Token::{Close, Open, Property, Word};
use crate::trees::{assembled, board_of, compiled, notes, tree};
use cma_board::Origin;
use cma_board::device_tree::read;
use cma_framework::config::{Bank, Growth, Place};

/// `pools.dts`, by `dtc`.
const POOLS: &[u8] = include_bytes!("pools.dtb");

#[test]
fn the_compiled_test_tree_is_that_of_its_source() {
    let Some(compiled) = compiled(include_str!("pools.dts")) else { return };
    let (stored, fresh) = (read(POOLS).expect("a blob"), read(&compiled).expect("a blob"));
    assert_eq!(stored.board, fresh.board);
    assert_eq!(stored.notes, fresh.notes);
}

#[test]
fn banks_are_the_memory_nodes_without_what_is_withheld() {
    let board = read(POOLS).expect("a blob").board;
    assert_eq!(board.name.as_deref(), Some("Pools, a test board"));
    assert_eq!(
        board.banks_text(),
        "32704K@0x80010000;991M@0x82100000;1G@0x800000000;256M@0x900000000"
    );
    assert_eq!(board.growth, Growth::Down);
}

#[test]
fn regions_are_the_pools_and_what_devices_refer_to() {
    let board = read(POOLS).expect("a blob").board;
    let regions = board.regions.iter().map(|r| (r.name.as_str(), r.size, r.no_map));
    assert_eq!(
        regions.collect::<Vec<_>>(),
        [
            ("linux-cma", 128 << 20, false),
            ("firmware", 1 << 20, true),
            ("frames", 32 << 20, false),
            ("dma-buffers", 1 << 20, true),
            ("vring-83000000", 32 << 10, true),
            ("vring-83008000", 32 << 10, true),
            ("vring-83008000.2", 32 << 10, true),
        ]
    );
    let places: Vec<_> = board.regions.iter().map(|r| r.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "@0x80000000-0xc0000000",
            "@0x81000000",
            "@0x90000000-0xa0000000",
            "",
            "@0x83000000",
            "@0x83008000",
            "@0x83020000",
        ]
    );
    assert_eq!(board.regions[0].alignment, Some(4 << 20));
    assert_eq!(board.regions[3].place, Place::Anywhere);
}

#[test]
fn the_map_has_the_names_of_nodes_and_aliases_and_the_default_pool_last() {
    let read = read(POOLS).expect("a blob");
    assert_eq!(
        read.board.map_text(),
        "video-codec@1000/fw,video0/fw=firmware;\
         video-codec@1000/frames,video0/frames=frames;\
         camera@3000=frames,dma-buffers;\
         soc:core0:dsp=vring-83000000;\
         soc:core1:dsp=vring-83008000,vring-83008000.2;\
         *=linux-cma"
    );
    let at = read.map.text().find("camera").expect("a rule");
    assert_eq!(read.map.origin(&(at..at + 1)), Origin::Node("/soc/camera@3000".into()));
}

#[test]
fn notes_name_the_nodes_and_what_is_not_taken_over() {
    let read = read(POOLS).expect("a blob");
    assert_eq!(
        notes(&read),
        [
            "/reserved-memory/frames: alloc-ranges: the region lies within the first range, \
             0x90000000+0x10000000; a window is one range, so these are not tried: \
             0x800000000+0x10000000",
            "/reserved-memory: disabled, so left out: spare@84000000",
            "/reserved-memory: withheld from the banks, because they are no shared-dma-pool and \
             no memory-region refers to them: secure@82000000 (0x82000000+0x100000)",
            "/reserved-memory: regions with another name than their node, because names of \
             regions are unique and have no , and no @: linux,cma as linux-cma, vring@83000000 \
             as vring-83000000, vring@83008000 as vring-83008000, vring@83008000 as \
             vring-83008000.2",
            "/: devices with another name than their node, because names of devices are unique \
             here and have no ,: /soc/core0/dsp as soc:core0:dsp, /soc/core1/dsp as soc:core1:dsp",
            "/chosen: bootargs are not read: cma=64M",
        ]
    );
}

#[test]
fn addresses_and_sizes_have_the_words_that_the_node_above_states() {
    for (address, size, reg) in [
        (1, 1, "<0x80000000 0x40000000>"),
        (2, 1, "<0 0x80000000 0x40000000>"),
        (1, 2, "<0x80000000 0 0x40000000>"),
        (2, 2, "<0 0x80000000 0 0x40000000>"),
    ] {
        let source = format!(
            "/dts-v1/; / {{ #address-cells = <{address}>; #size-cells = <{size}>;
                memory {{ device_type = \"memory\"; reg = {reg}; }}; }};"
        );
        let Some(read) = board_of(&source) else { return };
        assert_eq!(read.board.banks_text(), "1G@0x80000000", "{source}");
    }
}

#[test]
fn a_tree_that_leaves_the_memory_to_the_boot_loader_has_no_banks_and_a_note_says_so() {
    let source = "/dts-v1/; / { memory@0 { device_type = \"memory\"; reg = <0 0 0>; }; };";
    let Some(read) = board_of(source) else { return };
    assert!(read.board.banks.is_empty());
    assert_eq!(notes(&read), ["/memory@0: no size: a boot loader states it"]);
    assert!(read.notes[0].remedy.as_ref().is_some_and(|remedy| remedy.contains("--banks")));
}

#[test]
fn what_is_withheld_is_taken_from_banks_that_the_user_states() {
    let source = "/dts-v1/; /memreserve/ 0x80000800 0x10; / {
        memory@80000000 { device_type = \"memory\"; reg = <0 0x80000000 0>; };
        reserved-memory { #address-cells = <1>; #size-cells = <1>; ranges;
            secure@80100000 { reg = <0x80100000 0x100000>; };
            pool@80200000 { compatible = \"shared-dma-pool\"; reg = <0x80200000 0x100000>; };
        }; };";
    let Some(mut read) = board_of(source) else { return };
    assert!(read.board.banks.is_empty(), "a fixed region alone is not the board's memory");
    read.replace_banks(&[Bank::new(0x8000_0000, 16 << 20), Bank::new(0x8100_0000, 16 << 20)]);
    assert_eq!(read.board.banks_text(), "1020K@0x80001000;14M@0x80200000;16M@0x81000000");
}

#[test]
fn usable_memory_has_precedence_over_the_whole() {
    let source = "/dts-v1/; / { #address-cells = <1>; #size-cells = <1>;
        memory { device_type = \"memory\"; reg = <0x80000000 0x40000000>;
            linux,usable-memory = <0x90000000 0x1000000>; }; };";
    let Some(read) = board_of(source) else { return };
    assert_eq!(read.board.banks_text(), "16M@0x90000000");
}

#[test]
fn a_region_outside_the_memory_nodes_brings_its_own_bank() {
    let pool = "pool@10000000 { compatible = \"shared-dma-pool\"; reg = <0x10000000 0x10000>; };";
    let Some(read) = board_of(&tree(pool, "")) else { return };
    assert_eq!(read.board.banks_text(), "64K@0x10000000;1G@0x80000000");
    assert_eq!(
        notes(&read),
        ["/reserved-memory: not in the memory that the tree leaves, so banks of their own: \
          pool@10000000"]
    );
}

#[test]
fn parts_of_pages_are_left_out_and_noted() {
    let pools = "a@80000800 { compatible = \"shared-dma-pool\"; reg = <0x80000800 0x2000>; };
        b@80010800 { compatible = \"shared-dma-pool\"; reg = <0x80010800 0x400>; };
        c@90000800 { reg = <0x90000800 0x10>; };";
    let Some(read) = board_of(&tree(pools, "")) else { return };
    assert_eq!(read.board.regions_text(), "a=4K@0x80001000");
    assert_eq!(read.board.banks_text(), "256M@0x80000000;786428K@0x90001000");
    let notes = notes(&read);
    assert!(notes[0].contains("/a@80000800: 0x80000800+0x2000 is cut to whole pages"), "{notes:?}");
    assert!(notes[1].contains("/b@80010800: 0x80010800+0x400 has no whole page"), "{notes:?}");
}

#[test]
fn a_memory_node_with_parts_of_pages_is_cut_and_noted() {
    let source = "/dts-v1/; / { #address-cells = <1>; #size-cells = <1>;
        memory { device_type = \"memory\"; reg = <0x80000800 0x2000 0 0>; }; };";
    let Some(read) = board_of(source) else { return };
    assert_eq!(read.board.banks_text(), "4K@0x80001000");
    assert_eq!(notes(&read), ["/memory: 0x80000800+0x2000 is cut to whole pages"]);
}

#[test]
fn a_node_with_several_ranges_is_several_regions_and_noted_once() {
    let pool = "pool@10000000 { compatible = \"shared-dma-pool\";
        reg = <0x10000000 0x1000 0x20000000 0x1000>; };";
    let Some(read) = board_of(&tree(pool, "")) else { return };
    assert_eq!(read.board.regions_text(), "pool=4K@0x10000000;pool.2=4K@0x20000000");
    let notes = notes(&read);
    assert!(notes[1].ends_with(": pool@10000000 as pool.2"), "{notes:?}");
    assert!(notes[0].ends_with("so banks of their own: pool@10000000"), "{notes:?}");
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn a_reserved_node_without_reg_and_size_is_left_out_and_noted() {
    let Some(read) = board_of(&tree("empty { no-map; };", "")) else { return };
    assert_eq!(read.board.regions_text(), "");
    assert_eq!(notes(&read), ["/reserved-memory/empty: neither reg nor size: left out"]);
}

#[test]
fn only_a_reusable_mapped_pool_is_the_default_one_and_the_last_of_several() {
    let pool = |name: &str, more: &str| {
        format!(
            "{name} {{ compatible = \"shared-dma-pool\"; size = <0x100000>; linux,cma-default;
            {more} }};"
        )
    };
    let pools = [
        pool("first", "reusable;"),
        pool("second", "reusable;"),
        pool("exclusive", ""),
        pool("unmapped", "reusable; no-map;"),
    ];
    let Some(read) = board_of(&tree(&pools.concat(), "")) else { return };
    assert_eq!(read.board.map_text(), "*=second");
    let nodes: Vec<_> = read.notes.iter().map(|note| note.at.clone()).collect();
    let nodes_are = ["first", "exclusive", "unmapped"]
        .map(|name| Origin::Node(format!("/reserved-memory/{name}")));
    assert_eq!(nodes, nodes_are);
}

#[test]
fn a_reference_to_nothing_or_to_a_disabled_node_is_noted_and_the_others_count() {
    let pools = "a: a { compatible = \"shared-dma-pool\"; size = <0x100000>; };
        b: b { compatible = \"shared-dma-pool\"; size = <0x100000>; status = \"disabled\"; };";
    let device = "device { memory-region = <0x99>, <&elsewhere>, <&b>, <&a>; };
        elsewhere: sram { };";
    let Some(read) = board_of(&tree(pools, device)) else { return };
    assert_eq!(read.board.map_text(), "device=a");
    assert_eq!(
        notes(&read)[..3],
        [
            "/device: memory-region: no node has the phandle 0x99",
            "/device: memory-region: /sram is no child of /reserved-memory, so no rule of the \
             map names it",
            "/device: memory-region: /reserved-memory/b is disabled",
        ]
    );
}

#[test]
fn references_behind_the_named_ones_are_for_every_type() {
    let pools = "a: a { compatible = \"shared-dma-pool\"; size = <0x100000>; };
        b: b { compatible = \"shared-dma-pool\"; size = <0x100000>; };
        c: c { compatible = \"shared-dma-pool\"; size = <0x100000>; };";
    let device = "codec { memory-region = <&a>, <&b>, <&a>, <&c>;
        memory-region-names = \"in,put\", \"out\", \"in,put\"; };";
    let Some(read) = board_of(&tree(pools, device)) else { return };
    assert_eq!(read.board.map_text(), "codec/in-put=a,a;codec/out=b;codec=c");
}

#[test]
fn names_that_become_equal_are_told_apart() {
    let pool =
        |name: &str| format!("{name} {{ compatible = \"shared-dma-pool\"; size = <4096>; }};");
    let pools: String = ["x,y", "x-y", "x-y.2", "z@1", "z@2", "z-1"].map(pool).concat();
    let Some(read) = board_of(&tree(&pools, "")) else { return };
    let names: Vec<_> = read.board.regions.iter().map(|region| &region.name[..]).collect();
    assert_eq!(names, ["x-y", "x-y.3", "x-y.2", "z-1", "z-2", "z-1.2"]);
}

#[test]
fn the_example_is_its_source_compiled() {
    let source = include_str!("../../../platforms/examples/camera-board.dts");
    let Some(compiled) = compiled(source) else { return };
    let example = include_bytes!("../../../platforms/examples/camera-board.dtb");
    let (stored, fresh) = (read(example).expect("a blob"), read(&compiled).expect("a blob"));
    assert_eq!((stored.board, stored.notes), (fresh.board, fresh.notes));
}

#[test]
fn a_property_that_contradicts_itself_is_an_error_with_the_path_of_its_node() {
    for (properties, message) in [
        ("size = <0>;", "size: a region of 0 bytes"),
        ("size = <0x100000>; alignment = <0x1800>;", "alignment: 0x1800 bytes, no power of two"),
        ("size = <0x100000 1 2>;", "size: 12 bytes, no multiple of 4"),
        ("reg = <0x80000000>;", "reg: 4 bytes, no multiple of 8"),
        (
            "size = <0x1000>; alloc-ranges = <0x80000000 0>;",
            "alloc-ranges: 0x80000000+0x0 is no range of addresses",
        ),
    ] {
        let pool = format!("pool {{ compatible = \"shared-dma-pool\"; {properties} }};");
        let Some(blob) = compiled(&tree(&pool, "")) else { return };
        let error = read(&blob).expect_err(properties);
        assert_eq!(error.0.at, Origin::Node("/reserved-memory/pool".into()), "{error}");
        assert!(error.to_string().contains(message), "{properties}: {error}");
        assert!(error.0.remedy.is_some(), "{properties}: {error}");
    }
}

#[test]
fn a_file_that_is_no_blob_or_cut_is_refused_with_a_remedy() {
    for (file, message) in [
        (&b"/dts-v1/;"[..], "no device-tree blob"),
        (&[], "no device-tree blob"),
        (&POOLS[..30], "the file ends after 30 bytes"),
        (&POOLS[..POOLS.len() - 1], "the file ends after"),
    ] {
        let error = read(file).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.0.remedy.is_some());
    }
}

#[test]
fn bytes_behind_a_blob_are_not_read() {
    let padded = [POOLS, &[0xff; 64]].concat();
    assert_eq!(read(&padded).expect("a blob").board, read(POOLS).expect("a blob").board);
}

#[test]
fn no_changed_byte_of_a_blob_is_followed_by_a_panic() {
    for at in 0..POOLS.len() {
        for change in [0xff, 1 << (at % 8)] {
            let mut blob = POOLS.to_vec();
            blob[at] ^= change;
            if let Err(error) = read(&blob) {
                assert!(!error.to_string().contains(char::is_control), "{error}");
            }
        }
    }
}

#[test]
fn a_blob_whose_parts_are_in_no_order_is_damaged_where_that_shows() {
    let root = Open("");
    let deep: Vec<_> = [root].into_iter().chain([Open("a"); 64]).chain([Close; 65]).collect();
    let long = "n".repeat(250);
    let path: Vec<_> = [root].into_iter().chain([Open(&long); 5]).chain([Close; 6]).collect();
    let too_long = "n".repeat(256);
    for (tokens, node, message) in [
        (&deep[..], "/a/a", "more than 64 nodes within each other"),
        (&path, "/n", "a path of more than 1,024 bytes"),
        (&[root, Open(&too_long), Close, Close], "/", "a node has no valid name"),
        (&[root, Open("a b"), Close, Close], "/", "a node has no valid name"),
        (&[root, Open("@1"), Close, Close], "/", "a node has no valid name"),
        (&[root, Open(""), Close, Close], "/", "only the root, and it alone, has an empty name"),
        (&[Open("a"), Close], "", "only the root, and it alone, has an empty name"),
        (&[root, Open("a"), Close, Property("p"), Close], "/", "a property stands behind a child"),
        (&[root, Property(""), Close], "/", "a property has no valid name"),
        (&[root, Property("p q"), Close], "/", "a property has no valid name"),
        (&[root, Word(3), Word(0), Word(99), Close], "/", "a property has no valid name"),
        (
            &[root, Open("a"), Property("p"), Word(3), Word(64), Word(0), Close, Close],
            "/a",
            "a property is cut off",
        ),
        (&[root, Word(3)], "/", "a property is cut off"),
        (&[root, Word(7), Close], "/", "an unknown token"),
        (&[root, Open("a"), Close], "/", "an unknown token"),
        (&[root, Close, Close], "", "the structure block doesn't end behind the root"),
        (&[Close], "", "no root node"),
        (&[Word(4), root, Close], "", "no root node"),
    ] {
        let error = read(&assembled(tokens)).expect_err(message);
        assert!(error.0.message.ends_with(message), "{error}, not: {message}");
        match &error.0.at {
            Origin::Node(path) => assert!(!node.is_empty() && path.starts_with(node), "{error}"),
            at => assert!(node.is_empty(), "{at:?}: {error}"),
        }
    }
    let nops = [root, Word(4), Property("p"), Word(4), Open("a"), Word(4), Close, Word(4), Close];
    assert!(read(&assembled(&nops)).is_ok());
}

#[test]
fn a_header_that_contradicts_the_blob_is_refused() {
    let blob = assembled(&[Open(""), Property("p"), Close]);
    let changed = |at: usize, to: u32| {
        let mut blob = blob.clone();
        blob[at..at + 4].copy_from_slice(&to.to_be_bytes());
        blob
    };
    for (at, to, message) in [
        (8, 57, "the structure block doesn't start at a multiple of 4"),
        (8, 4096, "the header places a block outside the blob"),
        (36, u32::MAX, "the header places a block outside the blob"),
        (12, u32::MAX, "the header places a block outside the blob"),
        (32, 4096, "the header places a block outside the blob"),
        (16, 4096, "the list of reserved ranges has no end"),
        (20, 16, "a blob of version 16, for readers of version 16 and later; version 17 is read"),
        (24, 18, "a blob of version 17, for readers of version 18 and later; version 17 is read"),
        (36, 8, "the structure block ends here"),
    ] {
        let error = read(&changed(at, to)).expect_err(message);
        assert!(error.0.message.ends_with(message), "{error}, not: {message}");
    }
    let large = [changed(4, 3 << 20), vec![0; 3 << 20]].concat();
    let error = read(&large).expect_err("a large blob");
    assert_eq!(error.0.message, "a blob of 3145728 bytes; at most 2097152 are read");
}

#[test]
fn a_device_without_a_type_name_is_served_last() {
    let pools = "a: a { compatible = \"shared-dma-pool\"; size = <0x100000>; };
        b: b { compatible = \"shared-dma-pool\"; size = <0x100000>; };";
    let device = "codec { memory-region = <&a>, <&b>; memory-region-names = \"\", \"out\"; };";
    let Some(read) = board_of(&tree(pools, device)) else { return };
    assert_eq!(read.board.map_text(), "codec/out=b;codec=a");
}

#[test]
fn an_alias_that_is_the_name_of_another_device_is_no_name_of_this_one() {
    let pools = "a: a { compatible = \"shared-dma-pool\"; size = <0x100000>; };
        b: b { compatible = \"shared-dma-pool\"; size = <0x100000>; };";
    let devices = "aliases { video0 = \"/codec\"; tv = \"/codec\"; };
        codec { memory-region = <&a>; };
        tv { memory-region = <&b>; };";
    let Some(read) = board_of(&tree(pools, devices)) else { return };
    assert_eq!(read.board.map_text(), "codec,video0=a;tv=b");
}

#[test]
fn an_alignment_of_0_is_none_and_address_0_is_withheld() {
    let pools = "a { compatible = \"shared-dma-pool\"; size = <0x100000>; alignment = <0>; };
        b@0 { compatible = \"shared-dma-pool\"; reg = <0 0x1000>; };";
    let memory = "memory@0 { device_type = \"memory\"; reg = <0 0x100000>; };";
    let Some(read) = board_of(&tree(pools, memory)) else { return };
    assert_eq!(read.board.regions_text(), "a=1M");
    assert_eq!(read.board.banks_text(), "1020K@0x1000;1G@0x80000000");
    assert_eq!(
        notes(&read),
        ["/reserved-memory/b@0: 0x0+0x1000 is withheld: a region can't start at address 0"]
    );
}

#[test]
fn banks_that_touch_or_overlap_are_one() {
    let memory = "memory@c0000000 { device_type = \"memory\"; reg = <0xc0000000 0x1000000>; };
        memory@c0800000 { device_type = \"memory\"; reg = <0xc0800000 0x1000000>; };";
    let Some(read) = board_of(&tree("", memory)) else { return };
    assert_eq!(read.board.banks_text(), "1048M@0x80000000");
}

#[test]
fn a_map_that_a_small_blob_makes_endless_is_refused() {
    let ranges: String =
        (0..2000).map(|n| format!(" {:#x} 0x1000", 0x9000_0000_u32 + n * 8192)).collect();
    let pool = format!("a: a {{ compatible = \"shared-dma-pool\"; reg = <{ranges}>; }};");
    let device = format!("device {{ memory-region = <{}>; }};", "&a ".repeat(200));
    let Some(blob) = compiled(&tree(&pool, &device)) else { return };
    let error = read(&blob).expect_err("a long map");
    assert_eq!(error.to_string(), "/device: the regions of memory-region make a map of over 1 MiB");
}
