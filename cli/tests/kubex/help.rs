//! What `--help` says, and completion.

use std::process::Command;

fn help(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_kubex")).env_clear().args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_of_all_commands() {
    for words in [
        &[][..],
        &["task"],
        &["task", "list"],
        &["task", "exec"],
        &["task", "attach"],
        &["task", "logs"],
        &["task", "kill"],
        &["task", "metrics"],
        &["task", "top"],
        &["config"],
        &["config", "set-context"],
        &["completion"],
    ] {
        let name = ["kubex"].iter().chain(words).copied().collect::<Vec<_>>().join("-");
        insta::assert_snapshot!(name, help(words));
    }
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubex")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("set-context") && script.contains("metrics"), "{shell}");
    }
}

#[test]
fn bash_takes_the_completion() {
    let script = format!(
        "set -e; source <({} completion bash); COMP_WORDS=(kubex task ex); COMP_CWORD=2; _kubex kubex ex task; echo ${{COMPREPLY[0]}}",
        env!("CARGO_BIN_EXE_kubex")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "exec\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
