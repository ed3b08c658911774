//! Files that are refused before anything in them runs, each for its own reason.

use crate::support::{c_library, chmod, dir, hand_plugin, is_root, load, refusal, write};
use nix::unistd::{Uid, chown};
use std::os::unix::fs::symlink;
use std::path::Path;

fn check(file: &Path, reason: &str) {
    let refusal = refusal(file);
    assert!(refusal.reason.contains(reason), "{refusal}");
    assert_eq!(refusal.name, None);
}

#[test]
fn what_is_no_library() {
    let dir = dir();
    check(&write(dir.path(), "empty.so", b""), "it is empty");
    check(
        &write(dir.path(), "text.so", b"#!/bin/sh\necho hello\n"),
        "it is a text",
    );
    let garbage: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    check(&write(dir.path(), "garbage.so", &garbage), "no ELF header");
    check(&write(dir.path(), "zeros.so", &[0; 4096]), "no ELF header");
    check(&write(dir.path(), "start.so", b"\x7fELF"), "damaged or cut short");
    check(
        &write(dir.path(), "README", b"plugins live here"),
        "does not end in .so",
    );
    check(&dir.path().join("nothing.so"), "No such file");
    std::fs::create_dir(dir.path().join("dir.so")).unwrap();
    check(&dir.path().join("dir.so"), "it is a directory");
    check(&dir.path().join("dir.so/x.so"), "No such file");
    nix::unistd::mkfifo(&dir.path().join("pipe.so"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    check(&dir.path().join("pipe.so"), "not a regular file");
    check(&write(dir.path(), "file.so", b"x").join("x.so"), "Not a directory");
    check(Path::new("relative.so"), "not absolute");
    check(Path::new("/"), "does not end in .so");
}

#[test]
fn a_program_is_not_a_library_of_ours() {
    let dir = dir();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    check(&write(dir.path(), "program.so", &program), "not a vwatchd plugin");
    let mut relocatable = hand_plugin();
    relocatable[16] = 1;
    check(&write(dir.path(), "object.so", &relocatable), "not a shared library");
}

#[test]
fn a_library_of_the_system_is_no_plugin() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
    let dir = dir();
    check(
        &write(dir.path(), "libc.so", &std::fs::read(libc).unwrap()),
        "a library, but not a vwatchd plugin",
    );
}

#[test]
fn a_library_of_another_machine() {
    let dir = dir();
    let good = hand_plugin();
    let mut other = good.clone();
    // e_machine: SPARC V9, which is none of those that vwatchd runs on.
    other[18..20].copy_from_slice(&43u16.to_ne_bytes());
    check(&write(dir.path(), "sparc.so", &other), "built for machine number 43");
    let mut narrow = good.clone();
    narrow[4] = 1;
    check(&write(dir.path(), "narrow.so", &narrow), "32-bit");
    let mut turned = good;
    turned[5] = 3 - turned[5];
    check(&write(dir.path(), "turned.so", &turned), "built for");
}

#[test]
fn a_plugin_of_another_abi_version() {
    let dir = dir();
    let source = "const char vwatch_plugin_abi_v7[20] = \"vwatch plugin\";\n";
    let Some(library) = c_library(dir.path(), "newer", source) else {
        return;
    };
    let refusal = refusal(&library);
    assert_eq!(refusal.reason, "it is built for plugin ABI v7; this daemon speaks v1");
    assert!(refusal.hint.contains("update vwatchd"), "{refusal}");
}

#[test]
fn a_mark_that_is_only_asked_for_is_none() {
    let dir = dir();
    let source = "extern const char vwatch_plugin_abi_v1[]; const char *f(void) { return vwatch_plugin_abi_v1; }\n";
    let Some(library) = c_library(dir.path(), "asks", source) else {
        return;
    };
    check(&library, "not a vwatchd plugin");
}

#[test]
fn a_file_that_others_can_write() {
    let dir = dir();
    let file = write(dir.path(), "p.so", &hand_plugin());
    chmod(&file, 0o646);
    let world = refusal(&file);
    assert!(world.reason.ends_with("p.so can be written by everybody"), "{world}");
    assert_eq!(world.hint, format!("chmod go-w {}", file.display()));
    chmod(&file, 0o664);
    check(&file, "can be written by its group");
    chmod(&file, 0o644);
    load(&file).expect("the mend");
}

#[test]
fn a_directory_that_others_can_write() {
    let dir = dir();
    let (outer, inner) = (dir.path().join("outer"), dir.path().join("outer/inner"));
    std::fs::create_dir_all(&inner).unwrap();
    let file = write(&inner, "p.so", &hand_plugin());
    chmod(&outer, 0o777);
    let refused = refusal(&file);
    assert_eq!(
        refused.reason,
        format!("directory {} can be written by everybody", outer.display())
    );
    assert_eq!(refused.hint, format!("chmod go-w {}", outer.display()));
    // Sticky: others cannot move what is not theirs.
    chmod(&outer, 0o1777);
    load(&file).expect("a sticky directory");
    chmod(&outer, 0o775);
    check(&file, "can be written by its group");
}

#[test]
fn a_file_or_directory_of_somebody_else() {
    if !is_root("a_file_or_directory_of_somebody_else") {
        return;
    }
    let nobody = Some(Uid::from_raw(65534));
    let dir = dir();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let file = write(&inner, "p.so", &hand_plugin());
    chown(&file, nobody, None).unwrap();
    let refused = refusal(&file);
    assert_eq!(
        refused.reason,
        format!("{} belongs to user 65534, not to root", file.display())
    );
    assert_eq!(refused.hint, format!("chown -h root {}", file.display()));
    chown(&file, Some(Uid::from_raw(0)), None).unwrap();
    chown(&inner, nobody, None).unwrap();
    check(&file, "belongs to user 65534");
    chown(&inner, Some(Uid::from_raw(0)), None).unwrap();
    load(&file).expect("the mend");
    let link = dir.path().join("link.so");
    symlink(&file, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    check(&link, "symbolic link");
}

#[test]
fn links_lead_to_files_that_keep_the_rules() {
    let dir = dir();
    let (place, open) = (dir.path().join("place"), dir.path().join("open"));
    std::fs::create_dir(&place).unwrap();
    std::fs::create_dir(&open).unwrap();
    let good = write(&place, "p.so", &hand_plugin());
    write(&open, "p.so", &hand_plugin());
    chmod(&open, 0o777);
    let link = |name: &str, target: &Path| {
        let path = dir.path().join(name);
        symlink(target, &path).unwrap();
        path
    };
    load(&link("absolute.so", &good)).expect("a link to a good file");
    load(&link("relative.so", Path::new("place/../place/./p.so"))).expect("a relative link");
    let up = "../".repeat(40) + place.join("p.so").strip_prefix("/").unwrap().to_str().unwrap();
    load(&link("up.so", Path::new(&up))).expect("the parent of the root is the root");
    link("way", &place);
    load(&dir.path().join("way/p.so")).expect("a link on the way");
    check(&link("open.so", &open.join("p.so")), "can be written by everybody");
    check(
        &link("through.so", Path::new("open/../place/p.so")),
        "can be written by everybody",
    );
    check(&link("nowhere.so", Path::new("gone.so")), "No such file");
    check(&link("loop.so", Path::new("loop.so")), "symbolic links");
    check(&link("device.so", Path::new("/dev/zero")), "not a regular file");
    chmod(&good, 0o666);
    check(&dir.path().join("absolute.so"), "can be written by everybody");
}
