//! A chunk as the memory of a virtual machine.

use crate::installed::cma;
use crate::machine::skipped;
use crate::program::{LIMIT, Running, installed};
use crate::server::Server;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;
const SECTOR: usize = 512;
/// Where a PC's firmware loads the boot sector.
const BOOT: usize = 0x7c00;
/// Where the owner writes for the guest.
const OWNER: usize = 0x0200_0000;
/// Where the guest answers.
const GUEST: usize = 0x0240_0000;
const LEN: usize = 4096;
/// The guest's answer to each byte.
const KEY: u8 = 0x5a;
/// What the guest writes to the port of `isa-debug-exit`, which ends QEMU with `2 * EXIT + 1`.
const EXIT: u8 = 0x10;

/// The boot sector: it enters protected mode, copies the owner's bytes, each XOR [`KEY`], to the
/// guest's place, and ends the machine.
fn boot_sector() -> Vec<u8> {
    const CODE_32: u16 = 0x7c20;
    const TABLE: u16 = 0x7c60;
    const POINTER: u16 = 0x7c80;
    let mut sector = vec![0; SECTOR];
    let mut place = |at: u16, parts: &[&[u8]]| {
        let at = usize::from(at) - BOOT;
        let bytes = parts.concat();
        sector[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    // 16 bits.
    place(
        0x7c00,
        &[
            &[0xfa],             // cli
            &[0x31, 0xc0],       // xor ax, ax
            &[0x8e, 0xd8],       // mov ds, ax
            &[0x0f, 0x01, 0x16], // lgdt [POINTER]
            &POINTER.to_le_bytes(),
            &[0x0f, 0x20, 0xc0], // mov eax, cr0
            &[0x0c, 0x01],       // or al, 1: protected mode
            &[0x0f, 0x22, 0xc0], // mov cr0, eax
            &[0xea],             // jmp 0x08:CODE_32
            &CODE_32.to_le_bytes(),
            &[0x08, 0x00],
        ],
    );
    // 32 bits.
    place(
        CODE_32,
        &[
            &[0x66, 0xb8, 0x10, 0x00], // mov ax, 0x10
            &[0x8e, 0xd8],             // mov ds, ax
            &[0x8e, 0xc0],             // mov es, ax
            &[0xfc],                   // cld
            &[0xbe],                   // mov esi, OWNER
            &(OWNER as u32).to_le_bytes(),
            &[0xbf], // mov edi, GUEST
            &(GUEST as u32).to_le_bytes(),
            &[0xb9], // mov ecx, LEN
            &(LEN as u32).to_le_bytes(),
            &[0xac],       // next: lodsb
            &[0x34, KEY],  // xor al, KEY
            &[0xaa],       // stosb
            &[0xe2, 0xfa], // loop next
            &[0xb0, EXIT], // mov al, EXIT
            &[0xe6, 0xf4], // out 0xf4, al
            &[0xf4],       // hlt
            &[0xeb, 0xfd], // jmp to hlt
        ],
    );
    // Segments of 4 GiB from 0: none, code, data. The processor would set the bit that says that
    // they were used.
    place(
        TABLE,
        &[&[0; 8], &[0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0], &[0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0]],
    );
    place(POINTER, &[&23_u16.to_le_bytes(), &u32::from(TABLE).to_le_bytes()]);
    sector[SECTOR - 2..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// What the owner writes for the guest.
fn question() -> Vec<u8> {
    (0..LEN).map(|at| (at * 13 + at / 256) as u8).collect()
}

/// Boots the machine with a chunk of `cma exec` as its memory, and checks that guest and owner see
/// the same bytes. The error says why the guest did not end the machine.
fn boot(qemu: &Path, of: &[&str], accelerator: &str, disk: &Path) -> Result<(), String> {
    let limit = Duration::from_secs(if accelerator == "kvm" { 20 } else { 60 });
    let drive = format!("file={},format=raw,if=ide,readonly=off", disk.display());
    let mut exec = cma();
    exec.arg("exec").args(of).args(["--chunk", "ram=vm/64M/2M", "--wait", "30s"]);
    exec.args(["--", "sh", "-c"]);
    // The owner has the chunk open before QEMU begins in the shell's place.
    exec.arg("echo chunk /proc/$$/fd/{ram.fd} 0 {ram.size}; read line; exec \"$0\" \"$@\"");
    let memory = "memory-backend-file,id=ram,size={ram.size},share=on,mem-path={ram.path}";
    exec.arg(qemu)
        .args(["-M", "pc,memory-backend=ram", "-m", "64M", "-object", memory, "-drive", &drive])
        .args(["-accel", accelerator, "-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
    let mut machine = Running::start(&mut exec);
    let chunk = machine.chunk();
    chunk.write(OWNER, &question());
    machine.say("written");

    // A command that hosts the chunk itself waits for this process, which has it.
    let (begun, qemu) = (Instant::now(), chunk.process());
    while qemu.exists() && !machine.has_ended() && begun.elapsed() < limit {
        sleep(Duration::from_millis(20));
    }
    let patience = if begun.elapsed() < limit { LIMIT } else { Duration::ZERO };
    let (question, answer) = (chunk.read(OWNER, LEN), chunk.read(GUEST, LEN));
    let loaded = chunk.read(BOOT, SECTOR);
    drop(chunk);
    match machine.ended(patience) {
        Some((status, _)) if status.code() == Some(i32::from(EXIT) * 2 + 1) => {}
        Some((status, errors)) => return Err(format!("{status}: {errors}")),
        None => return Err(format!("it does not end within {} s", limit.as_secs())),
    }
    assert!(question == self::question(), "the owner's bytes have changed");
    let expected: Vec<u8> = question.iter().map(|byte| byte ^ KEY).collect();
    assert!(answer == expected, "the guest's answer is not in the chunk");
    // What the firmware loaded lies in the chunk, too.
    assert!(loaded == boot_sector(), "the boot sector is not in the chunk");
    Ok(())
}

/// A chunk of `cma exec` with these arguments is a guest's memory.
fn is_memory_of_a_guest(qemu: &Path, of: &[&str], label: &str) {
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{label}.img"));
    fs::write(&disk, [&boot_sector()[..], &[0; 2047 * SECTOR]].concat()).unwrap();
    // In a virtual machine, KVM may be there and not boot.
    let by_kvm = match Path::new("/dev/kvm").exists() {
        true => boot(qemu, of, "kvm", &disk),
        false => Err("there is no /dev/kvm".to_string()),
    };
    if let Err(why) = by_kvm {
        skipped(&format!("QEMU with KVM: {}; TCG is tried instead", why.trim()));
        boot(qemu, of, "tcg", &disk).unwrap();
    }
    fs::remove_file(disk).unwrap();
}

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn a_chunk_of_ordinary_memory_is_the_memory_of_a_guest_of_qemu() {
    if let Some(qemu) = installed("qemu-system-x86_64") {
        // The command hosts the memory itself.
        is_memory_of_a_guest(&qemu, &["--cma", "b1=64M", "--map", "*=b1"], "memfd");
    }
}

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn a_chunk_of_huge_pages_is_the_memory_of_a_guest_of_qemu() {
    let Some(qemu) = installed("qemu-system-x86_64") else { return };
    if let Some(server) = Server::of_huge_pages(SIZE) {
        let socket = server.socket().display().to_string();
        is_memory_of_a_guest(&qemu, &["--socket", &socket], "hugetlb");
        server.end();
    }
}
