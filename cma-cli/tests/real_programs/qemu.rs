//! A chunk as the memory of a virtual machine.

use crate::installed::cma;
use crate::machine::skipped;
use crate::program::{LIMIT, Running, installed};
use crate::seen::Seen;
use crate::server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
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
/// What the guest writes to the port of `isa-debug-exit`, which ends QEMU with [`ENDED`].
const EXIT: u8 = 0x10;
const ENDED: i32 = EXIT as i32 * 2 + 1;
/// The offset of the byte that was answered, and of the count of answers, at the guest's place.
const ASKED: u8 = 1;
const COUNT: u8 = 2;
/// The offset of the byte that ends the machine at the owner's place.
const LAST: u8 = 1;

/// The program of a guest that copies the owner's bytes, each XOR [`KEY`], to the guest's place,
/// and ends the machine. ESI and EDI are the places of owner and guest.
fn copying() -> Vec<u8> {
    [
        &[0xb9][..], // mov ecx, LEN
        &(LEN as u32).to_le_bytes(),
        &[0xac],       // next: lodsb
        &[0x34, KEY],  // xor al, KEY
        &[0xaa],       // stosb
        &[0xe2, 0xfa], // loop next
        &END,
    ]
    .concat()
}

/// The program of a guest that answers the owner's byte whenever it has changed, counts its
/// answers, and ends the machine when the owner writes behind it. At the guest's place are the
/// answer, the byte that was answered, and the count.
fn answering() -> Vec<u8> {
    [
        &[0xf3, 0x90][..],         // next: pause
        &[0x8a, 0x06],             // mov al, [esi]
        &[0x3a, 0x47, ASKED],      // cmp al, [edi + ASKED]
        &[0x74, 0x0a],             // je no_other
        &[0x88, 0x47, ASKED],      // mov [edi + ASKED], al
        &[0xfe, 0x47, COUNT],      // inc byte [edi + COUNT]
        &[0x34, KEY],              // xor al, KEY
        &[0x88, 0x07],             // mov [edi], al
        &[0x80, 0x7e, LAST, 0x00], // no_other: cmp byte [esi + LAST], 0
        &[0x74, 0xe7],             // je next
        &END,
    ]
    .concat()
}

/// Ends the machine.
const END: [u8; 7] = [
    0xb0, EXIT, // mov al, EXIT
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to hlt
];

