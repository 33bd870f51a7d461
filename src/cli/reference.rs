//! `docs/cli.md`, made of the commands' own help.

use std::{env, fmt::Write as _, fs, path::Path};

use clap::{Command, CommandFactory};

use super::arguments::Arguments;

/// As wide as the other documents.
const WIDTH: usize = 100;

const INTRODUCTION: &str = "\
<!-- Made of the commands' help. To renew: UPDATE_DOCS=1 cargo test --lib cli -->

# The command line

One binary, `userpilot-gateway`, is the gateway and all that is used with it. What asks a gateway that
runs says where it is (`--address`) and, where it asks for a credential, who asks (`--token-file` or
`USERPILOT_GATEWAY_TOKEN`, or `--client-cert-file`). A token goes over `http://` to this machine alone,
unless `--plaintext-token` says so. What shows something shows a table; with `--output json` it prints a
JSON document a line, with the names of the fields in
[proto/](../proto/userpilot_gateway/v1/admin.proto), for scripts. So does what does something (`pause`,
`resume`, `flush`, `dead-letters replay` and `discard`, `user forget`); `store check`, `check-key` and
`token new` print a document of their own:

```sh
userpilot-gateway status --output json | jq '.apps[] | {app, state, pending_records}'
userpilot-gateway jobs --output json | jq -r 'select(.state == \"JOB_STATE_DELIVERED\") | .job_id'
```

`userpilot-gateway completions bash` (fish, zsh, elvish, powershell) prints a script that completes
commands and options.
";

fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut command = Arguments::command().term_width(WIDTH);
    command.build();
    section(&mut page, "", &mut command);
    page
}

/// A command, and those below it.
fn section(page: &mut String, above: &str, command: &mut Command) {
    let name = format!("{above}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let help: String = help.lines().fold(String::new(), |all, line| all + line.trim_end() + "\n");
    // Writing to a String does not fail.
    write!(page, "\n## `{name}`\n\n```text\n{help}```\n").ok();
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        section(page, &format!("{name} "), below);
    }
}

#[test]
fn the_command_line_in_docs_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/cli.md is not what the commands' help says; \
         renew it: UPDATE_DOCS=1 cargo test --lib cli"
    );
}

#[test]
fn arguments_do_not_contradict_each_other() {
    Arguments::command().debug_assert();
}
