//! `kubex config`: looks at the file with contexts and changes it, its comments kept.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use clap::Subcommand;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{ConfigError, File, names, parse, path, read};
use crate::arguments::{Format, Global};
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell, Colors, Side};

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the file
    View,
    /// List the contexts
    GetContexts,
    /// Make a context the current one
    UseContext {
        /// Its name
        name: String,
    },
    /// Add a context, or change one: --server, --ca, --certificate, --key, --token-file
    SetContext {
        /// Its name
        name: String,
    },
}

/// Does it.
pub(crate) fn run(global: &Global, verb: Verb) -> Result<u8, Failure> {
    let path = path(global)?;
    let text = read(&path)?.unwrap_or_default();
    let changed = match verb {
        Verb::View => {
            output::print(format!("# {}\n{text}", path.display()).as_bytes())?;
            None
        }
        Verb::GetContexts => {
            output::print(contexts(&parse(&path, &text)?, global.output).as_bytes())?;
            None
        }
        Verb::UseContext { name } => Some(with_current(&path, &text, &name)?),
        Verb::SetContext { name } => Some(with_context(&path, &text, &name, global)?),
    };
    if let Some(changed) = changed {
        replace(&path, &changed)?;
    }
    Ok(0)
}

fn contexts(file: &File, format: Format) -> String {
    let current = file.current.as_ref().map(|current| current.get_ref().as_str());
    if format == Format::Json {
        let list: Vec<_> = file
            .context
            .iter()
            .map(|context| {
                let (name, server) = (context.name.get_ref(), context.server.get_ref());
                serde_json::json!({ "name": name, "server": server, "current": current == Some(name) })
            })
            .collect();
        return format!("{}\n", serde_json::Value::from(list));
    }
    let rows: Vec<Vec<Cell>> = file
        .context
        .iter()
        .map(|context| {
            let name = context.name.get_ref();
            let mark = if current == Some(name) { "*" } else { "" };
            vec![mark.into(), name.into(), context.server.get_ref().into()]
        })
        .collect();
    let columns = [("CURRENT", Side::Left), ("NAME", Side::Left), ("SERVER", Side::Left)];
    table::render(&columns, &rows, Colors::None)
}

fn with_current(path: &Path, text: &str, name: &str) -> Result<String, ConfigError> {
    let file = parse(path, text)?;
    if !names(&file).iter().any(|known| known == name) {
        return Err(ConfigError::NoContext {
            name: name.to_owned(),
            path: path.to_owned(),
            names: names(&file),
        });
    }
    let mut document = document(path, text)?;
    document["current"] = value(name);
    Ok(document.to_string())
}

fn with_context(path: &Path, text: &str, name: &str, global: &Global) -> Result<String, Failure> {
    let file = parse(path, text)?;
    let known = file.context.iter().position(|context| context.name.get_ref() == name);
    if known.is_none() && global.server.is_none() {
        return Err(Failure::Usage(format!("context {name:?} is new: give its --server URL, too")));
    }
    let mut document = document(path, text)?;
    let tables = document.entry("context").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let inline = || {
        Failure::Usage(format!(
            "{}: write the contexts as [[context]] tables to have them changed",
            path.display()
        ))
    };
    let tables = tables.as_array_of_tables_mut().ok_or_else(inline)?;
    let at = known.unwrap_or_else(|| {
        tables.push(Table::new());
        tables.len() - 1
    });
    let table = tables.get_mut(at).ok_or_else(inline)?;
    table["name"] = value(name);
    if let Some(server) = &global.server {
        super::server(server)?;
        table["server"] = value(server);
    }
    let files = [
        ("ca", &global.ca),
        ("certificate", &global.certificate),
        ("key", &global.key),
        ("token_file", &global.token_file),
    ];
    for (field, file) in files {
        if let Some(file) = file {
            // Flags are relative to here, the file's paths to the file.
            let whole = std::path::absolute(file).map_err(|source| ConfigError::File {
                verb: "find",
                path: file.clone(),
                source,
            })?;
            table[field] = value(whole.to_string_lossy().into_owned());
        }
    }
    Ok(document.to_string())
}

fn document(path: &Path, text: &str) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|error: toml_edit::TomlError| ConfigError::Wrong {
        path: path.to_owned(),
        line: 1,
        what: error.message().to_owned(),
    })
}

/// Writes another file and renames it, so that nobody ever sees half of one.
fn replace(path: &Path, text: &str) -> Result<(), ConfigError> {
    parse(path, text)?;
    let failed = |verb| move |source| ConfigError::File { verb, path: path.to_owned(), source };
    // A link stays one.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    let mut name = path.clone().into_os_string();
    name.push(format!(".{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&name)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&name, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&name);
    }
    written.map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    const MINE: &str =
        "# mine\ncurrent = \"b\"\n\n[[context]] # that one\nname = \"b\"\nserver = \"https://b:1\"\n";

    fn global(flags: &[&str]) -> Global {
        let line = ["kubex"].iter().chain(flags).chain(&["config", "view"]);
        crate::arguments::Kubex::try_parse_from(line).unwrap().global
    }

    #[test]
    fn a_context_is_added_then_changed_then_used_and_comments_stay() {
        let path = Path::new("c.toml");
        let flags = global(&["--server", "https://h:1", "--ca", "/ca.pem"]);
        let text = with_context(path, MINE, "a", &flags).unwrap();
        let text = with_context(path, &text, "a", &global(&["--token-file", "/t"])).unwrap();
        let text = with_current(path, &text, "a").unwrap();
        insta::assert_snapshot!(text, @r#"
        # mine
        current = "a"

        [[context]] # that one
        name = "b"
        server = "https://b:1"

        [[context]]
        name = "a"
        server = "https://h:1"
        ca = "/ca.pem"
        token_file = "/t"
        "#);
        let table = contexts(&parse(path, &text).unwrap(), Format::Table);
        assert_eq!(
            table,
            "CURRENT   NAME   SERVER\n          b      https://b:1\n*         a      https://h:1\n"
        );
    }

    #[test]
    fn a_new_context_needs_a_server_and_only_a_known_one_can_be_used() {
        let path = Path::new("c.toml");
        assert!(with_context(path, "", "a", &global(&[])).unwrap_err().to_string().contains("--server URL"));
        assert!(matches!(with_current(path, "", "a"), Err(ConfigError::NoContext { .. })));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.toml");
        replace(&path, "").unwrap();
        replace(&path, "[[context]]\nname='a'\nserver='https://h'\n").unwrap();
        assert!(replace(&path, "nonsense").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