/// A boot sector: it enters protected mode, and runs the program.
fn boot_sector(program: &[u8]) -> Vec<u8> {
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
            program,
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

/// A disk that boots a program. Dropping removes it.
struct Disk {
    path: PathBuf,
    sector: Vec<u8>,
}

impl Disk {
    fn of(label: &str, program: &[u8]) -> Disk {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{label}.img"));
        let sector = boot_sector(program);
        fs::write(&path, [&sector[..], &[0; 2047 * SECTOR]].concat()).unwrap();
        Disk { path, sector }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What runs a guest of QEMU fastest here. In a virtual machine, KVM may be there and not boot.
fn accelerator(qemu: &Path) -> &'static str {
    static FOUND: OnceLock<&str> = OnceLock::new();
    FOUND.get_or_init(|| {
        let disk = Disk::of("kvm", &copying());
        let why = if Path::new("/dev/kvm").exists() {
            let mut command = Command::new(qemu);
            let mut machine = Running::start(command.args(arguments("pc", "kvm", &disk)));
            match machine.ended(Duration::from_secs(10)) {
                Some((status, _)) if status.code() == Some(ENDED) => return "kvm",
                Some((status, errors)) => format!("{status}: {}", errors.trim()),
                None => "it does not boot within 10 s".to_string(),
            }
        } else {
            "there is no /dev/kvm".to_string()
        };
        skipped(&format!("QEMU with KVM: {why}; TCG is used instead"));
        "tcg"
    })
}

/// The arguments of a machine of 64 MiB.
fn arguments(machine: &str, accelerator: &str, disk: &Disk) -> Vec<String> {
    let drive = format!("file={},format=raw,if=ide,readonly=off", disk.path.display());
    let device = "isa-debug-exit,iobase=0xf4,iosize=1";
    ["-M", machine, "-m", "64M", "-accel", accelerator, "-drive", &drive, "-device", device]
        .into_iter()
        .chain(["-display", "none", "-nodefaults", "-no-reboot"])
        .map(str::to_string)
        .collect()
}

/// A machine whose memory is a chunk of `cma exec` with these arguments, and the chunk. It boots
/// when the owner says `boot`.
fn machine(qemu: &Path, of: &[&str], disk: &Disk) -> (Running, Seen) {
    let mut exec = cma();
    exec.arg("exec").args(of).args(["--chunk", "ram=vm/64M/2M", "--wait", "30s"]);
    exec.args(["--", "sh", "-c"]);
    // The owner has the chunk open before QEMU begins in the shell's place.
    exec.arg("echo chunk /proc/$$/fd/{ram.fd} 0 {ram.size}; read line; exec \"$0\" \"$@\"");
    let memory = "memory-backend-file,id=ram,size={ram.size},share=on,mem-path={ram.path}";
    exec.arg(qemu).args(["-object", memory]);
    exec.args(arguments("pc,memory-backend=ram", accelerator(qemu), disk));
    let mut machine = Running::start(&mut exec);
    let chunk = machine.chunk();
    (machine, chunk)
}

/// Waits until the guest has ended the machine.
fn until_ended(machine: &mut Running, chunk: &Seen) {
    // A command that hosts the chunk itself waits for this process, which has it.
    let (begun, qemu) = (Instant::now(), chunk.process());
    while qemu.exists() && !machine.has_ended() {
        assert!(begun.elapsed() < LIMIT, "the guest does not end the machine within {LIMIT:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Checks that it was the guest that ended the machine.
fn ended_by_guest(mut machine: Running) {
    let (status, errors) = machine.ended(LIMIT).expect("the command ends after the machine");
    assert_eq!(status.code(), Some(ENDED), "{status}: {errors}");
}

/// A chunk of `cma exec` with these arguments is a guest's memory: guest and owner see the same
/// bytes.
fn is_memory_of_a_guest(qemu: &Path, of: &[&str], label: &str) {
    let disk = Disk::of(label, &copying());
    let (mut machine, chunk) = machine(qemu, of, &disk);
    chunk.write(OWNER, &question());
    machine.say("boot");
    until_ended(&mut machine, &chunk);
    let (question, answer) = (chunk.read(OWNER, LEN), chunk.read(GUEST, LEN));
    let loaded = chunk.read(BOOT, SECTOR);
    drop(chunk);
    ended_by_guest(machine);
    assert!(question == self::question(), "the owner's bytes have changed");
    let expected: Vec<u8> = question.iter().map(|byte| byte ^ KEY).collect();
    assert!(answer == expected, "the guest's answer is not in the chunk");
    // What the firmware loaded lies in the chunk, too.
    assert!(loaded == disk.sector, "the boot sector is not in the chunk");
}

/// A guest whose memory is a chunk of that server answers after each death and each upgrade of the
/// server.
fn runs_on(qemu: &Path, mut server: Server, label: &str) {
    let disk = Disk::of(label, &answering());
    let socket = server.socket().display().to_string();
    let (mut machine, chunk) = machine(qemu, &["--socket", &socket], &disk);
    machine.say("boot");
    let place = server.owners();
    for number in 1..=13 {
        chunk.write(OWNER, &[number]);
        let begun = Instant::now();
        while chunk.read(GUEST, 1) != [number ^ KEY] {
            assert!(begun.elapsed() < LIMIT, "the guest does not answer question {number}");
            sleep(Duration::from_millis(5));
        }
        // It was never started anew.
        assert_eq!(chunk.read(GUEST + usize::from(COUNT), 1), [number]);
        match number {
            4 | 9 => server.upgrade(),
            13 => {}
            _ => server.kill(),
        }
        assert_eq!(server.owners(), place);
    }
    assert_eq!(server.deaths(), 10);
    chunk.write(OWNER + usize::from(LAST), &[1]);
    until_ended(&mut machine, &chunk);
    drop(chunk);
    ended_by_guest(machine);
    server.end();
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

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn a_guest_of_qemu_in_ordinary_memory_runs_on_through_deaths_and_upgrades_of_the_server() {
    if let Some(qemu) = installed("qemu-system-x86_64") {
        runs_on(&qemu, Server::kept_of_memfd(SIZE), "memfd-kept");
    }
}

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn a_guest_of_qemu_in_huge_pages_runs_on_through_deaths_and_upgrades_of_the_server() {
    let Some(qemu) = installed("qemu-system-x86_64") else { return };
    if let Some(server) = Server::kept_of_huge_pages(SIZE) {
        runs_on(&qemu, server, "hugetlb-kept");
    }
}
