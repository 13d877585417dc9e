//! What a user sees of the command line: output, messages, exit codes.

use std::process::{Command, Output};

fn mmdet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmdet")).args(args).output().expect("the binary was built with this test")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn an_unknown_command_exits_with_2_and_names_the_nearest() {
    let out = mmdet(&["module"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("modules"), "{}", stderr(&out));
}

#[test]
fn modules_of_an_unknown_name_exits_with_2() {
    let out = mmdet(&["modules", "Nonesuch"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("'Nonesuch'"), "{}", stderr(&out));
    assert!(out.stdout.is_empty());
}

#[test]
fn help_teaches_the_commands() {
    let out = mmdet(&["--help"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&out.stdout).contains("modules"));
}
