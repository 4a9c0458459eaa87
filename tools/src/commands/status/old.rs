//! The files of the Go daemon in a stack's folder.

use crate::old_files::{Count, OldFiles, stack_folder};
use gridctl_telemetry::home::default_home;
use serde::Serialize;
use std::{
    fmt::{self, Write as _},
    path::Path,
};

/// The files of the Go daemon in a stack's folder, and the command that imports them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Old {
    stack: String,
    #[serde(flatten)]
    count: Count,
    import_command: String,
}

impl Old {
    pub(super) fn find(home: &Path, stack: &str) -> anyhow::Result<Option<Old>> {
        let count = OldFiles::find(home, stack, &[], None)?.total();
        if count.files == 0 {
            return Ok(None);
        }
        let mut import_command = String::from("gridctl-telemetry");
        let is_default = default_home().is_ok_and(|default| default == home);
        if let (false, Some(user_home)) = (is_default, home.parent()) {
            let _ = write!(
                import_command,
                " --home {}",
                shell_word(&user_home.display())
            );
        }
        let folder = stack_folder(home, stack);
        let _ = write!(
            import_command,
            " import-jsonl {} {}",
            shell_word(&stack),
            shell_word(&folder.display())
        );
        Ok(Some(Old {
            stack: stack.to_owned(),
            count,
            import_command,
        }))
    }
}

impl fmt::Display for Old {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: `{}` stores their records, each once, and `wipe` deletes these files too",
            self.stack, self.count, self.import_command
        )
    }
}

/// A word of a command line.
fn shell_word(word: &impl ToString) -> String {
    let word = word.to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
